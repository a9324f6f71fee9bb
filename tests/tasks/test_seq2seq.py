"""Sequence to sequence: ends, padding, and which tokens count."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.data import RowSpec
from zoo.data.tokenizers import ByteTokenizer, vocabulary
from zoo.tasks.seq2seq import SEQ2SEQ

B, E = 256, 257
SPEC = RowSpec(5, vocabulary(ByteTokenizer(), SEQ2SEQ.needs), target_length=4, frame=((), (E,)))
# Short; just as long as there is room for; too long; a row of padding.
ROWS = {
    "first": np.asarray([[7, 8, 0, 0, 0], [1, 2, 3, 4, 0], [1, 2, 3, 4, 5], [0] * 5], np.int32),
    "first_length": np.asarray([2, 4, 9, 0], np.int32),
    "second": np.asarray([[5, 0, 0, 0], [5, 6, 7, 0], [5, 6, 7, 8], [0] * 4], np.int32),
    "second_length": np.asarray([1, 3, 6, 0], np.int32),
}


def test_sources_end_and_targets_begin_and_end() -> None:
    batch = SEQ2SEQ.batch(ROWS, SPEC)
    np.testing.assert_array_equal(
        batch["inputs"], [[7, 8, E, 0, 0], [1, 2, 3, 4, E], [1, 2, 3, 4, E], [0] * 5]
    )
    np.testing.assert_array_equal(batch["attention_mask"].sum(1), [3, 5, 5, 0])
    np.testing.assert_array_equal(
        batch["decoder_inputs"][:3], [[B, 5, E, 0], [B, 5, 6, 7], [B, 5, 6, 7]]
    )
    np.testing.assert_array_equal(
        batch["targets"], [[5, E, 0, 0], [5, 6, 7, E], [5, 6, 7, 8], [0] * 4]
    )
    np.testing.assert_array_equal(batch["mask"].sum(1), [2, 4, 4, 0])


def test_smoothing_is_minimised_and_plain_nats_are_reported() -> None:
    batch = SEQ2SEQ.batch(ROWS, SPEC)
    logits = np.random.default_rng(0).normal(scale=3, size=(4, 4, 258)).astype(np.float32)
    logits[~batch["mask"]] = np.inf
    given = {}

    def model(**arguments: jax.Array) -> jax.Array:
        given.update(arguments)
        return jnp.asarray(logits)

    loss = SEQ2SEQ.loss(model, batch, label_smoothing=0.1, step=jnp.asarray(3))
    real = batch["mask"]
    hard = jax.nn.one_hot(batch["targets"][real], 258)
    smooth = optax.softmax_cross_entropy(logits[real], optax.smooth_labels(hard, 0.1))
    np.testing.assert_allclose(loss.objective, smooth.sum(), rtol=1e-5)
    plain = optax.softmax_cross_entropy(logits[real], hard)
    np.testing.assert_allclose(loss.nats, plain.sum(), rtol=1e-5)
    assert loss.tokens == 10
    np.testing.assert_array_equal(given["decoder_input_ids"], batch["decoder_inputs"])
    np.testing.assert_array_equal(given["attention_mask"], batch["attention_mask"])
    assert given["step"] == 3


def test_figures_are_of_the_target() -> None:
    figures = SEQ2SEQ.metrics(math.log(16), 2.0)
    assert figures["bits_per_byte"] == pytest.approx(2.0)
    assert figures["perplexity"] == pytest.approx(16.0)
