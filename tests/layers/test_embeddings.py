"""Embeddings, positions that are added, and the tied head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.embeddings import Embedding, Positions
from zoo.layers.positions import sinusoidal

VOCAB, WIDTH, LONGEST = 11, 6, 9


def make(positions: Positions, *, scale: bool) -> tuple[Embedding, dict[str, jax.Array]]:
    embedding = Embedding(VOCAB, WIDTH, positions=positions, max_length=LONGEST, scale=scale)
    shapes, weights = weight.split(embedding)
    assert all(w.kind == "embedding" for w in weights.values())
    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=a.shape), jnp.float32) for k, a in shapes.items()}
    return weight.bind(embedding, params), params


@pytest.mark.parametrize(
    "positions", ["learned", "sinusoidal", "sinusoidal_fairseq", "rotary", "none"]
)
@pytest.mark.parametrize("scale", [False, True])
def test_embedding_is_the_scaled_row_plus_an_unscaled_position(
    positions: Positions, scale: bool
) -> None:
    embedding, params = make(positions, scale=scale)
    ids, places = jnp.asarray([[3, 3, 10]]), jnp.asarray([[0, 8, 2]])
    want = np.asarray(params["tokens"])[np.asarray(ids)] * (WIDTH**0.5 if scale else 1.0)
    if positions == "learned":
        want = want + np.asarray(params["table"])[np.asarray(places)]
    if positions.startswith("sinusoidal"):
        want = want + np.asarray(sinusoidal(places, WIDTH, positions))
    assert set(params) == ({"tokens", "table"} if positions == "learned" else {"tokens"})
    np.testing.assert_allclose(embedding(ids, places), want, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tied_head_is_the_unscaled_table_in_float32(dtype: jnp.dtype) -> None:
    embedding, params = make("none", scale=True)
    hidden = jax.random.normal(jax.random.key(0), (2, 3, WIDTH)).astype(dtype)
    logits = embedding.attend(hidden)
    assert logits.dtype == jnp.float32
    table = np.asarray(params["tokens"].astype(dtype), np.float64)
    np.testing.assert_allclose(logits, np.asarray(hidden, np.float64) @ table.T, atol=1e-5)
