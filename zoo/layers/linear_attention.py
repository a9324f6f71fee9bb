"""Lightning attention: linear in the length, each head with a decay (2401.04658, 2501.08313)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.errors import ConfigError
from zoo.layers.attention import Scope
from zoo.layers.linear import Linear
from zoo.layers.mlp import Activation, activate
from zoo.layers.norms import Norm, NormSpec

# Tokens that are taken together; only rounding depends on it.
_BLOCK = 256
# The norm's own, whatever the model's others have.
_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class State:
    """What is kept of the tokens before: the decayed sum of k v^T; a pytree.

    Attributes:
        sums: [..., batch, heads, head_dim, head_dim] float32.
    """

    sums: jax.Array

    def of_rows(self, rows: jax.Array) -> State:
        """The state of other rows: [new rows] int32 of the old ones."""
        return State(jnp.take(self.sums, rows, axis=self.sums.ndim - 4))

    def resized(self, slots: int) -> State:
        """The same: it takes no more room for a longer text."""
        return self


jax.tree_util.register_dataclass(State)


def rates(heads: int) -> np.ndarray[Any, Any]:
    """[heads] float32: how fast each head forgets in the first layer, 2^(-8 h / H), as ALiBi's
    slopes (2108.12409)."""
    return (2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)).astype(np.float32)


def share(layer: int, num_layers: int) -> float:
    """A layer's factor on these rates: 1 in the first layer, next to 0 in the last."""
    return 1.0 - layer / (num_layers - 1 + 1e-5) + 1e-5


class LinearAttention(nnx.Module):
    """o(sigmoid(g x) * N(sum over s <= t of e^(-rate (t - s)) (q_t . k_s) v_s))."""

    def __init__(
        self, d_model: int, *, num_heads: int, head_dim: int, activation: Activation
    ) -> None:
        self.num_heads, self.head_dim = num_heads, head_dim
        self.activation: Activation = activation
        width = num_heads * head_dim
        into = ("embed", "heads")
        self.q = Linear(d_model, width, role="q", axes=into, bias=False)
        self.k = Linear(d_model, width, role="k", axes=into, bias=False)
        self.v = Linear(d_model, width, role="v", axes=into, bias=False)
        self.gate = Linear(d_model, width, role="attention_gate", axes=into, bias=False)
        self.norm = Norm(width, NormSpec("rms_norm", _EPS), role="inner_norm", axis="heads")
        self.o = Linear(width, d_model, role="o", axes=("heads", "embed"), bias=False)

    def __call__(self, x: jax.Array, scope: Scope, *, decay: Any) -> jax.Array:
        """[batch, length, d_model] to the same shape.

        Args:
            decay: the layer's `share` of the rates.

        Raises:
            ConfigError: where tokens see others than those before them in their text.
        """
        return self.remember(x, scope, None, decay=decay)[0]

    def remember(
        self, x: jax.Array, scope: Scope, past: State | None, *, decay: Any
    ) -> tuple[jax.Array, State]:
        """A call that keeps what later tokens need of it; arguments as of `Attention`."""
        rate = jnp.asarray(rates(self.num_heads)) * decay
        q, k, v = (self._heads(each(x)) for each in (self.q, self.k, self.v))
        if past is None:
            v = v if (seen := _seen(scope)) is None else v * seen.astype(v.dtype)
            mixed, sums = _mix(q, k, v, rate)
        else:
            kept = jnp.exp(-rate)[:, None, None]
            sums = past.sums * kept + jnp.einsum("bhtd,bhte->bhde", k, v)
            mixed = jnp.einsum("bhtd,bhde->bhte", q, sums)
        mixed = mixed.transpose(0, 2, 1, 3).reshape(*x.shape[:-1], -1).astype(x.dtype)
        gated = jax.nn.sigmoid(self.gate(x)) * self.norm(mixed)
        return self.o(gated), State(sums)

    def weights(self, *_: Any, **__: Any) -> jax.Array:
        """Raise ConfigError: it takes no averages."""
        raise ConfigError("linear attention has no weights to show; leave attention = True out")

    def _heads(self, x: jax.Array) -> jax.Array:
        """Activated, [batch, heads, length, head_dim] float32: sums grow with the length."""
        x = activate(x, self.activation).astype(jnp.float32)
        return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim).transpose(0, 2, 1, 3)


def _seen(scope: Scope) -> jax.Array | None:
    """[batch, 1, length, 1] of the tokens that count, or None for all."""
    if not scope.causal:
        raise ConfigError("linear attention looks back only; use it in a decoder")
    if scope.mask is None:
        return None
    if scope.mask.shape[2] != 1:
        raise ConfigError(
            "segment_ids with linear attention, whose sum runs on from text to text; give each "
            "text a row of its own"
        )
    return scope.mask.transpose(0, 1, 3, 2)


def _mix(q: jax.Array, k: jax.Array, v: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(mixed values, the sum of k v^T after the last token), block by block."""
    batch, heads, length, width = q.shape
    size = min(_BLOCK, length)
    rest = -length % size
    # In front of the first token nothing is summed.
    padded = [jnp.pad(each, ((0, 0), (0, 0), (rest, 0), (0, 0))) for each in (q, k, v)]
    blocks = [
        each.reshape(batch, heads, -1, size, width).transpose(2, 0, 1, 3, 4) for each in padded
    ]
    step = jnp.arange(size)
    apart = (step[:, None] - step[None, :]).astype(jnp.float32)
    within = jnp.where(apart >= 0, jnp.exp(-rate[:, None, None] * jnp.maximum(apart, 0)), 0.0)
    since = jnp.exp(-rate[:, None] * (step + 1.0))[..., None]
    until = jnp.exp(-rate[:, None] * (size - 1.0 - step))[..., None]

    def block(sums: jax.Array, own: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, k, v = own
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k) * within
        mixed = jnp.einsum("bhts,bhsd->bhtd", scores, v)
        mixed = mixed + jnp.einsum("bhtd,bhde->bhte", q * since, sums)
        kept = sums * jnp.exp(-rate * size)[:, None, None]
        return kept + jnp.einsum("bhtd,bhte->bhde", k * until, v), mixed

    start = jnp.zeros((batch, heads, width, width), jnp.float32)
    sums, mixed = jax.lax.scan(block, start, blocks)
    return mixed.transpose(1, 2, 0, 3, 4).reshape(batch, heads, -1, width)[:, :, rest:], sums
