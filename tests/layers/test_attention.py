"""Attention against a float64 softmax, the library's own function and its invariances."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.attend import Implementation, attend
from zoo.layers.attention import Attention, Scope

BATCH, HEADS, LENGTH, HEAD_DIM = 2, 4, 8, 6
SCALE = HEAD_DIM**-0.5


def draw(kv_heads: int = HEADS, length: int = LENGTH, source: int | None = None) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(HEADS, length)] + [(kv_heads, source or length)] * 2
    return [
        jax.random.normal(key, (BATCH, *shape, HEAD_DIM))
        for key, shape in zip(keys, shapes, strict=True)
    ]


def by_hand(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    keep: np.ndarray | None = None,
    bias: np.ndarray | float = 0.0,
) -> np.ndarray:
    """softmax(scale q k^T) v with key heads repeated, in float64."""
    q, k, v = (np.asarray(array, np.float64) for array in (q, k, v))
    k, v = (np.repeat(array, q.shape[1] // array.shape[1], axis=1) for array in (k, v))
    scores = q @ k.swapaxes(-1, -2) * SCALE + bias
    if keep is not None:
        scores = np.where(keep, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


LOWER = np.tril(np.ones((LENGTH, LENGTH), bool))[None, None]


@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize("kv_heads", [HEADS, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_the_softmax_over_repeated_key_heads(
    implementation: Implementation, kv_heads: int, causal: bool
) -> None:
    q, k, v = draw(kv_heads)
    got = attend(q, k, v, scale=SCALE, causal=causal, implementation=implementation)
    np.testing.assert_allclose(got, by_hand(q, k, v, LOWER if causal else None), atol=2e-6)


@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(BATCH, 1, LENGTH, LENGTH), (BATCH, 1, 1, LENGTH)])
def test_masked_pairs_have_no_part(
    implementation: Implementation, kv_heads: int, causal: bool, shape: tuple[int, ...]
) -> None:
    q, k, v = draw(kv_heads)
    keep = np.random.default_rng(0).random(shape) < 0.7
    keep[..., 0] = True  # every row sees something
    got = attend(
        q, k, v, scale=SCALE, causal=causal, keep=jnp.asarray(keep), implementation=implementation
    )
    np.testing.assert_allclose(got, by_hand(q, k, v, keep & LOWER if causal else keep), atol=2e-6)


@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("batch", [BATCH, 1])
def test_a_bias_is_added_to_the_scores_of_its_head(
    implementation: Implementation, kv_heads: int, causal: bool, batch: int
) -> None:
    q, k, v = draw(kv_heads)
    bias = np.random.default_rng(1).normal(size=(batch, HEADS, LENGTH, LENGTH)).astype(np.float32)
    got = attend(
        q, k, v, scale=SCALE, causal=causal, bias=jnp.asarray(bias), implementation=implementation
    )
    np.testing.assert_allclose(got, by_hand(q, k, v, LOWER if causal else None, bias), atol=2e-6)


def test_queries_may_be_fewer_than_keys() -> None:
    # Decoding: the last queries of a causal sequence.
    q, k, v = draw()
    got = attend(q[:, :, -3:], k, v, scale=SCALE, causal=True)
    np.testing.assert_allclose(got, by_hand(q, k, v, LOWER)[:, :, -3:], atol=2e-6)


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_long_causal_attention_in_blocks_is_the_same(kv_heads: int) -> None:
    keys = jax.random.split(jax.random.key(1), 3)
    q = jax.random.normal(keys[0], (1, 2, 512, 4))
    k, v = (jax.random.normal(key, (1, kv_heads, 512, 4)) for key in keys[1:])
    segments = jnp.arange(512)[None] // 200
    keep = (segments[:, :, None] == segments[:, None, :])[:, None]
    lower = jnp.tril(jnp.ones((512, 512), bool))[None, None]
    bias = jax.random.normal(jax.random.key(2), (1, 2, 512, 512))
    for mask, added in ((None, None), (keep, None), (keep, bias)):
        blocked = attend(
            q,
            k,
            v,
            scale=0.5,
            causal=True,
            keep=mask,
            bias=added,
            implementation="reference",
        )
        whole = attend(
            q,
            k,
            v,
            scale=0.5,
            keep=lower if mask is None else lower & mask,
            bias=added,
            implementation="reference",
        )
        np.testing.assert_allclose(blocked, whole, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_a_row_that_sees_nothing_is_finite_with_finite_gradients(causal: bool) -> None:
    q, k, v = draw()
    keep = jnp.ones((BATCH, 1, LENGTH, LENGTH), bool).at[:, :, 3].set(False)

    def total(arrays: list[jax.Array]) -> jax.Array:
        out = attend(*arrays, scale=SCALE, causal=causal, keep=keep, implementation="reference")
        return jnp.sum(out**2)

    value, gradients = jax.value_and_grad(total)([q, k, v])
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_large_scores_do_not_overflow() -> None:
    q, k, v = draw()
    got = attend(1e3 * q, 1e3 * k, v, scale=SCALE, causal=True)
    np.testing.assert_allclose(got, by_hand(1e3 * q, 1e3 * k, v, LOWER), atol=1e-5)


def test_attention_dropout_keeps_the_expectation() -> None:
    rate, heads, length = 0.25, 8, 64
    q = k = jnp.zeros((4, heads, length, 2))
    v = jnp.ones((4, heads, length, 2))
    out = attend(q, k, v, scale=1.0, dropout_rate=rate, key=jax.random.key(0))
    # Each output is a mean of `length` weights that are 0 or 1 / (1 - rate).
    error = np.sqrt(rate / (1 - rate) / (4 * heads * length * length))
    assert abs(float(out.mean()) - 1.0) < 5 * error
    assert float(out.std()) == pytest.approx(np.sqrt(rate / (1 - rate) / length), rel=0.1)
    np.testing.assert_array_equal(out[..., 0], out[..., 1])  # weights drop out, not channels


def test_attention_dropout_needs_a_key() -> None:
    q, k, v = draw()
    np.testing.assert_array_equal(
        attend(q, k, v, scale=SCALE, dropout_rate=0.5), attend(q, k, v, scale=SCALE)
    )


def test_bfloat16_attention_is_close_to_float32() -> None:
    q, k, v = (array.astype(jnp.bfloat16) for array in draw())
    got = attend(q, k, v, scale=SCALE, causal=True)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(got, np.float32), by_hand(q, k, v, LOWER), atol=0.03)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [1, 3, LENGTH])
def test_a_window_keeps_its_nearest_positions(causal: bool, window: int) -> None:
    distance = np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None, :]
    offsets = jnp.asarray(distance, jnp.int32)[None, None]
    keep = Scope(causal, offsets=offsets).keep(window)
    assert keep is not None
    seen = np.asarray(keep)[0, 0] & (np.tril(np.ones_like(distance, bool)) if causal else True)
    want = (distance < window) & (distance >= 0 if causal else distance > -window)
    np.testing.assert_array_equal(seen, want)
    if causal:  # window positions, the query's own among them
        np.testing.assert_array_equal(seen.sum(-1), np.minimum(np.arange(LENGTH) + 1, window))


def module(*, cross: bool = False, kv_heads: int = 2) -> Attention:
    attention = Attention(
        8,
        num_heads=2,
        num_kv_heads=kv_heads,
        head_dim=4,
        bias="all",
        qk_norm=None,
        inner_norm=None,
        cross=cross,
    )
    shapes, _ = weight.split(attention)
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    drawn = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return weight.bind(attention, jax.tree.unflatten(treedef, drawn))


def test_cross_attention_reads_keys_and_values_from_its_source() -> None:
    x = jax.random.normal(jax.random.key(3), (2, 3, 8))
    source = jax.random.normal(jax.random.key(4), (2, 5, 8))
    attention, scope = module(cross=True), Scope(causal=False)
    params, weights = weight.split(attention)
    assert {weights[name]["kernel"].role for name in "qkvo"} == {"xq", "xk", "xv", "xo"}

    def project(name: str, y: jax.Array) -> jax.Array:
        out = y @ params[name]["kernel"] + params[name]["bias"]
        return out.reshape(*y.shape[:2], 2, 4).transpose(0, 2, 1, 3)

    mixed = attend(project("q", x), project("k", source), project("v", source), scale=0.5)
    want = (
        mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ params["o"]["kernel"] + params["o"]["bias"]
    )
    np.testing.assert_allclose(attention(x, scope, source=source), want, atol=1e-5)
    np.testing.assert_array_equal(attention(x, scope, source=x), module()(x, scope))


def test_attention_without_positions_does_not_care_about_order() -> None:
    x = jax.random.normal(jax.random.key(5), (1, 6, 8))
    order = np.random.default_rng(0).permutation(6)
    attention, scope = module(kv_heads=1), Scope(causal=False)
    np.testing.assert_allclose(
        attention(x[:, order], scope), attention(x, scope)[:, order], atol=1e-5
    )
