"""The feed-forward sublayer, plain or gated."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers.linear import Linear
from zoo.layers.norms import Norm, NormSpec

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def activate(x: jax.Array, activation: Activation) -> jax.Array:
    """The named activation; exact gelu is written out since that form is faster on CPU."""
    match activation:
        case "gelu":
            return x * (0.5 + 0.5 * jax.lax.erf(x / math.sqrt(2.0)))
        case "gelu_tanh":
            return jax.nn.gelu(x, approximate=True)
        case "relu":
            return jnp.maximum(x, 0)
        case "silu":
            return jax.nn.silu(x)


class MLP(nnx.Module):
    """`w2(act(w1 x))`, or `w2(act(gate x) * w1 x)` when gated (GLU variants, 2002.05202)."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: Activation,
        gated: bool,
        bias: bool,
        inner_norm: NormSpec | None,
    ) -> None:
        self.activation: Activation = activation
        into = ("embed", "mlp")
        self.w1 = Linear(d_model, d_ff, role="w1", axes=into, bias=bias)
        if gated:
            self.gate = Linear(d_model, d_ff, role="w1", axes=into, bias=bias)
        if inner_norm is not None:
            self.inner_norm = Norm(d_ff, inner_norm, role="inner_norm", axis="mlp")
        self.w2 = Linear(d_ff, d_model, role="w2", axes=("mlp", "embed"), bias=bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, d_model] to the same shape."""
        hidden = checkpoint_name(self.w1(x), "pre_activation")
        if hasattr(self, "gate"):
            gate = checkpoint_name(self.gate(x), "pre_activation")
            hidden = activate(gate, self.activation) * hidden
        else:
            hidden = activate(hidden, self.activation)
        if hasattr(self, "inner_norm"):
            hidden = self.inner_norm(hidden)
        return self.w2(hidden)
