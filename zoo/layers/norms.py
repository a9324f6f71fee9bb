"""Normalisation layers; statistics are always taken in float32."""

from __future__ import annotations

import dataclasses
from typing import Literal, assert_never

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.settings import check_types

NormKind = Literal["layer_norm", "rms_norm"]


@dataclasses.dataclass(frozen=True)
class NormSpec:
    """An architecture's kind of norm: what every slot of a placement is filled with.

    Attributes:
        kind: `layer_norm` (Ba et al. 2016) or `rms_norm` (Zhang and Sennrich 2019).
        eps: added to the variance (or mean square) before the root.
        bias: whether a layer norm has a shift; rms norms never have.

    Raises:
        ConfigError: on another kind, or an eps that is not above 0.
    """

    kind: NormKind = "layer_norm"
    eps: float = 1e-5
    bias: bool = True

    def __post_init__(self) -> None:
        check_types(self, "norm.")
        if not self.eps > 0.0:
            raise ConfigError(f"norm.eps = {self.eps}: must be above 0")


class Norm(nnx.Module):
    """LayerNorm or RMSNorm over the last axis, with a gain and perhaps a bias."""

    def __init__(self, size: int, spec: NormSpec, *, role: str, axis: str = "embed") -> None:
        self.spec = spec
        self.gain = weight.vector(role, size, axis, kind="gain")
        if spec.bias and spec.kind == "layer_norm":
            self.bias = weight.vector(role, size, axis, kind="bias")

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., size] to the same shape and dtype."""
        y = x.astype(jnp.float32)
        match self.spec.kind:
            case "layer_norm":
                y = y - jnp.mean(y, axis=-1, keepdims=True)
            case "rms_norm":
                pass
            case unknown:
                assert_never(unknown)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.spec.eps)
        y = y * self.gain[...]
        if hasattr(self, "bias"):
            y = y + self.bias[...]
        return y.astype(x.dtype)
