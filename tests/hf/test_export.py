"""Our own format, and what a family of transformers has no words for."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import serialization
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file, save_file

import zoo
from tests.hf.test_families import write
from tests.models.matrix import ARCHITECTURES, BASE, inputs
from zoo.errors import CheckpointError
from zoo.layers import weight
from zoo.models.tower import Transformer
from zoo.models.transformer import declare
from zoo.variants.registry import list_variants

PAIRS = list(itertools.product(list_variants(), ARCHITECTURES))


def noised(variant: str, architecture: str, **changes: Any) -> Transformer:
    """A model whose every parameter is drawn, learned scalars and gains too."""
    config = dataclasses.replace(BASE, variant=variant, architecture=architecture, **changes)
    model = declare(config)
    rng = np.random.default_rng(0)
    shapes, _ = weight.split(model)
    return weight.bind(
        model, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    )


@pytest.mark.parametrize(("variant", "architecture"), PAIRS)
def test_a_pair_is_exported_and_comes_back(variant: str, architecture: str, tmp_path: Path) -> None:
    model = noised(variant, architecture)
    assert zoo.save_pretrained(model, tmp_path / "a", family="postnorm_zoo") == "postnorm_zoo"
    again = zoo.load_pretrained(tmp_path / "a")
    assert (again.config, again.placement) == (model.config, model.placement)
    jax.tree.map(np.testing.assert_array_equal, weight.split(again)[0], weight.split(model)[0])


@pytest.mark.parametrize("variant", ["pro_res", "branch_norm", "layer_scale", "rezero"])
def test_schedules_and_scalars_survive_where_a_run_stands(variant: str, tmp_path: Path) -> None:
    model = noised(variant, "decoder")
    model.placement = model.placement.at(3)
    zoo.save_pretrained(model, tmp_path / "a")
    again = zoo.load_pretrained(tmp_path / "a")
    given = inputs("decoder")
    np.testing.assert_array_equal(again(**given), model(**given))


def test_what_a_family_cannot_say_is_named(tmp_path: Path) -> None:
    model = noised("deep_norm", "encoder")
    with pytest.raises(CheckpointError, match="bert cannot express this model: "):
        zoo.save_pretrained(model, tmp_path / "a", family="bert")
    assert not any(tmp_path.iterdir())
    assert zoo.save_pretrained(model, tmp_path / "a") == "postnorm_zoo"


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="something else than a checkpoint"):
        zoo.save_pretrained(noised("deep_norm", "encoder"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_the_working_folder_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, old = noised("deep_norm", "encoder"), tmp_path / "old"
    zoo.save_pretrained(model, old)
    (old / "within").mkdir()
    before = {file.name: file.read_bytes() for file in old.iterdir() if file.is_file()}
    for inside, folder in ((old, "."), (old, str(old)), (old / "within", "..")):
        monkeypatch.chdir(inside)
        with pytest.raises(CheckpointError, match="the working folder"):
            zoo.save_pretrained(model, folder)
    assert {file.name: file.read_bytes() for file in old.iterdir() if file.is_file()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["old"]


def test_the_old_checkpoint_stays_until_the_new_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, old = noised("deep_norm", "encoder"), tmp_path / "old"
    zoo.save_pretrained(model, old)
    rename, asked = Path.rename, list[Path]()

    def fails_once(self: Path, target: Path) -> Path:
        asked.append(target)
        if asked.count(old) == 1 and target == old:
            raise OSError("no room")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(CheckpointError, match="cannot be written: no room"):
        zoo.save_pretrained(noised("post_norm", "encoder"), old)
    assert zoo.load_pretrained(old).config.variant == "deep_norm"
    zoo.save_pretrained(noised("post_norm", "encoder"), old)
    assert zoo.load_pretrained(old).config.variant == "post_norm"
    assert [file.name for file in tmp_path.iterdir()] == ["old"]


def test_shards_are_of_the_size_that_is_asked_for(tmp_path: Path) -> None:
    model = noised("deep_norm", "decoder")
    zoo.save_pretrained(model, tmp_path / "a", shard_bytes=2000)
    index = json.loads((tmp_path / "a" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2
    again = zoo.load_pretrained(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, weight.split(again)[0], weight.split(model)[0])


def test_another_head_is_drawn_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    zoo.save_pretrained(noised("post_norm", "encoder"), tmp_path / "a")
    model = zoo.load_pretrained(tmp_path / "a", head="sequence_classification", num_labels=5)
    assert model(**inputs("encoder")).shape == (4, 5)
    assert "new, drawn with seed 0, for head = sequence_classification: head" in caplog.text


def test_labels_that_the_file_has_not_are_asked_for_by_name(tmp_path: Path) -> None:
    config = {"head": "sequence_classification", "pooler": "tanh", "embedding_scale": False}
    model = noised("post_norm", "encoder", **config, type_vocab_size=2, embedding_norm=True)
    zoo.save_pretrained(model, tmp_path / "a", family="bert")
    file = tmp_path / "a" / "config.json"
    said = json.loads(file.read_text())
    labels = {str(index): f"L{index}" for index in range(7)}
    file.write_text(json.dumps(said | {"id2label": labels}))
    with pytest.raises(
        CheckpointError, match=r"classifier\.bias is \[3\]; config\.json makes it \[7\]"
    ):
        zoo.load_pretrained(tmp_path / "a")
    assert zoo.load_pretrained(tmp_path / "a", num_labels=7).config.num_labels == 7


@pytest.mark.parametrize(
    ("said", "asked", "named"),
    [
        # An older file counts too, and its count goes before its names.
        ({"num_labels": 3, "id2label": {"0": "no", "1": "yes"}}, {}, 3),
        ({"num_labels": 3}, {"num_labels": 5}, 5),
        # A span has a start and an end, whatever the labels were called before.
        ({"num_labels": 3}, {"head": "span"}, 0),
    ],
)
def test_the_count_of_labels_that_is_written_is_that_of_the_head(
    said: dict[str, Any], asked: dict[str, Any], named: int, tmp_path: Path
) -> None:
    write("bert_sequence", tmp_path / "a")
    file = tmp_path / "a" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    model = zoo.load_pretrained(tmp_path / "a", **asked)
    assert zoo.save_pretrained(model, tmp_path / "b") == "bert"
    written = json.loads((tmp_path / "b" / "config.json").read_text())
    # Transformers counts by either key, and makes the head of that size.
    assert "num_labels" not in written
    assert len(written.get("id2label", {})) == len(written.get("label2id", {})) == named
    assert zoo.load_pretrained(tmp_path / "b").config == model.config


def test_a_head_that_shares_a_name_with_the_old_one_is_drawn_where_it_has_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A decoder's score of a sequence has no bias, that of a token has one.
    write("llama_sequence", tmp_path / "a")
    model = zoo.load_pretrained(tmp_path / "a", head="token_classification")
    assert "new, drawn with seed 0: head/linear/bias, head/linear/kernel" in caplog.text
    assert model.config.num_labels == 3
    # Of its own head nothing may be missing.
    write("llama_token", tmp_path / "b")
    tensors = load_file(tmp_path / "b" / "model.safetensors")
    del tensors["score.bias"]
    save_file(tensors, tmp_path / "b" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no tensor score\.bias"):
        zoo.load_pretrained(tmp_path / "b", head="token_classification")


@pytest.mark.parametrize("name", ["vit_image", "bert_sequence"])
def test_a_file_of_flax_is_the_same_model(name: str, tmp_path: Path) -> None:
    def flax_name(path: str, array: np.ndarray[Any, Any]) -> str:
        words = {1: "scale", 2: "embedding" if "embeddings" in path else "kernel", 4: "kernel"}
        stem, _, last = path.rpartition(".")
        return f"{stem}.{words[array.ndim] if last == 'weight' else last}".replace(".", "/")

    write(name, tmp_path / "torch")
    write(name, tmp_path / "flax")
    tree = {}
    for path, array in load_file(tmp_path / "flax" / "model.safetensors").items():
        own = flax_name(path, array)
        # Flax's matrices are [in, out], its convolutions [height, width, in, out].
        axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim, ())
        tree[own] = array.transpose(axes) if own.endswith("kernel") else array
    content = serialization.msgpack_serialize(unflatten_dict(tree, sep="/"))
    (tmp_path / "flax" / "flax_model.msgpack").write_bytes(content)
    (tmp_path / "flax" / "model.safetensors").unlink()
    one, two = (zoo.load_pretrained(tmp_path / each) for each in ("torch", "flax"))
    jax.tree.map(np.testing.assert_array_equal, weight.split(one)[0], weight.split(two)[0])


def test_a_model_whose_tokens_have_no_kinds_is_no_bert(tmp_path: Path) -> None:
    # transformers refuses a BERT whose config.json says that it has none.
    model = noised("post_norm", "encoder", embedding_scale=False, embedding_norm=True)
    assert model.config.type_vocab_size is None
    with pytest.raises(CheckpointError, match="bert cannot express this model: type_vocab_size"):
        zoo.save_pretrained(model, tmp_path / "a", family="bert")
    assert zoo.save_pretrained(model, tmp_path / "a") != "bert"
