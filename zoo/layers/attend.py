"""Averages of values by the softmax of scores.

One reference path of our own serves every option and is the fast one on CPU;
`jax.nn.dot_product_attention`, which XLA fuses there, serves GPU and TPU. Tests hold the
two equal.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from zoo.layers.linear import dropout

Implementation = Literal["auto", "reference", "fused"]

# Scores of masked pairs: finite, so that a fully masked row gives no NaN.
_MASKED = -1e30
# From this length on, causal attention on CPU skips the key blocks that no query
# of a block may see: it halves the work, and below it the extra calls cost more.
_BLOCKED_LENGTH, _BLOCKS = 512, 4


def attend(
    q_bhtd: jax.Array,
    k_bgsd: jax.Array,
    v_bgsd: jax.Array,
    *,
    scale: float,
    causal: bool = False,
    keep: jax.Array | None = None,
    bias: jax.Array | None = None,
    dropout_rate: float = 0.0,
    key: jax.Array | None = None,
    implementation: Implementation = "auto",
    softcap: float | None = None,
) -> jax.Array:
    """softmax(scale q k^T) v per head.

    Args:
        q_bhtd: [batch, heads, length, head_dim].
        k_bgsd, v_bgsd: [batch, kv heads, source length, head_dim]; kv heads divide heads.
        keep: bool, broadcastable to [batch, 1, length, source length]; True sees.
        bias: [batch or 1, heads, length, source length] float32, added to the scores.
        softcap: c of c tanh(score / c), before bias and mask; the fused kernels have none.

    Returns:
        [batch, heads, length, head_dim] in the dtype of v.
    """
    if implementation == "auto":
        plain = (key is None or dropout_rate == 0.0) and softcap is None
        fused = plain and jax.default_backend() != "cpu"
        implementation = "fused" if fused else "reference"
    if implementation == "fused":
        return _fused(q_bhtd, k_bgsd, v_bgsd, scale, causal, keep, bias)
    length, source = q_bhtd.shape[2], k_bgsd.shape[2]
    if not causal:
        return _reference(q_bhtd, k_bgsd, v_bgsd, scale, keep, bias, dropout_rate, key, softcap)
    keep = _behind(length, source, keep)
    blocked = length >= _BLOCKED_LENGTH and length == source and length % _BLOCKS == 0
    if not blocked or key is not None:
        return _reference(q_bhtd, k_bgsd, v_bgsd, scale, keep, bias, dropout_rate, key, softcap)
    size = length // _BLOCKS
    parts = [
        _reference(
            q_bhtd[:, :, start : start + size],
            k_bgsd[:, :, : start + size],
            v_bgsd[:, :, : start + size],
            scale,
            keep[:, :, start : start + size, : start + size],
            None if bias is None else bias[:, :, start : start + size, : start + size],
            0.0,
            None,
            softcap,
        )
        for start in range(0, length, size)
    ]
    return jnp.concatenate(parts, axis=2)


def _reference(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    scale: float,
    keep: jax.Array | None,
    bias: jax.Array | None,
    rate: float,
    key: jax.Array | None,
    softcap: float | None,
) -> jax.Array:
    batch, heads, length, head_dim = q.shape
    groups = k.shape[1]
    if groups != heads:
        # Queries that share a key head become more queries of that head.
        q = q.reshape(batch, groups, heads // groups * length, head_dim)
    scores = _scores(q, k, scale, softcap, one=length == 1)
    if bias is not None:
        scores = scores + bias.reshape(len(bias), *scores.shape[1:])
    if keep is not None:
        if groups != heads:
            # A row for every query first: a mask of the keys alone has one for all.
            keep = jnp.broadcast_to(keep, (*keep.shape[:2], length, keep.shape[3]))
            keep = jnp.tile(keep, (1, 1, heads // groups, 1))
        scores = jnp.where(keep, scores, _MASKED)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = dropout(weights, rate, key).astype(v.dtype)
    # Dividing after the product touches [.., head_dim] instead of [.., source length].
    mixed = _product("nts,nsd->ntd", weights, v, one=length == 1)
    return (mixed / total).astype(v.dtype).reshape(batch, heads, length, head_dim)


def _product(axes: str, a: jax.Array, b: jax.Array, *, one: bool) -> jax.Array:
    """Of every row and head, in float32; `axes` of einsum with n for both.

    Args:
        one: of one query, whose keys were just written: with rows and heads in one axis XLA takes
            them from where they are.
    """
    if not one:
        return jnp.einsum(axes.replace("n", "bh"), a, b, preferred_element_type=jnp.float32)
    flat = (x.reshape(-1, *x.shape[2:]) for x in (a, b))
    made = jnp.einsum(axes, *flat, preferred_element_type=jnp.float32)
    return made.reshape(*a.shape[:2], *made.shape[1:])


def _scores(
    q: jax.Array, k: jax.Array, scale: float, softcap: float | None, *, one: bool = False
) -> jax.Array:
    """[batch, heads, length, source length] float32, before masking."""
    scores = _product("ntd,nsd->nts", q, k, one=one) * scale
    return scores if softcap is None else softcap * jnp.tanh(scores / softcap)


def _behind(length: int, source: int, keep: jax.Array | None) -> jax.Array:
    """The pairs of `keep` (None: all) whose key is not ahead of its query."""
    lower = jnp.tril(jnp.ones((length, source), bool), source - length)[None, None]
    return lower if keep is None else keep & lower


def attention_weights(
    q_bhtd: jax.Array,
    k_bgsd: jax.Array,
    *,
    scale: float,
    causal: bool = False,
    keep: jax.Array | None = None,
    bias: jax.Array | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """The softmax that `attend` takes averages with, [batch, heads, length, source length].

    Float32, without dropout: for looking at, since training never holds it whole.
    """
    groups = q_bhtd.shape[1] // k_bgsd.shape[1]
    scores = _scores(q_bhtd, jnp.repeat(k_bgsd, groups, axis=1), scale, softcap)
    if bias is not None:
        scores = scores + bias
    if causal:
        keep = _behind(q_bhtd.shape[2], k_bgsd.shape[2], keep)
    if keep is not None:
        scores = jnp.where(keep, scores, _MASKED)
    return jax.nn.softmax(scores, axis=-1)


def _fused(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    scale: float,
    causal: bool,
    keep: jax.Array | None,
    bias: jax.Array | None,
) -> jax.Array:
    q, k, v = (array.transpose(0, 2, 1, 3) for array in (q, k, v))
    mixed = jax.nn.dot_product_attention(
        q, k, v, bias=bias, mask=keep, scale=scale, is_causal=causal
    )
    return mixed.transpose(0, 2, 1, 3)
