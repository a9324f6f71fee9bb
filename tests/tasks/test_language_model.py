"""Language modelling: which tokens count, and what is made of their loss."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from zoo.data import RowSpec
from zoo.data.tokenizers import Vocabulary
from zoo.tasks.language_model import LANGUAGE_MODEL

# Two documents and padding; one document; padding alone.
TOKENS = np.array([[5, 6, 7, 8, 9, 0], [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0]], np.int32)
SEGMENTS = np.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], np.int32)
ROWS = {"tokens": TOKENS, "segment_ids": SEGMENTS}
TOGETHER = RowSpec(5, Vocabulary(10))
SEPARATE = RowSpec(5, Vocabulary(10), separate_documents=True)


def test_each_token_is_predicted_from_the_one_before() -> None:
    batch = LANGUAGE_MODEL.batch(ROWS, TOGETHER)
    assert set(batch) == {"inputs", "targets", "mask"}
    np.testing.assert_array_equal(batch["inputs"], TOKENS[:, :5])
    np.testing.assert_array_equal(batch["targets"], TOKENS[:, 1:])


def test_padding_and_the_first_token_of_a_document_do_not_count() -> None:
    mask = LANGUAGE_MODEL.batch(ROWS, SEPARATE)["mask"].astype(int)
    np.testing.assert_array_equal(mask, [[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])


def test_positions_start_again_with_each_document() -> None:
    batch = LANGUAGE_MODEL.batch(ROWS, SEPARATE)
    np.testing.assert_array_equal(batch["positions"][:2], [[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(batch["segment_ids"], SEGMENTS[:, :5])
    assert batch["positions"].dtype == np.int32


class Scores:
    """A model that returns these logits."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits, self.given = jnp.asarray(logits), SimpleNamespace()

    def __call__(self, *, input_ids: Any, **given: Any) -> Any:
        self.given = SimpleNamespace(**given)
        return self.logits


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_loss_is_summed_over_real_tokens(z_loss: float) -> None:
    logits = np.random.default_rng(0).normal(scale=3.0, size=(3, 5, 10)).astype(np.float32)
    batch, model = LANGUAGE_MODEL.batch(ROWS, SEPARATE), Scores(logits)
    loss = LANGUAGE_MODEL.loss(model, batch, z_loss=z_loss)
    nats = squares = 0.0
    for row, column in zip(*np.nonzero(batch["mask"]), strict=True):
        exps = np.exp(logits[row, column].astype(np.float64))
        nats -= math.log(exps[TOKENS[row, column + 1]] / exps.sum())
        squares += math.log(exps.sum()) ** 2
    np.testing.assert_allclose(loss.nats, nats, rtol=1e-5)
    np.testing.assert_allclose(loss.objective, nats + z_loss * squares, rtol=1e-5)
    assert loss.tokens == batch["mask"].sum() == 8
    np.testing.assert_array_equal(model.given.segment_ids, batch["segment_ids"])
    np.testing.assert_array_equal(model.given.positions, batch["positions"])
    assert model.given.dropout_key is None
    assert model.given.step is None


def test_padding_may_hold_any_logits() -> None:
    logits = np.zeros((3, 5, 10), np.float32)
    batch = LANGUAGE_MODEL.batch(ROWS, TOGETHER)
    logits[~batch["mask"]] = np.inf
    loss = LANGUAGE_MODEL.loss(Scores(logits), batch)
    np.testing.assert_allclose(loss.nats, loss.tokens * math.log(10), rtol=1e-6)


def test_uniform_guessing_costs_eight_bits_a_byte() -> None:
    figures = LANGUAGE_MODEL.metrics(math.log(256), 1.0)
    assert figures["bits_per_byte"] == pytest.approx(8.0)
    assert figures["perplexity"] == pytest.approx(256.0)
    assert figures["loss"] == math.log(256)
    assert LANGUAGE_MODEL.metrics(math.log(256), 4.0)["bits_per_byte"] == pytest.approx(2.0)


def test_perplexity_of_a_broken_model_is_a_number() -> None:
    assert math.isfinite(LANGUAGE_MODEL.metrics(1e6, 1.0)["perplexity"])
