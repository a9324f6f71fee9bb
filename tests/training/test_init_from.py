"""Runs that start from a checkpoint: what they take from it, and what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import zoo
from tests.hf.test_families import write
from tests.training.conftest import with_values
from tests.word_pieces import write_tokenizer
from zoo.checkpoints.pretrained import read_config
from zoo.errors import ConfigError, ZooError
from zoo.layers import weight
from zoo.training.config import TrainConfig
from zoo.training.dry_run import dry_run
from zoo.training.init_from import with_checkpoint
from zoo.training.loop import train
from zoo.training.resume import fresh_state
from zoo.training.setup import prepare
from zoo.training.trackers import read_metrics


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A trunk of BERT with a tokenizer."""
    write("bert", tmp_path / "bert")
    return write_tokenizer(tmp_path / "bert")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    path = tmp_path / "texts.jsonl"
    rows = []
    for number in range(120):
        letters = "abcdefghijklmnopqrstuvwxyz"[8 * (number % 3) :][:8]
        text = " ".join(draw.choice(list(letters), draw.integers(3, 12)))
        rows.append({"text": text, "label": f"class {number % 3}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def tune(bert: Path, labelled: Path, tmp_path: Path):
    def make(**values: Any) -> TrainConfig:
        own = {
            "workdir": str(tmp_path / "run"),
            "task": "sequence_classification",
            "init_from": str(bert),
            "steps": 4,
            "log_every": 1,
            "eval_every": 4,
            "sample_tokens": 0,
            "tensorboard": False,
            "data.path": str(labelled),
            "data.cache_dir": str(tmp_path / "cache"),
            "data.length": 10,
            "data.batch_size": 4,
            "data.prefetch": 0,
            "optim.schedule": "constant",
            "optim.warmup": 0,
            "optim.lr": 1e-2,
            "checkpoint.every": 2,
        }
        made: TrainConfig = with_values(TrainConfig(), own | values)
        return made

    return make


def test_a_checkpoint_brings_model_tokens_and_weights(
    tune: Any, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = prepare(with_checkpoint(tune()))
    assert (run.config.model.d_model, run.config.model.num_layers) == (16, 2)
    assert run.config.model.head == "sequence_classification"
    assert run.config.model.num_labels == 3
    assert run.config.data.tokenizer == str(bert / "tokenizer.json")
    batch = run.batch(run.data.train_batch(0))
    ids, seen = np.asarray(batch["inputs"]), np.asarray(batch["attention_mask"])
    assert set(ids[:, 0]) == {2}  # [CLS]
    assert all(row[mask][-1] == 3 for row, mask in zip(ids, seen, strict=True))  # [SEP]
    with caplog.at_level(logging.WARNING):
        params = jax.device_get(fresh_state(run)["params"])
    assert "new, drawn with seed 0: head/linear/bias, head/linear/kernel" in caplog.text
    trunk, _ = weight.split(zoo.load_pretrained(bert))
    for name, own in trunk.items():
        jax.tree.map(np.testing.assert_array_equal, params[name], own)
    # Another seed draws another head, and changes nothing else.
    again = prepare(with_checkpoint(tune(seed=1)))
    other = jax.device_get(fresh_state(again)["params"])
    assert not np.array_equal(other["head"]["linear"]["kernel"], params["head"]["linear"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, other["stack"], params["stack"])


@pytest.mark.live
def test_a_run_goes_on_without_the_weights_that_it_began_with(
    tune: Any, bert: Path, tmp_path: Path
) -> None:
    assert train(tune(workdir=str(tmp_path / "whole")))["status"] == "finished"
    train(tune(steps=2))
    (bert / "model.safetensors").unlink()
    (bert / "config.json").unlink()
    assert train(tune())["status"] == "finished"
    whole, parts = (
        [row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in row]
        for name in ("whole", "run")
    )
    assert parts == whole
    for other in (None, str(tmp_path / "elsewhere")):
        with pytest.raises(ConfigError, match=r"holds a run with init_from = .*bert"):
            train(tune(init_from=other))
    with pytest.raises(ConfigError, match=r"model.d_model = 16, this one asks for 32"):
        train(tune(**{"model.d_model": 32}))


@pytest.mark.parametrize(
    ("values", "typed", "named"),
    [
        ({"model.d_model": 32}, (), ["model.d_model = 32", "has 16"]),
        ({}, ("model.d_model",), ["model.d_model = 128", "has 16"]),
        ({"model.num_layers": 3}, (), ["model.num_layers = 3", "has 2"]),
        ({"model.variant": "pre-ln"}, (), ["model.variant = 'pre_norm'", "'post_norm'"]),
        ({"model.vocab_size": 60}, (), ["model.vocab_size = 60", "48"]),
        ({"task": "language_model"}, (), ["language_model", "encoder"]),
        ({"data.length": 30}, (), ["data.length = 30", "20"]),
        ({"init_from": "nowhere"}, (), ["nowhere", "no such folder"]),
        ({"init_from": "{bert}@7"}, (), ["step = 7", "no workdir"]),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused_before_anything_is_written(
    tune: Any,
    bert: Path,
    tmp_path: Path,
    values: dict[str, Any],
    typed: Collection[str],
    named: list[str],
) -> None:
    values = {
        key: str(v).format(bert=bert) if key == "init_from" else v for key, v in values.items()
    }
    with pytest.raises(ZooError) as refused:
        train(tune(**values), typed)
    assert all(word in str(refused.value) for word in named), refused.value
    assert not (tmp_path / "run").exists()


def test_settings_that_the_weights_leave_free_are_taken(tune: Any) -> None:
    values = {"model.attention_dropout": 0.3, "model.pooling": "mean", "model.dtype": "bfloat16"}
    config = with_checkpoint(tune(**values), typed=("model.dropout",)).model
    # BERT's own rate is 0.1; a typed one counts although it is the default.
    assert (config.attention_dropout, config.dropout, config.embedding_dropout) == (0.3, 0.0, 0.1)
    assert (config.pooling, config.pooler, config.dtype) == ("mean", None, "bfloat16")
    same = with_checkpoint(tune(**{"model.variant": "post-ln", "model.d_model": 16})).model
    assert same == with_checkpoint(tune()).model


def test_a_pooler_goes_with_the_vector_it_was_trained_on(tmp_path: Path, tune: Any) -> None:
    write("eurobert_sequence", tmp_path / "late")
    values = {"init_from": str(write_tokenizer(tmp_path / "late"))}
    kept = with_checkpoint(tune(**values)).model
    assert (kept.pooling, kept.pooler, kept.pooler_first) == ("mean", "gelu", True)
    left = with_checkpoint(tune(**values), typed=("model.pooling",)).model
    assert (left.pooling, left.pooler, left.pooler_first) == ("first", None, False)


def test_masked_words_are_restored_by_the_pretrained_head(tmp_path: Path, tune: Any) -> None:
    write("bert_masked_lm", tmp_path / "masked")
    folder = write_tokenizer(tmp_path / "masked")
    run = prepare(with_checkpoint(tune(task="masked_lm", init_from=str(folder))))
    batch = run.batch(run.data.train_batch(0))
    assert set(np.asarray(batch["inputs"])[:, 0]) == {2}
    params = jax.device_get(fresh_state(run)["params"])
    kept, _ = weight.split(zoo.load_pretrained(folder))
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(kept))


def test_a_head_that_learnt_as_many_labels_is_kept_and_any_other_drawn(
    tmp_path: Path, tune: Any, labelled: Path
) -> None:
    write("bert_sequence", tmp_path / "three")
    folder = write_tokenizer(tmp_path / "three")
    kept, _ = weight.split(zoo.load_pretrained(folder))

    def head(config: TrainConfig) -> Any:
        return jax.device_get(fresh_state(prepare(with_checkpoint(config)))["params"])["head"]

    jax.tree.map(np.testing.assert_array_equal, head(tune(init_from=str(folder))), kept["head"])
    rows = [json.loads(line) for line in labelled.read_text().splitlines()]
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows if row["label"] < "class 2"))
    assert head(tune(init_from=str(folder)))["linear"]["kernel"].shape == (16, 2)


def test_our_own_folders_and_runs_start_runs_with_their_tokens(tmp_path: Path, tune: Any) -> None:
    first = tune(**{"data.tokenizer": "bpe", "data.vocab_size": 270, "init_from": None})
    small = {"architecture": "encoder", "head": "sequence_classification", "d_model": 16}
    small |= {"num_layers": 2, "num_heads": 2, "variant": "deep_norm"}
    first = with_values(first, {f"model.{name}": value for name, value in small.items()})
    train(with_values(first, {"workdir": str(tmp_path / "first")}))
    model = zoo.load_pretrained(tmp_path / "first")
    zoo.save_pretrained(model, tmp_path / "exported", family="postnorm_zoo")
    (tmp_path / "exported" / "tokenizer.json").write_text(
        (tmp_path / "first" / "tokenizer.json").read_text()
    )
    want = jax.device_get(weight.split(model)[0])
    for source in ("first", "exported"):
        run = prepare(with_checkpoint(tune(init_from=str(tmp_path / source))))
        assert run.config.model.variant == "deep_norm"
        # The begin token that it was trained with, past those of the file.
        batch = run.batch(run.data.train_batch(0))
        assert set(np.asarray(batch["inputs"])[:, 0]) == {model.config.vocab_size - 1}
        params = jax.device_get(fresh_state(run)["params"])
        jax.tree.map(np.testing.assert_array_equal, params, want)


def test_targets_begin_behind_the_token_of_the_checkpoint(tmp_path: Path, tune: Any) -> None:
    write("marian", tmp_path / "marian")
    folder = write_tokenizer(tmp_path / "marian")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"text": "a b", "target": "c d e"}\n' * 40)
    values = {"task": "seq2seq", "init_from": str(folder), "data.path": str(pairs)}
    run = prepare(with_checkpoint(tune(**values)))
    batch = run.batch(run.data.train_batch(0))
    begin = zoo.load_pretrained(folder).config.decoder_start_id
    assert np.asarray(batch["decoder_inputs"])[0, :5].tolist() == [begin, 2, 7, 8, 9]
    assert np.asarray(batch["inputs"])[0, :4].tolist() == [2, 5, 6, 3]


def test_a_checkpoint_without_a_tokenizer_asks_for_one(tune: Any, bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"no tokenizer.json; give data.tokenizer"):
        train(tune())


def test_a_plan_says_what_came_from_the_checkpoint(tune: Any, tmp_path: Path) -> None:
    config = tune(**{"optim.freeze": ("emb", "pos"), "optim.layer_lr_decay": 0.9})
    plan = dry_run(config, typed=("task", "init_from"))
    assert plan.settings["model.d_model"] == (16, "init_from")
    assert plan.settings["data.framing"] == ("tokenizer", "init_from")
    assert plan.settings["model.num_labels"] == (3, "text")
    assert not (tmp_path / "run").exists()


def test_frozen_embeddings_stay_bit_identical_and_have_no_state(tune: Any, bert: Path) -> None:
    config = tune(**{"optim.freeze": ("emb", "pos"), "optim.weight_decay": 0.1})
    run = prepare(with_checkpoint(config))
    sizes = {leaf.shape for leaf in jax.tree.leaves(run.template["opt_state"])}
    assert (48, 16) not in sizes
    train(config)
    assert read_config(config.workdir)["init_from"] == str(bert)
    before, after = (
        jax.device_get(weight.split(zoo.load_pretrained(folder))[0])
        for folder in (bert, config.workdir)
    )
    jax.tree.map(np.testing.assert_array_equal, after["embedding"], before["embedding"])
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), after["stack"], before["stack"])
    assert all(jax.tree.leaves(moved))
