"""Multi-head, grouped and multi-query attention as a branch, with its weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers import weight
from zoo.layers.attend import Implementation, attend, attention_weights
from zoo.layers.linear import LearnedScale, Linear, Scale
from zoo.layers.norms import Norm, NormSpec, unit
from zoo.layers.past import Past
from zoo.layers.positions import Rotary, rotate
from zoo.layers.relative import RelativeBias

NormOver = Literal["head", "per_head", "width"]
AttentionBias = Literal["all", "qkv", "qvo", "out", "none"]

_LARGEST_LOG_SCALE = math.log(100.0)


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
        index: [] int32: which token of a text the one of a call is, whose attention has a `Past`;
            mask, offsets and bias are then of it and of all the text. None otherwise.
    """

    causal: bool
    mask: jax.Array | None = None
    rotary: Rotary | None = None
    offsets: jax.Array | None = None
    bias: jax.Array | None = None
    source: jax.Array | None = None
    source_mask: jax.Array | None = None
    first_values: jax.Array | None = None
    index: jax.Array | None = None

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
            bias: which matrices have one; `qkv`: all but the last, `qvo`: all but that of keys,
                `out`: the last alone.
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
        into, kv_into = ("embed", "heads"), ("embed", "kv_heads")
        biased = "qkvo" if bias == "all" else {"out": "o", "none": ""}.get(bias, bias)
        self.q = Linear(d_model, width, role=f"{prefix}q", axes=into, bias="q" in biased)
        self.k = Linear(d_model, kv_width, role=f"{prefix}k", axes=kv_into, bias="k" in biased)
        self.v = Linear(d_model, kv_width, role=f"{prefix}v", axes=kv_into, bias="v" in biased)
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
        self.o = Linear(width, d_model, role=f"{prefix}o", axes=out, bias="o" in biased)

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
        q_bhtd = self._queries(x, scope)
        k_bgsd, v_bgsd = self._keys(x if source is None else source, scope)
        keep = scope.keep(window)
        return self._mixed(
            x,
            (q_bhtd, k_bgsd, v_bgsd),
            keep=keep,
            bias=self._bias(scope),
            causal=scope.causal,
            key=key,
        )

    def remember(
        self,
        x: jax.Array,
        scope: Scope,
        past: Past | None,
        *,
        source: jax.Array | None = None,
        window: jax.Array | int | None = None,
    ) -> tuple[jax.Array, Past]:
        """A call that keeps what later tokens need of it.

        Args:
            past: None where `x` begins the text, and is all of it so far; otherwise what was kept
                before, and `x` is the one token that comes next, `scope.index`.

        Returns:
            What a call of the whole text gives for `x`, [batch, length, d_model], and the past
            with it.
        """
        q_bhtd, keep, bias = self._queries(x, scope), scope.keep(window), self._bias(scope)
        if past is None:
            keys, values = self._keys(x if source is None else source, scope)
            made = Past.of(keys, values, grows=source is None)
        elif past.grows:
            assert scope.index is not None, "one token, and no place for it"
            made = past.written(*self._keys(x, scope), scope.index)
            filled = made.filled(scope.index)[None, None, None]
            keep = filled if keep is None else made.held(scope.index, keep) & filled
            bias = None if bias is None else made.held(scope.index, bias)
        else:
            made = past
        mixed = self._mixed(
            x,
            (q_bhtd, *made.apart()),
            keep=keep,
            bias=bias,
            causal=past is None and scope.causal,
        )
        return mixed, made

    def _mixed(
        self,
        x: jax.Array,
        heads: tuple[jax.Array, jax.Array, jax.Array],
        *,
        keep: jax.Array | None,
        bias: jax.Array | None,
        causal: bool,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """From queries, keys and values to the branch's output, of the shape of `x`."""
        mixed_bhtd = attend(
            *(checkpoint_name(array, "qkv") for array in heads),
            scale=self.scale,
            causal=causal,
            keep=keep,
            bias=bias,
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
        return attention_weights(
            self._queries(x, scope),
            self._keys(x if source is None else source, scope)[0],
            scale=self.scale,
            causal=scope.causal,
            keep=scope.keep(window),
            bias=self._bias(scope),
            softcap=self.softcap,
        )

    def values(self, source: jax.Array) -> jax.Array:
        """[batch, source length, d_model] to [batch, kv heads, source length, head_dim]."""
        return self._heads(self.v(self._shifted(source, "bias_in")), self.num_kv_heads)

    def _queries(self, x: jax.Array, scope: Scope) -> jax.Array:
        """Queries as they meet keys: split in heads, normed, turned, scaled."""
        q_bhtd = self._heads(self.q(self._shifted(x, "bias_in")), self.num_heads)
        if hasattr(self, "q_norm"):
            q_bhtd = self.q_norm(q_bhtd)
        q_bhtd = self._placed(q_bhtd, scope)
        if hasattr(self, "score_scale"):
            factor = jnp.exp(jnp.minimum(self.score_scale[...], _LARGEST_LOG_SCALE))
            q_bhtd = q_bhtd * factor.astype(q_bhtd.dtype)[:, None, None]
        return q_bhtd

    def _keys(self, source: jax.Array, scope: Scope) -> tuple[jax.Array, jax.Array]:
        """Keys as they meet queries, and values."""
        v_bgsd = self.values(source)
        if scope.first_values is not None:
            v_bgsd = 0.5 * (v_bgsd + scope.first_values)
        k_bgsd = self._heads(self.k(self._shifted(source, "bias_in")), self.num_kv_heads)
        if hasattr(self, "k_norm"):
            k_bgsd = self.k_norm(k_bgsd)
        if hasattr(self, "v_norm"):
            v_bgsd = self.v_norm(v_bgsd)
        return self._placed(k_bgsd, scope), v_bgsd

    def _placed(self, x_bhtd: jax.Array, scope: Scope) -> jax.Array:
        """Queries or keys with their positions, and what comes after those."""
        if scope.rotary is not None:
            x_bhtd = rotate(x_bhtd, scope.rotary)
        if self.qk_unit:
            x_bhtd = unit(x_bhtd)
        return self._scaled(x_bhtd) if hasattr(self, "qk_scale") else x_bhtd

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
