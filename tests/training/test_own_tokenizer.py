"""A run is judged by the tokens it was trained with, whatever the text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.training.conftest import TINY, with_values, write_text
from zoo.compare.config import CompareConfig
from zoo.compare.origins import Origins
from zoo.compare.plan import cells, make_spec
from zoo.compare.results import SCORES
from zoo.compare.scoring import Trained, score
from zoo.data.tokenizers import load_tokenizer, train_bpe
from zoo.errors import ConfigError
from zoo.hf.files import read_json
from zoo.layers import weight
from zoo.training.config import TrainConfig
from zoo.training.evaluate import evaluate_workdir
from zoo.training.loop import train

BPE: dict[str, Any] = {"data.tokenizer": "bpe", "data.vocab_size": 270}
LENGTH = TINY["data.length"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own_tokenizer")


@pytest.fixture(scope="module")
def config(place: Path) -> TrainConfig:
    made: TrainConfig = with_values(
        TrainConfig(),
        TINY
        | BPE
        | {
            "workdir": str(place / "run"),
            "data.path": str(write_text(place / "text.txt", seed=2)),
            "data.cache_dir": str(place / "cache"),
        },
    )
    train(made)
    return made


@pytest.fixture(scope="module")
def others(place: Path) -> tuple[Path, Path]:
    """A text of other words, in two parts."""
    rng = np.random.default_rng(3)
    words = ["".join(rng.choice(list("uvwxyz"), size=4)) for _ in range(20)]
    parts = place / "other.txt", place / "held.txt"
    for path, size in zip(parts, (4000, 400), strict=True):
        path.write_text(" ".join(rng.choice(words, size=size)))
    return parts


def bits_per_byte(workdir: str, text: Path) -> float:
    """By the workdir's own tokenizer, one window after another."""
    model, tokenizer = zoo.load_pretrained(workdir), load_tokenizer(workdir)
    ids = np.asarray([*tokenizer.encode(text.read_bytes()), tokenizer.eos_id])
    rows = np.resize(ids[:-1], (math.ceil((len(ids) - 1) / LENGTH), LENGTH))
    logits = jax.jit(lambda params, rows: weight.bind(model, params)(rows))(
        weight.split(model)[0], jnp.asarray(rows)
    )
    # What fills up the last row stands behind all of the text.
    logs = np.asarray(jax.nn.log_softmax(logits)).reshape(rows.size, -1)[: len(ids) - 1]
    nats = -logs[np.arange(len(ids) - 1), ids[1:]].mean()
    return float(nats / math.log(2) * len(ids) / text.stat().st_size)


@pytest.mark.live
def test_another_text_is_read_by_the_runs_own_bpe(
    config: TrainConfig, others: tuple[Path, Path]
) -> None:
    values = {"data.path": str(others[0]), "data.validation_path": str(others[1])}
    figures = evaluate_workdir(config.workdir, config=with_values(config, values))
    # Sums of some hundred float32.
    assert figures["eval_bits_per_byte"] == pytest.approx(
        bits_per_byte(config.workdir, others[1]), rel=1e-5
    )


def test_a_text_that_was_edited_since_is_read_by_it_too(
    config: TrainConfig, others: tuple[Path, Path], place: Path
) -> None:
    path = write_text(place / "edited.txt", seed=2)
    run = with_values(config, {"workdir": str(place / "edited"), "data.path": str(path)})
    train(run)
    path.write_text(others[0].read_text() * 2)
    figures = evaluate_workdir(run.workdir)
    tokenizer = load_tokenizer(run.workdir)
    held = path.read_bytes()[-(path.stat().st_size // 20) :]
    assert figures["bytes_per_token"] == pytest.approx(
        len(held) / len(tokenizer.encode(held)), rel=0.05
    )


def test_its_own_text_is_in_the_cache_already(config: TrainConfig, place: Path) -> None:
    before = sorted((place / "cache").iterdir())
    evaluate_workdir(config.workdir)
    evaluate_workdir(config.workdir, config=with_values(config, {"data.validation_half": "second"}))
    assert sorted((place / "cache").iterdir()) == before


def test_another_tokenizer_is_refused(
    config: TrainConfig, others: tuple[Path, Path], place: Path
) -> None:
    train_bpe([others[0].read_bytes()], vocab_size=270).save(place / "other")
    path = str(place / "other" / "tokenizer.json")
    asked = with_values(config, {"data.tokenizer": path, "data.vocab_size": 8192})
    with pytest.raises(ConfigError, match=r"data\.tokenizer = .*other/tokenizer\.json.*leave it"):
        evaluate_workdir(config.workdir, config=asked)
    with pytest.raises(ConfigError, match=r"data\.tokenizer = 'bytes'.*leave it"):
        evaluate_workdir(
            config.workdir,
            config=with_values(config, {"data.tokenizer": "bytes", "data.vocab_size": 8192}),
        )


def test_a_comparison_measures_unseen_text_by_it(
    config: TrainConfig, others: tuple[Path, Path], place: Path
) -> None:
    # Its end, which a run holds out and a test on another file does not, has words of its own,
    # more frequent than the rare ones at its beginning.
    path = write_text(place / "compared.txt", seed=2)
    size, rare = path.stat().st_size // 20, others[0].read_text()
    path.write_text(rare[: size // 2].upper() + path.read_text() + rare[:size])
    places = {"workdir": str(place / "compare"), "data.path": str(path), "data.vocab_size": 300}
    run = with_values(config, {**places, "eval_batches": None})
    comparison = CompareConfig(
        variants=("post_norm", "pre_norm"), depths=(2,), run=run, test_path=str(others[1])
    )
    (cell, *_) = cells(comparison)
    spec = make_spec(comparison, cell, run, phase="final", setting={}, place=0)
    train(spec.config)
    score(comparison, Trained(spec), "loss")
    scores = read_json(Path(spec.config.workdir) / SCORES)
    assert scores["figures"]["test_bits_per_byte"] == pytest.approx(
        bits_per_byte(spec.config.workdir, others[1]), rel=1e-5
    )
    # Else it would be scored again and again.
    assert scores["made_with"] == Origins(comparison).of(spec).scores
