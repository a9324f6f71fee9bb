"""Multi-head, grouped and multi-query attention.

One reference path of our own serves every option and is the fast one on CPU;
`jax.nn.dot_product_attention`, which XLA fuses there, serves GPU and TPU. Tests hold the
two equal.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers.linear import Linear, dropout
from zoo.layers.norms import Norm, NormSpec
from zoo.layers.positions import rotate

Implementation = Literal["auto", "reference", "fused"]

# Scores of masked pairs: finite, so that a fully masked row gives no NaN.
_MASKED = -1e30
# From this length on, causal attention on CPU skips the key blocks that no query
# of a block may see: it halves the work, and below it the extra calls cost more.
_BLOCKED_LENGTH, _BLOCKS = 512, 4


@dataclasses.dataclass(frozen=True)
class Scope:
    """What the tokens of a call may see; the same for every layer of a stack.

    Attributes:
        causal: whether a position sees only itself and earlier ones.
        mask: [batch, 1, length, length] bool or None; further pairs to keep.
        rotary: (cos, sin) of `rotary_tables`, or None.
        offsets: [batch or 1, 1, length, length] int32 distance query - key for
            windows, or None.
    """

    causal: bool
    mask: jax.Array | None = None
    rotary: tuple[jax.Array, jax.Array] | None = None
    offsets: jax.Array | None = None

    def keep(self, window: jax.Array | int | None) -> jax.Array | None:
        """[batch or 1, 1, length, length] bool of the pairs a layer keeps, or None for all."""
        if window is None or self.offsets is None:
            return self.mask
        near = self.offsets < window
        near = near if self.causal else near & (self.offsets > -window)
        return near if self.mask is None else self.mask & near


def attend(
    q_bhtd: jax.Array,
    k_bgsd: jax.Array,
    v_bgsd: jax.Array,
    *,
    scale: float,
    causal: bool = False,
    keep: jax.Array | None = None,
    dropout_rate: float = 0.0,
    key: jax.Array | None = None,
    implementation: Implementation = "auto",
) -> jax.Array:
    """softmax(scale q k^T) v per head.

    Args:
        q_bhtd: [batch, heads, length, head_dim].
        k_bgsd, v_bgsd: [batch, kv heads, source length, head_dim]; kv heads divide heads.
        keep: bool, broadcastable to [batch, 1, length, source length]; True sees.

    Returns:
        [batch, heads, length, head_dim] in the dtype of v.
    """
    if implementation == "auto":
        plain = key is None or dropout_rate == 0.0
        fused = plain and jax.default_backend() != "cpu"
        implementation = "fused" if fused else "reference"
    if implementation == "fused":
        return _fused(q_bhtd, k_bgsd, v_bgsd, scale, causal, keep)
    length, source = q_bhtd.shape[2], k_bgsd.shape[2]
    if not causal:
        return _reference(q_bhtd, k_bgsd, v_bgsd, scale, keep, dropout_rate, key)
    lower = jnp.tril(jnp.ones((length, source), bool), source - length)[None, None]
    keep = lower if keep is None else keep & lower
    blocked = length >= _BLOCKED_LENGTH and length == source and length % _BLOCKS == 0
    if not blocked or key is not None:
        return _reference(q_bhtd, k_bgsd, v_bgsd, scale, keep, dropout_rate, key)
    size = length // _BLOCKS
    parts = [
        _reference(
            q_bhtd[:, :, start : start + size],
            k_bgsd[:, :, : start + size],
            v_bgsd[:, :, : start + size],
            scale,
            keep[:, :, start : start + size, : start + size],
            0.0,
            None,
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
    rate: float,
    key: jax.Array | None,
) -> jax.Array:
    batch, heads, length, head_dim = q.shape
    groups = k.shape[1]
    if groups != heads:
        # Queries that share a key head become more queries of that head.
        q = q.reshape(batch, groups, heads // groups * length, head_dim)
    scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32) * scale
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
    mixed = jnp.einsum("bhts,bhsd->bhtd", weights, v, preferred_element_type=jnp.float32)
    return (mixed / total).astype(v.dtype).reshape(batch, heads, length, head_dim)


def _fused(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float, causal: bool, keep: jax.Array | None
) -> jax.Array:
    q, k, v = (array.transpose(0, 2, 1, 3) for array in (q, k, v))
    mixed = jax.nn.dot_product_attention(q, k, v, mask=keep, scale=scale, is_causal=causal)
    return mixed.transpose(0, 2, 1, 3)


class Attention(nnx.Module):
    """Attention of a stream to itself, or to `source` (cross-attention, roles `xq xk xv xo`)."""

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        bias: bool,
        qk_norm: NormSpec | None,
        inner_norm: NormSpec | None,
        dropout: float = 0.0,
        implementation: Implementation = "auto",
        cross: bool = False,
    ) -> None:
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.dropout = dropout
        self.implementation: Implementation = implementation
        prefix = "x" if cross else ""
        width, kv_width = num_heads * head_dim, num_kv_heads * head_dim
        into, kv_into = ("embed", "heads"), ("embed", "kv_heads")
        self.q = Linear(d_model, width, role=f"{prefix}q", axes=into, bias=bias)
        self.k = Linear(d_model, kv_width, role=f"{prefix}k", axes=kv_into, bias=bias)
        self.v = Linear(d_model, kv_width, role=f"{prefix}v", axes=kv_into, bias=bias)
        if qk_norm is not None:
            self.q_norm = Norm(head_dim, qk_norm, role="q_norm", axis="head_dim")
            self.k_norm = Norm(head_dim, qk_norm, role="k_norm", axis="head_dim")
        if inner_norm is not None:
            self.inner_norm = Norm(width, inner_norm, role="inner_norm", axis="heads")
        self.o = Linear(width, d_model, role=f"{prefix}o", axes=("heads", "embed"), bias=bias)

    def __call__(
        self,
        x: jax.Array,
        scope: Scope,
        *,
        source: jax.Array | None = None,
        window: jax.Array | int | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[batch, length, d_model] to the same shape; `key` turns attention dropout on."""
        source = x if source is None else source
        q_bhtd = self._heads(self.q(x), self.num_heads)
        k_bgsd = self._heads(self.k(source), self.num_kv_heads)
        v_bgsd = self._heads(self.v(source), self.num_kv_heads)
        if hasattr(self, "q_norm"):
            q_bhtd, k_bgsd = self.q_norm(q_bhtd), self.k_norm(k_bgsd)
        if scope.rotary is not None:
            q_bhtd, k_bgsd = rotate(q_bhtd, scope.rotary), rotate(k_bgsd, scope.rotary)
        mixed_bhtd = attend(
            *(checkpoint_name(array, "qkv") for array in (q_bhtd, k_bgsd, v_bgsd)),
            scale=self.head_dim**-0.5,
            causal=scope.causal,
            keep=scope.keep(window),
            dropout_rate=self.dropout,
            key=key,
            implementation=self.implementation,
        )
        mixed = mixed_bhtd.transpose(0, 2, 1, 3).reshape(*x.shape[:-1], -1)
        mixed = checkpoint_name(mixed, "attention")
        if hasattr(self, "inner_norm"):
            mixed = self.inner_norm(mixed)
        return self.o(mixed)

    def _heads(self, x: jax.Array, heads: int) -> jax.Array:
        return x.reshape(*x.shape[:-1], heads, self.head_dim).transpose(0, 2, 1, 3)
