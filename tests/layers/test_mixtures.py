"""Linear attention and experts against loops over tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from zoo.errors import ConfigError
from zoo.layers import linear_attention
from zoo.layers.attention import Scope
from zoo.layers.experts import Experts
from zoo.layers.linear_attention import LinearAttention, rates, share
from zoo.models.config import ModelConfig
from zoo.models.transformer import build, declare

BATCH, LENGTH, WIDTH = 2, 11, 8


def drawn(module: nnx.Module, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        param.set_value(jnp.asarray(rng.normal(size=param.get_value().shape), jnp.float32))


@pytest.fixture
def x() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (BATCH, LENGTH, WIDTH))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def sum_by_sum(layer: LinearAttention, x: np.ndarray, decay: float) -> np.ndarray:
    """The recurrence, a token at a time."""
    q, k, v, gate, o = (
        np.asarray(each.kernel[...]) for each in (layer.q, layer.k, layer.v, layer.gate, layer.o)
    )
    heads = [np.split(silu(x @ each), layer.num_heads, axis=-1) for each in (q, k, v)]
    mixed = []
    for rate, query, key, value in zip(rates(layer.num_heads) * decay, *heads, strict=True):
        kept, rows = np.zeros((BATCH, key.shape[-1], key.shape[-1])), []
        for t in range(x.shape[1]):
            kept = kept * np.exp(-rate) + key[:, t, :, None] * value[:, t, None, :]
            rows.append(np.einsum("bd,bde->be", query[:, t], kept))
        mixed.append(np.stack(rows, axis=1))
    joined = np.concatenate(mixed, axis=-1)
    joined = joined / np.sqrt((joined**2).mean(-1, keepdims=True) + 1e-6)
    joined = joined * np.asarray(layer.norm.gain[...])
    return (joined / (1 + np.exp(-(x @ gate)))) @ o


@pytest.mark.parametrize("block", [3, 4, 256])
def test_blocks_sum_what_a_loop_over_tokens_sums(
    x: jax.Array, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_attention, "_BLOCK", block)
    layer = LinearAttention(WIDTH, num_heads=2, head_dim=3, activation="silu")
    drawn(layer)
    found = layer(x, Scope(causal=True), decay=share(1, 4))
    expected = sum_by_sum(layer, np.asarray(x, np.float64), share(1, 4))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_padding_adds_nothing(x: jax.Array) -> None:
    layer = LinearAttention(WIDTH, num_heads=2, head_dim=4, activation="silu")
    drawn(layer)
    mask = jnp.asarray([0, 0, 0] + [1] * (LENGTH - 3), bool)[None, None, None].repeat(BATCH, 0)
    padded = layer(x, Scope(causal=True, mask=mask), decay=1.0)[:, 3:]
    np.testing.assert_allclose(padded, layer(x[:, 3:], Scope(causal=True), decay=1.0), atol=1e-4)


def test_what_linear_attention_cannot_do_is_said(x: jax.Array) -> None:
    layer = LinearAttention(WIDTH, num_heads=2, head_dim=4, activation="silu")
    with pytest.raises(ConfigError, match="looks back only"):
        layer(x, Scope(causal=False), decay=1.0)
    with pytest.raises(ConfigError, match="segment_ids"):
        layer(x, Scope(causal=True, mask=jnp.ones((1, 1, LENGTH, LENGTH), bool)), decay=1.0)
    config = ModelConfig(attention_pattern="L", variant="ngpt", d_model=8, num_layers=1)
    with pytest.raises(ConfigError, match="linear attention has none"):
        declare(config)


@pytest.mark.parametrize("renormalised", [True, False])
def test_experts_are_a_weighted_sum_of_those_chosen(x: jax.Array, renormalised: bool) -> None:
    layer = Experts(WIDTH, 5, count=4, chosen=2, renormalised=renormalised, activation="silu")
    drawn(layer)
    router, gate, w1, w2 = (
        np.asarray(each[...]) for each in (layer.router.kernel, layer.gate, layer.w1, layer.w2)
    )
    expected = np.zeros((BATCH * LENGTH, WIDTH))
    for row, token in enumerate(np.asarray(x, np.float64).reshape(-1, WIDTH)):
        shares = np.exp(token @ router)
        shares /= shares.sum()
        chosen = np.argsort(-shares)[:2]
        total = shares[chosen].sum() if renormalised else 1.0
        for own in chosen:
            out = (silu(token @ gate[own]) * (token @ w1[own])) @ w2[own]
            expected[row] += shares[own] / total * out
    np.testing.assert_allclose(layer(x), expected.reshape(x.shape), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("variant", ["post_norm", "deep_norm", "minimax_post_norm"])
def test_mixtures_learn_in_every_layer(variant: str) -> None:
    config = ModelConfig(
        variant=variant,
        vocab_size=11,
        d_model=8,
        num_layers=4,
        num_heads=2,
        d_ff=6,
        attention_pattern="SL",
        num_experts=3,
        gated=True,
        bias=False,
        max_length=8,
    )
    model = build(config, jax.random.key(0))
    ids = jnp.arange(8)[None]
    graph, params = nnx.split(model, nnx.Param)
    gradient = jax.grad(lambda p: jnp.sum(jnp.square(nnx.merge(graph, p)(ids))))(params)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(np.asarray(leaf.get_value())).all(), path
        assert float(jnp.abs(leaf.get_value()).max()) > 0, path
