"""Multi-head, grouped and multi-query attention.

One reference path of our own serves every option and is the fast one on CPU;
`jax.nn.dot_product_attention`, which XLA fuses there, serves GPU and TPU. Tests hold the
two equal.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers import weight
from zoo.layers.linear import LearnedScale, Linear, Scale, dropout
from zoo.layers.norms import Norm, NormSpec, unit
from zoo.layers.positions import Rotary, rotate
from zoo.layers.relative import RelativeBias

Implementation = Literal["auto", "reference", "fused"]
NormOver = Literal["head", "per_head", "width"]
AttentionBias = Literal["all", "qkv", "none"]

# Scores of masked pairs: finite, so that a fully masked row gives no NaN.
_MASKED = -1e30
_LARGEST_LOG_SCALE = math.log(100.0)
# From this length on, causal attention on CPU skips the key blocks that no query
# of a block may see: it halves the work, and below it the extra calls cost more.
_BLOCKED_LENGTH, _BLOCKS = 512, 4


@dataclasses.dataclass(frozen=True)
class Scope:
    """What the tokens of a call may see; the same for every layer of a stack.

    Attributes:
        causal: whether a position sees only itself and earlier ones.
        mask: [batch, 1, length, length] bool or None; further pairs to keep.
        rotary: of `rotary_tables`, or None.
        offsets: [batch or 1, 1, length, length] int32 distance query - key for
            windows and relative positions, or None.
        bias: [batch or 1, heads, length, length] float32 that is added to the scores, or None.
        source: what cross-attention reads, [batch, source length, d_model], or None.
        source_mask: [batch, 1, 1, source length] bool of what it may see, or None.
        first_values: the first layer's values, which every layer averages with its own (ResFormer,
            2410.17897), or None.
    """

    causal: bool
    mask: jax.Array | None = None
    rotary: Rotary | None = None
    offsets: jax.Array | None = None
    bias: jax.Array | None = None
    source: jax.Array | None = None
    source_mask: jax.Array | None = None
    first_values: jax.Array | None = None

    def across(self) -> Scope:
        """The scope of cross-attention: every token sees the whole source that may be seen."""
        return Scope(causal=False, mask=self.source_mask)

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
    scores = _scores(q, k, scale, softcap)
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
    mixed = jnp.einsum("bhts,bhsd->bhtd", weights, v, preferred_element_type=jnp.float32)
    return (mixed / total).astype(v.dtype).reshape(batch, heads, length, head_dim)


def _scores(q: jax.Array, k: jax.Array, scale: float, softcap: float | None) -> jax.Array:
    """[batch, heads, length, source length] float32, before masking."""
    scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32) * scale
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


class _HeadNorm(nnx.Module):
    """A norm of [batch, heads, length, head_dim] with a gain for each head, or over all heads."""

    def __init__(
        self,
        spec: NormSpec,
        over: Literal["per_head", "width"],
        heads: int,
        head_dim: int,
        role: str,
    ) -> None:
        self.over: Literal["per_head", "width"] = over
        if over == "per_head":
            self.norm = Norm(head_dim, dataclasses.replace(spec, affine=False), role=role)
            self.gain = weight.array(
                role, (heads, head_dim), ("heads", "head_dim"), kind="gain", start=1.0
            )
        else:
            self.norm = Norm(heads * head_dim, spec, role=role, axis="heads")

    def __call__(self, x_bhtd: jax.Array) -> jax.Array:
        if self.over == "width":
            batch, heads, length, head_dim = x_bhtd.shape
            flat = x_bhtd.transpose(0, 2, 1, 3).reshape(batch, length, heads * head_dim)
            wide = self.norm(flat).reshape(batch, length, heads, head_dim)
            return wide.transpose(0, 2, 1, 3)
        y = self.norm(x_bhtd)
        return y * self.gain[...].astype(y.dtype)[:, None, :]


class Attention(nnx.Module):
    """Attention of a stream to itself, or to `source` (cross-attention, roles `xq xk xv xo`)."""

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        bias: AttentionBias,
        qk_norm: NormSpec | None,
        inner_norm: NormSpec | None,
        dropout: float = 0.0,
        implementation: Implementation = "auto",
        cross: bool = False,
        qk_norm_over: NormOver = "head",
        v_norm: NormSpec | None = None,
        qk_unit: bool = False,
        qk_scale: Scale | None = None,
        scale: float | None = None,
        head_scale: bool = False,
        score_scale: bool = False,
        scalar_biases: bool = False,
        softcap: float | None = None,
        relative: RelativeBias | None = None,
    ) -> None:
        """Make the weights.

        Args:
            bias: which matrices have one; `qkv`: all but the last.
            qk_norm, qk_norm_over: a norm on queries and keys before positions: on each head with
                one gain for all (`head`) or a gain of its own (`per_head`), or on all heads
                together (`width`).
            v_norm: a norm on each head's values.
            qk_unit: queries and keys of unit length, after positions.
            qk_scale: a learned vector on queries and on keys, after that.
            scale: of the scores; None: head_dim^-0.5.
            head_scale: a learned scalar on each head's output (2110.09456).
            score_scale: a learned factor exp(min(s, ln 100)) on each head's scores, 10 at the
                start (2111.09883, section 3.2 and the authors' code).
            scalar_biases: a learned scalar before each matrix (Fixup, 1901.09321).
            softcap: c of c tanh(score / c) (Gemma 2, 2408.00118).
            relative: a bias of the layer's own, in place of the scope's.
        """
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.dropout, self.softcap = dropout, softcap
        self.scale = head_dim**-0.5 if scale is None else scale
        self.implementation: Implementation = implementation
        self.qk_unit = qk_unit
        prefix = "x" if cross else ""
        width, kv_width = num_heads * head_dim, num_kv_heads * head_dim
        into, kv_into, biased = ("embed", "heads"), ("embed", "kv_heads"), bias != "none"
        self.q = Linear(d_model, width, role=f"{prefix}q", axes=into, bias=biased)
        self.k = Linear(d_model, kv_width, role=f"{prefix}k", axes=kv_into, bias=biased)
        self.v = Linear(d_model, kv_width, role=f"{prefix}v", axes=kv_into, bias=biased)
        if qk_norm is not None:
            if qk_norm_over == "head":
                self.q_norm: Norm | _HeadNorm = Norm(
                    head_dim, qk_norm, role="q_norm", axis="head_dim"
                )
                self.k_norm: Norm | _HeadNorm = Norm(
                    head_dim, qk_norm, role="k_norm", axis="head_dim"
                )
            else:
                self.q_norm = _HeadNorm(qk_norm, qk_norm_over, num_heads, head_dim, "q_norm")
                self.k_norm = _HeadNorm(qk_norm, qk_norm_over, num_kv_heads, head_dim, "k_norm")
        if v_norm is not None:
            self.v_norm = Norm(head_dim, v_norm, role="v_norm", axis="head_dim")
        if qk_scale is not None:
            # One vector for queries and keys; grouped keys share theirs as they share heads.
            self.qk_scale = LearnedScale("qk_scale", (num_kv_heads, 1, head_dim), qk_scale)
        if head_scale:
            self.head_scale = weight.vector(
                "head_scale", num_heads, "heads", kind="multiplier", start=1.0
            )
        if score_scale:
            self.score_scale = weight.vector(
                "score_scale", num_heads, "heads", kind="multiplier", start=math.log(10.0)
            )
        if scalar_biases:
            self.bias_in = weight.scalar("scalar_bias", kind="bias")
            self.bias_out = weight.scalar("scalar_bias", kind="bias")
        if relative is not None:
            self.relative = relative
        if inner_norm is not None:
            self.inner_norm = Norm(width, inner_norm, role="inner_norm", axis="heads")
        out = ("heads", "embed")
        self.o = Linear(width, d_model, role=f"{prefix}o", axes=out, bias=bias == "all")

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
        q_bhtd, k_bgsd, v_bgsd = self._project(x, x if source is None else source, scope)
        mixed_bhtd = attend(
            *(checkpoint_name(array, "qkv") for array in (q_bhtd, k_bgsd, v_bgsd)),
            scale=self.scale,
            causal=scope.causal,
            keep=scope.keep(window),
            bias=self._bias(scope),
            dropout_rate=self.dropout,
            key=key,
            implementation=self.implementation,
            softcap=self.softcap,
        )
        if hasattr(self, "head_scale"):
            mixed_bhtd = mixed_bhtd * self.head_scale[...].astype(x.dtype)[:, None, None]
        mixed = mixed_bhtd.transpose(0, 2, 1, 3).reshape(*x.shape[:-1], -1)
        mixed = checkpoint_name(mixed, "attention")
        if hasattr(self, "inner_norm"):
            mixed = self.inner_norm(mixed)
        return self.o(self._shifted(mixed, "bias_out"))

    def weights(
        self,
        x: jax.Array,
        scope: Scope,
        *,
        source: jax.Array | None = None,
        window: jax.Array | int | None = None,
    ) -> jax.Array:
        """The softmax of a call, [batch, heads, length, source length] float32."""
        q_bhtd, k_bgsd, _ = self._project(x, x if source is None else source, scope)
        return attention_weights(
            q_bhtd,
            k_bgsd,
            scale=self.scale,
            causal=scope.causal,
            keep=scope.keep(window),
            bias=self._bias(scope),
            softcap=self.softcap,
        )

    def values(self, source: jax.Array) -> jax.Array:
        """[batch, source length, d_model] to [batch, kv heads, source length, head_dim]."""
        return self._heads(self.v(self._shifted(source, "bias_in")), self.num_kv_heads)

    def _project(
        self, x: jax.Array, source: jax.Array, scope: Scope
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values as they meet: split in heads, normed, turned, scaled."""
        v_bgsd = self.values(source)
        if scope.first_values is not None:
            v_bgsd = 0.5 * (v_bgsd + scope.first_values)
        x, source = self._shifted(x, "bias_in"), self._shifted(source, "bias_in")
        q_bhtd = self._heads(self.q(x), self.num_heads)
        k_bgsd = self._heads(self.k(source), self.num_kv_heads)
        if hasattr(self, "q_norm"):
            q_bhtd, k_bgsd = self.q_norm(q_bhtd), self.k_norm(k_bgsd)
        if hasattr(self, "v_norm"):
            v_bgsd = self.v_norm(v_bgsd)
        if scope.rotary is not None:
            q_bhtd, k_bgsd = rotate(q_bhtd, scope.rotary), rotate(k_bgsd, scope.rotary)
        if self.qk_unit:
            q_bhtd, k_bgsd = unit(q_bhtd), unit(k_bgsd)
        if hasattr(self, "qk_scale"):
            q_bhtd, k_bgsd = self._scaled(q_bhtd), self._scaled(k_bgsd)
        if hasattr(self, "score_scale"):
            factor = jnp.exp(jnp.minimum(self.score_scale[...], _LARGEST_LOG_SCALE))
            q_bhtd = q_bhtd * factor.astype(q_bhtd.dtype)[:, None, None]
        return q_bhtd, k_bgsd, v_bgsd

    def _bias(self, scope: Scope) -> jax.Array | None:
        """What is added to the scores."""
        if not hasattr(self, "relative") or scope.offsets is None:
            return scope.bias
        return self.relative(scope.offsets, causal=scope.causal)

    def _heads(self, x: jax.Array, heads: int) -> jax.Array:
        return x.reshape(*x.shape[:-1], heads, self.head_dim).transpose(0, 2, 1, 3)

    def _scaled(self, x_bhtd: jax.Array) -> jax.Array:
        groups = x_bhtd.shape[1] // self.num_kv_heads
        return x_bhtd * jnp.repeat(self.qk_scale.value(x_bhtd.dtype), groups, axis=0)

    def _shifted(self, x: jax.Array, name: str) -> jax.Array:
        return x + getattr(self, name)[...].astype(x.dtype) if hasattr(self, name) else x
