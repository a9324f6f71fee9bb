"""Every task from a few rows of data to a finished run, and what does not go together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import zoo
from zoo.checkpoints.pretrained import read_config
from zoo.cli import main
from zoo.data.config import PROBE_KINDS, reads
from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig, from_dict
from zoo.training.dry_run import dry_run
from zoo.training.evaluate import evaluate_workdir
from zoo.training.export import export
from zoo.training.fit import check_task
from zoo.training.loop import train
from zoo.training.setup import prepare
from zoo.training.trackers import read_metrics

Configure = Callable[..., TrainConfig]

MODELS: dict[str, dict[str, Any]] = {
    "language_model": {},
    "masked_lm": {"model.architecture": "encoder"},
    "seq2seq": {"model.architecture": "encoder_decoder", "optim.label_smoothing": 0.1},
    "sequence_classification": {
        "model.architecture": "encoder",
        "model.head": "sequence_classification",
    },
    "token_classification": {"model.architecture": "encoder", "model.head": "token_classification"},
    "span": {"model.architecture": "encoder", "model.head": "span", "model.type_vocab_size": 2},
    "image_classification": {"model.architecture": "vision", "model.image_size": 8},
    "copy": {},
    "induction": {},
    "listops": {"model.head": "sequence_classification"},
    "parity": {"model.architecture": "encoder", "model.head": "sequence_classification"},
}
FIGURES = {
    "masked_lm": {"loss", "perplexity", "accuracy"},
    "seq2seq": {"loss", "bits_per_byte", "perplexity", "bleu", "chrf"},
    "span": {"loss", "accuracy", "exact_match"},
    **{kind: {"loss", "accuracy", "exact_match"} for kind in PROBE_KINDS},
}
RANKED = {"loss", "accuracy", "f1_macro", "matthews"}


def row(name: str, index: int) -> dict[str, Any]:
    """An example that tells its label."""
    word = ["one", "two", "three"][index % 3]
    rows: dict[str, dict[str, Any]] = {
        "language_model": {"text": f"{word} and {word} again, {index} times over"},
        "masked_lm": {"text": f"{word} and {word} again, {index} times over"},
        "seq2seq": {"text": f"{word} {index}", "target": f"{index} {word}"},
        "sequence_classification": {"text": f"this is {word}", "label": word},
        "token_classification": {"text": ["this", "is", word], "label": ["a", "b", word]},
        "span": {
            "question": "what?",
            "text": f"it is {word}.",
            "label": {"text": [word], "answer_start": [6]},
        },
        "image_classification": {
            "image": np.full((8, 8, 3), 80 * (index % 3)).tolist(),
            "label": word,
        },
    }
    return rows[name]


@pytest.fixture
def learn(configure: Configure, tmp_path: Path) -> Configure:
    """`learn(task)`: a tiny run of 4 steps."""

    def make(name: str, values: dict[str, Any] | None = None) -> TrainConfig:
        path, kind = tmp_path / f"{name}.jsonl", TASKS[name].rows
        places: dict[str, Any] = {"data.path": None, "data.cache_dir": str(tmp_path / "cache")}
        if reads(kind, "path"):
            path.write_text("".join(json.dumps(row(name, index)) + "\n" for index in range(60)))
            places["data.path"] = str(path)
        if not reads(kind, "length"):
            places |= {"data.length": 256, "model.max_length": None}
        return configure(MODELS[name] | places | (values or {}), steps=4, task=name)

    return make


@pytest.mark.live
@pytest.mark.parametrize("name", [name for name in TASKS if name != "language_model"])
def test_a_task_is_planned_trained_evaluated_and_exported(
    learn: Configure, name: str, tmp_path: Path
) -> None:
    config = learn(name)
    plan = dry_run(config)
    assert plan.flops_per_step > 0
    assert plan.memory_bytes["of activations kept for the backward pass"] > 0
    summary = train(config)
    assert summary["status"] == "finished"
    names = {f"eval_{figure}" for figure in FIGURES.get(name, RANKED)}
    assert names <= summary.keys()
    from_dict(read_config(config.workdir)).validate()  # what is stored can be run again
    again = evaluate_workdir(config.workdir, max_batches=1)
    assert names == {figure for figure in again if figure.startswith("eval_")}
    for figure in names:
        np.testing.assert_allclose(again[figure], summary[figure], rtol=1e-5)
    export(config.workdir, tmp_path / "out")
    models = [zoo.load_pretrained(folder) for folder in (config.workdir, tmp_path / "out")]
    params = [weight.split(model)[0] for model in models]
    jax.tree.map(np.testing.assert_array_equal, *params)
    learnt = Path(config.workdir) / "labels.json"
    assert learnt.is_file() == (tmp_path / "out" / "labels.json").is_file()
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| task | {name} |" in card
    protocol = summary.get("protocol", {})
    assert all(f"| {key} | {value} |" in card for key, value in protocol.items())


def test_what_a_model_leaves_open_comes_from_the_data(learn: Configure) -> None:
    pairs = prepare(learn("seq2seq")).config.model
    assert (pairs.vocab_size, pairs.decoder_start_id) == (258, 256)  # bytes, begin and end
    assert prepare(learn("sequence_classification")).config.model.num_labels == 3
    assert prepare(learn("masked_lm")).config.model.vocab_size == 257


def test_two_texts_are_learnt_together(learn: Configure, tmp_path: Path) -> None:
    """Which of two numbers is larger: neither text says it alone."""
    rows = [
        {"text": str(i % 7), "other": str(i % 5), "label": "first" if i % 7 > i % 5 else "second"}
        for i in range(60)
    ]
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    two = {"data.path": str(path), "data.text_pair_column": "other", "model.type_vocab_size": 2}
    config = learn("sequence_classification", two)
    assert prepare(config).config.model.vocab_size == 258  # bytes, begin and separator
    summary = train(config)
    assert summary["protocol"]["f1_label"] == "second"
    again = evaluate_workdir(config.workdir)
    for figure in ("eval_loss", "eval_f1", "eval_matthews"):
        np.testing.assert_allclose(again[figure], summary[figure], rtol=1e-5)


def test_an_answer_reads_a_source_as_in_training_and_is_shown_without_special_tokens(
    learn: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = learn("seq2seq", {"steps": 1})
    train(config)
    given: dict[str, Any] = {}

    def generate(model: Any, prompt: Any, **settings: Any) -> np.ndarray:
        given.update(settings, prompt=np.asarray(prompt).tolist())
        return np.asarray([[256, *b"no", 257, 257]])  # begin, the answer, end, its repetition

    monkeypatch.setattr("zoo.decoding.generate", generate)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["generate", "--from", config.workdir, "--prompt", "on"])
    assert stop.value.code == 0
    assert (given["prompt"], given["eos_id"]) == ([[*b"on", 257]], (257,))
    assert capsys.readouterr().out == "no\n"


@pytest.mark.live
def test_masked_words_are_the_same_after_a_restart(learn: Configure, tmp_path: Path) -> None:
    more = {"optim.accumulate": 2, "checkpoint.every": 2, "model.dropout": 0.1}
    whole = learn("masked_lm", more | {"workdir": str(tmp_path / "whole")})
    train(whole)
    parts = learn("masked_lm", more | {"workdir": str(tmp_path / "parts"), "steps": 2})
    train(parts)
    train(learn("masked_lm", more | {"workdir": str(tmp_path / "parts")}))
    first, second = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert [r["loss"] for r in first] == [r["loss"] for r in second]


def test_a_step_of_training_knows_its_number_and_an_evaluation_does_not(learn: Configure) -> None:
    run = prepare(learn("language_model", {"optim.accumulate": 2}))
    given = []

    def loss(model: Any, batch: Any, *, step: Any = None, **more: Any) -> Any:
        given.append(step)
        return TASKS["language_model"].loss(model, batch, step=step, **more)

    core = dataclasses.replace(run.core, task=dataclasses.replace(run.task, loss=loss))
    batch = run.batch(run.data.train_batch(0))
    jax.eval_shape(core, run.template, batch, run.inputs)
    assert given
    assert all(step is not None and step.shape == () for step in given)


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        (
            "masked_lm",
            {},
            "by model.architecture = 'decoder'; use model.architecture = 'encoder', or task = "
            "'language_model'",
        ),
        (
            "sequence_classification",
            {"architecture": "encoder"},
            "with model.head = 'masked_lm'; use model.head = 'sequence_classification', or task = "
            "'masked_lm'",
        ),
        (
            "span",
            {"architecture": "vision"},
            "use model.architecture = 'encoder' and model.head = 'span', or task = "
            "'image_classification'",
        ),
        (
            "span",
            {"architecture": "encoder", "head": "span"},
            "model.type_vocab_size = None; use 2",
        ),
    ],
)
def test_a_model_that_cannot_learn_a_task_is_refused(
    name: str, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_task(name, ModelConfig(**model))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("sequence_classification", {"model.num_labels": 5}, "the data has 3 labels"),
        ("image_classification", {"model.image_size": 16}, "use model.image_size = 8"),
        ("image_classification", {"model.num_channels": 1}, "use model.num_channels = 3"),
        ("seq2seq", {"model.decoder_start_id": 7}, "targets begin with 256"),
        ("seq2seq", {"data.target_length": 64}, "data.target_length = 64 is longer than"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(
    learn: Configure, name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(learn(name, values))


def test_other_labels_than_those_learnt_are_refused(learn: Configure, tmp_path: Path) -> None:
    config = learn("sequence_classification", {"steps": 1})
    train(config)
    path = tmp_path / "other.jsonl"
    path.write_text((json.dumps({"text": "this", "label": "four"}) + "\n") * 20)
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(path)))
    with pytest.raises(ConfigError, match=r"has the labels four; the model of .* knows one, three"):
        evaluate_workdir(config.workdir, config=other)


@pytest.mark.live
def test_a_model_in_stages_is_trained_and_written_as_its_family(
    learn: Configure, tmp_path: Path
) -> None:
    stages = {
        "variant": "swin_v2_norm",
        "d_model": 8,
        "num_heads": 2,
        "num_layers": 2,
        "stage_layers": (1, 1),
        "stage_heads": (2, 1),
        "window": 2,
        "patch_size": 2,
        "embedding_norm": True,
        "positions": "none",
        "pooling": "mean",
        "attention_bias": "qvo",
        "stochastic_depth": 0.1,
    }
    config = learn("image_classification", {f"model.{name}": own for name, own in stages.items()})
    assert train(config)["status"] == "finished"
    from_dict(read_config(config.workdir)).validate()
    export(config.workdir, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "swinv2"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| layers (stage2) | 1 |" in card
    assert "stage2, 1 layer, d_model 16" in card
    models = [zoo.load_pretrained(folder) for folder in (config.workdir, tmp_path / "out")]
    jax.tree.map(np.testing.assert_array_equal, *(weight.split(model)[0] for model in models))
