"""The feed-forward sublayer, plain or gated."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers import weight
from zoo.layers.linear import LearnedScale, Linear, Scale
from zoo.layers.norms import Norm, NormSpec

Activation = Literal["gelu", "gelu_tanh", "gelu_sigmoid", "relu", "relu_squared", "silu", "tanh"]


def activate(x: jax.Array, activation: Activation) -> jax.Array:
    """The named activation; exact gelu is written out since that form is faster on CPU."""
    match activation:
        case "gelu":
            return x * (0.5 + 0.5 * jax.lax.erf(x / math.sqrt(2.0)))
        case "gelu_tanh":
            return jax.nn.gelu(x, approximate=True)
        case "gelu_sigmoid":
            return x * jax.nn.sigmoid(1.702 * x)
        case "relu":
            return jnp.maximum(x, 0)
        case "relu_squared":
            return jnp.square(jnp.maximum(x, 0))
        case "silu":
            return jax.nn.silu(x)
        case "tanh":
            return jnp.tanh(x)


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
        input_bias: bool | None = None,
        hidden_scale: Scale | None = None,
        scalar_biases: bool = False,
    ) -> None:
        """Make the weights.

        Args:
            input_bias: of `w1` and `gate`, where `w2` has another; None: `bias`.
            hidden_scale: learned vectors on what enters the activation and the product with it;
                its factor applies to what enters the activation alone (nGPT, 2410.01131).
            scalar_biases: a learned scalar before each operation (Fixup, 1901.09321).
        """
        self.activation: Activation = activation
        into, own = ("embed", "mlp"), bias if input_bias is None else input_bias
        self.w1 = Linear(d_model, d_ff, role="w1", axes=into, bias=own)
        if gated:
            self.gate = Linear(d_model, d_ff, role="w1", axes=into, bias=own)
        if hidden_scale is not None:
            self.hidden_scale = LearnedScale("hidden_scale", (d_ff,), hidden_scale)
            if gated:
                start = Scale(hidden_scale.start)
                self.product_scale = LearnedScale("hidden_scale", (d_ff,), start)
        if scalar_biases:
            self.bias_in = weight.scalar("scalar_bias", kind="bias")
            self.bias_mid = weight.scalar("scalar_bias", kind="bias")
            self.bias_out = weight.scalar("scalar_bias", kind="bias")
        if inner_norm is not None:
            self.inner_norm = Norm(d_ff, inner_norm, role="inner_norm", axis="mlp")
        self.w2 = Linear(d_ff, d_model, role="w2", axes=("mlp", "embed"), bias=bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, d_model] to the same shape."""
        x = self._shifted(x, "bias_in")
        hidden = checkpoint_name(self.w1(x), "pre_activation")
        if hasattr(self, "gate"):
            gate = checkpoint_name(self.gate(x), "pre_activation")
            hidden = self._scaled(hidden, "product_scale")
            hidden = self._activated(gate) * hidden
        else:
            hidden = self._activated(hidden)
        if hasattr(self, "inner_norm"):
            hidden = self.inner_norm(hidden)
        return self.w2(self._shifted(hidden, "bias_out"))

    def _activated(self, x: jax.Array) -> jax.Array:
        x = self._shifted(self._scaled(x, "hidden_scale"), "bias_mid")
        return activate(x, self.activation)

    def _scaled(self, x: jax.Array, name: str) -> jax.Array:
        return x * getattr(self, name).value(x.dtype) if hasattr(self, name) else x

    def _shifted(self, x: jax.Array, name: str) -> jax.Array:
        return x + getattr(self, name)[...].astype(x.dtype) if hasattr(self, name) else x
