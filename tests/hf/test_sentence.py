"""Sentence encoders: one vector of a text, and the folders that say how it is made."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.hf.cases import all_cases, inputs
from tests.hf.test_families import write
from zoo.errors import CheckpointError

GIVEN = inputs(all_cases()["bert"])
IDS, MASK = jnp.asarray(GIVEN["input_ids"]), jnp.asarray(GIVEN["attention_mask"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trunk of BERT, as sentence-transformers keeps it."""
    write("bert", tmp_path / "theirs")
    return tmp_path / "theirs"


def list_modules(folder: Path, kinds: list[str], modes: dict[str, bool]) -> None:
    places = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    listed = [
        {"idx": i, "path": places.get(kind, "3"), "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {f"pooling_mode_{mode}": value for mode, value in modes.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def by_hand(folder: Path) -> np.ndarray:
    """The mean over the tokens that are seen."""
    hidden = np.asarray(zoo.load_pretrained(folder, head="none").hidden(IDS, MASK))
    return np.stack(
        [row[np.asarray(seen) == 1].mean(0) for row, seen in zip(hidden, MASK, strict=True)]
    )


def test_a_folder_with_mean_pooling_and_a_norm_gives_unit_vectors(folder: Path) -> None:
    expected = by_hand(folder)
    list_modules(folder, ["Transformer", "Pooling", "Normalize"], {"mean_tokens": True})
    model = zoo.load_pretrained(folder)
    assert model.config.head == "sentence_embedding"
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model(IDS, MASK), expected, atol=1e-6)


def test_a_folder_may_name_the_class_that_its_trunk_was_trained_with(folder: Path) -> None:
    list_modules(folder, ["Transformer", "Pooling"], {"mean_tokens": True})
    expected = zoo.load_pretrained(folder)(IDS, MASK)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(zoo.load_pretrained(folder)(IDS, MASK), expected)


def test_without_a_norm_vectors_keep_their_length(folder: Path) -> None:
    expected = by_hand(folder)
    list_modules(folder, ["Transformer", "Pooling"], {"mean_tokens": True})
    np.testing.assert_allclose(zoo.load_pretrained(folder)(IDS, MASK), expected, atol=1e-6)


def test_the_first_token_may_stand_for_the_sentence(folder: Path) -> None:
    first = zoo.load_pretrained(folder, head="none").hidden(IDS, MASK)[:, 0]
    modes = {"cls_token": True, "mean_tokens": False}
    list_modules(folder, ["Transformer", "Pooling"], modes)
    np.testing.assert_allclose(zoo.load_pretrained(folder)(IDS, MASK), first, atol=1e-6)


def test_a_bare_trunk_can_be_asked_for_sentences(folder: Path) -> None:
    model = zoo.load_pretrained(folder, head="sentence_embedding")
    np.testing.assert_allclose(model(IDS, MASK), by_hand(folder), atol=1e-6)


def test_an_export_reads_back_as_a_sentence_encoder(folder: Path, tmp_path: Path) -> None:
    list_modules(folder, ["Transformer", "Pooling", "Normalize"], {"mean_tokens": True})
    model = zoo.load_pretrained(folder)
    assert zoo.save_pretrained(model, tmp_path / "ours") == "bert"
    again = zoo.load_pretrained(tmp_path / "ours")
    assert again.config == model.config
    np.testing.assert_array_equal(again(IDS, MASK), model(IDS, MASK))


@pytest.mark.parametrize(
    ("kinds", "modes", "named"),
    [
        (["Transformer", "Pooling", "Dense"], {"mean_tokens": True}, "Dense"),
        (["Transformer", "Pooling"], {"max_tokens": True}, "max_tokens"),
        (["Transformer", "Pooling"], {"mean_tokens": True, "cls_token": True}, "cls_token"),
        (["Transformer"], {}, "Pooling"),
    ],
)
def test_what_is_not_supported_is_named(
    folder: Path, kinds: list[str], modes: dict[str, bool], named: str
) -> None:
    list_modules(folder, kinds, modes)
    with pytest.raises(CheckpointError, match=named):
        zoo.load_pretrained(folder)


def test_a_pooling_folder_elsewhere_is_refused(folder: Path) -> None:
    list_modules(folder, ["Transformer", "Pooling"], {"mean_tokens": True})
    listed = json.loads((folder / "modules.json").read_text())
    listed[1]["path"] = "../1_Pooling"
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match="a folder beside it"):
        zoo.load_pretrained(folder)
