"""Probes: batches by hand, losses against NumPy, and that a tiny model learns two of them."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from zoo.data import RowSpec
from zoo.data.config import DataConfig
from zoo.data.tokenizers import Vocabulary
from zoo.models.config import ModelConfig
from zoo.tasks import TASKS, Batch
from zoo.tasks.probes import batch, inputs, loss
from zoo.training.config import TrainConfig
from zoo.training.evaluate import evaluate, held_out
from zoo.training.optim_config import OptimConfig
from zoo.training.setup import prepare
from zoo.training.step import make_evaluator

SPEC = RowSpec(4, Vocabulary(6))


def rows(*problems: tuple[list[int], list[int]]) -> Batch:
    """Of (tokens, places of the answers)."""
    made: Batch = {
        "tokens": np.zeros((len(problems), 5), np.int32),
        "answers": np.zeros((len(problems), 5), bool),
        "sizes": np.asarray([len(tokens) for tokens, _ in problems], np.int32),
    }
    for row, (tokens, places) in enumerate(problems):
        made["tokens"][row, : len(tokens)] = tokens
        made["answers"][row, places] = True
    return made


def nats_of(logits: np.ndarray, target: int) -> float:
    exps = np.exp(np.asarray(logits, np.float64))
    return -math.log(exps[target] / exps.sum())


def test_answers_are_predicted_and_the_last_one_is_not_seen() -> None:
    made = batch(rows(([3, 4, 1], [2]), ([3, 1, 3, 2, 5], [1, 4]), ([], [])), SPEC)
    np.testing.assert_array_equal(made["inputs"], [[3, 4, 1, 0], [3, 1, 3, 2], [0] * 4])
    np.testing.assert_array_equal(made["targets"], [[4, 1, 0, 0], [1, 3, 2, 5], [0] * 4])
    np.testing.assert_array_equal(made["mask"], [[0, 1, 0, 0], [1, 0, 0, 1], [0] * 4])
    seen = [[1, 1, 0, 0], [1, 1, 1, 1], [0] * 4]
    np.testing.assert_array_equal(made["attention_mask"], seen)
    assert set(inputs(made)) == {"input_ids", "attention_mask"}


def test_every_answer_counts_and_a_problem_with_one_wrong_is_not_exact() -> None:
    made = batch(rows(([3, 1, 3, 2, 5], [1, 4]), ([3, 4, 2, 4, 5], [2, 4]), ([], [])), SPEC)
    logits = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    logits[0, 0, 1] = logits[0, 3, 5] = logits[1, 3, 5] = 9.0  # right
    logits[1, 1, 0] = 9.0  # wrong
    found = loss(lambda **given: jnp.asarray(logits), made)
    expected = [(0, 0, 1), (0, 3, 5), (1, 1, 2), (1, 3, 5)]
    nats = sum(nats_of(logits[row, place], target) for row, place, target in expected)
    np.testing.assert_allclose(found.nats, nats, rtol=1e-6)
    assert (found.tokens, found.hits["correct"], found.hits["exact"]) == (4, 3, 2)


def test_a_classifier_gives_the_one_answer() -> None:
    made = batch(rows(([3, 4, 1], [2]), ([3, 4, 3, 4, 0], [4]), ([], [])), SPEC)
    logits = np.asarray([[0.0, 2.0], [1.0, 3.0], [5.0, 5.0]], np.float32)
    found = loss(lambda **given: jnp.asarray(logits), made)
    nats = nats_of(logits[0], 1) + nats_of(logits[1], 0)
    np.testing.assert_allclose(found.nats, nats, rtol=1e-6)
    assert (found.tokens, found.hits["correct"], found.hits["exact"]) == (2, 1, 1)


def learnt(task: str, length: int, *, steps: int, variant: str) -> dict[str, float]:
    """Held-out figures of a tiny decoder after some steps."""
    config = TrainConfig(
        task=task,
        steps=steps,
        model=ModelConfig(
            variant=variant, d_model=32, num_layers=2, num_heads=1, positions="learned"
        ),
        data=DataConfig(length=length, batch_size=64, prefetch=1),
        optim=OptimConfig(lr=1e-2, warmup=20, schedule="constant", weight_decay=0.0),
    )
    run = prepare(config)
    state = run.initial_state()
    for _, read in zip(range(steps), run.data.train_batches(), strict=False):
        state, _ = run.step(state, run.batch(read), run.inputs)
    evaluator = make_evaluator(run.model, run.task)
    return evaluate(evaluator, state["params"], held_out(run.data, run.task, 8), run.task, None)[0]


def test_a_tiny_decoder_learns_to_copy() -> None:
    figures = learnt("copy", 8, steps=80, variant="pre_norm")
    assert figures["eval_accuracy"] > 0.9  # chance: 1 in 26
    assert figures["eval_exact_match"] > 0.7


def test_a_tiny_decoder_begins_to_recall() -> None:
    figures = learnt("induction", 7, steps=80, variant="rezero")
    assert figures["eval_loss"] < 0.5 * math.log(32)


@pytest.mark.slow
def test_a_tiny_decoder_learns_to_recall() -> None:
    figures = learnt("induction", 7, steps=400, variant="rezero")
    # Knowing which two values there are, and that each comes once, leaves ln 2 / 2 an answer.
    assert figures["eval_loss"] < 0.75 * math.log(2) / 2
    assert figures["eval_exact_match"] > 0.8


def test_only_the_probes_of_one_answer_have_classifiers() -> None:
    heads = {name: [head for _, head in TASKS[name].models] for name in ("copy", "parity")}
    assert heads["copy"] == ["language_model"]
    assert heads["parity"][1:] == ["sequence_classification"] * 2
    assert TASKS["parity"].metric == TASKS["copy"].metric == ("accuracy", False, "")
