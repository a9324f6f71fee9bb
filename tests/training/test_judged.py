"""What a run's own model writes and ranks, at its end and afterwards."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.word_pieces import write_tokenizer
from zoo.errors import ConfigError
from zoo.training.config import TrainConfig
from zoo.training.evaluate import evaluate_workdir
from zoo.training.loop import train
from zoo.training.summary import read_summary

Configure = Callable[..., TrainConfig]

LETTERS = "abcdefghijklmnop"


@pytest.fixture
def pairs(configure: Configure, tmp_path: Path) -> Callable[..., TrainConfig]:
    """`pairs(steps=2)`: a run that learns six sentences by heart, and is judged on them."""
    rows = [
        {"text": " ".join(LETTERS[i : i + 3]), "target": " ".join(LETTERS[i + 9 : i + 3 : -1])}
        for i in range(6)
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.with_name("held.jsonl").write_text(path.read_text())
    values: dict[str, Any] = {
        "model.architecture": "encoder_decoder",
        "model.variant": "pre_norm",
        "model.num_layers": 1,
        "model.d_model": 32,
        "model.max_length": 16,
        "data.path": str(path),
        "data.validation_path": str(path.with_name("held.jsonl")),
        "data.tokenizer": str(write_tokenizer(tmp_path / "words") / "tokenizer.json"),
        "data.length": 8,
        "data.batch_size": 6,
        "optim.lr": 1e-2,
        "eval_every": None,
        "eval_batches": None,
        "checkpoint.every": 1000,
    }

    def make(**more: Any) -> TrainConfig:
        return configure(values, task="seq2seq", **{"steps": 60, **more})

    return make


@pytest.mark.live
def test_what_is_known_by_heart_is_worth_100(pairs: Callable[..., TrainConfig]) -> None:
    config = pairs()
    summary = train(config)
    assert summary["eval_bleu"] == pytest.approx(100)
    assert summary["eval_chrf"] == pytest.approx(100)
    assert read_summary(config.workdir)["protocol"]["num_beams"] == 1
    searched = evaluate_workdir(config.workdir, num_beams=3)
    assert searched["eval_bleu"] == pytest.approx(100)
    assert (searched["sentences"], searched["num_beams"], searched["length_penalty"]) == (6, 3, 1)
    half = dataclasses.replace(
        config, data=dataclasses.replace(config.data, validation_half="first")
    )
    first = evaluate_workdir(config.workdir, config=half)
    assert (first["sentences"], first["validation_half"]) == (3, "first")
    assert first["held_out"] == config.data.validation_path
    assert "eval_bleu" not in evaluate_workdir(config.workdir, judged=False)


def test_beams_without_a_search_are_refused(pairs: Callable[..., TrainConfig]) -> None:
    config = pairs(steps=2, judge=False)
    assert "eval_bleu" not in train(config)
    with pytest.raises(ConfigError, match="num_beams = 2 has no effect on task = 'seq2seq' when"):
        evaluate_workdir(config.workdir, num_beams=2, judged=False)
    other = dataclasses.replace(
        config,
        task="language_model",
        model=dataclasses.replace(config.model, architecture="decoder"),
    )
    with pytest.raises(ConfigError, match="task = 'language_model'; it is for 'seq2seq'"):
        evaluate_workdir(config.workdir, config=other, num_beams=2)


def test_a_run_ends_without_the_library_that_judges_it(
    pairs: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    summary = train(pairs(steps=2))
    assert summary["status"] == "finished"
    assert "eval_loss" in summary
    assert "pip install sacrebleu" in capsys.readouterr().err
