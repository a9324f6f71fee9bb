"""The matrix product with a declared weight, and dropout."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.layers import weight


class Linear(nnx.Module):
    """`x @ w (+ b)` with w as [in, out], computed in the dtype of x."""

    def __init__(
        self, fan_in: int, fan_out: int, *, role: str, axes: tuple[str, str], bias: bool
    ) -> None:
        self.kernel = weight.matrix(role, fan_in, fan_out, axes)
        if bias:
            self.bias = weight.vector(role, fan_out, axes[1], kind="bias")

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., fan_in] to [..., fan_out]."""
        kernel = self.kernel[...].astype(x.dtype)
        # Two-dimensional products differentiate faster on CPU than batched ones.
        y = (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])
        return y + self.bias[...].astype(x.dtype) if hasattr(self, "bias") else y


@dataclasses.dataclass(frozen=True)
class Scale:
    """A learned scale that is stored at `start` and used times `factor`."""

    start: float = 1.0
    factor: float = 1.0


class LearnedScale(nnx.Module):
    """An array to multiply with, of any shape."""

    def __init__(self, role: str, shape: tuple[int, ...], scale: Scale) -> None:
        self.factor = scale.factor
        axes = tuple("features" for _ in shape)
        self.array = weight.array(role, shape, axes, kind="multiplier", start=scale.start)

    def value(self, dtype: Any) -> jax.Array:
        """What is multiplied with."""
        return (self.array[...] * self.factor).astype(dtype)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout; the identity without a key, so that calls are deterministic."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)


def fold(key: jax.Array | None, number: int) -> jax.Array | None:
    """`jax.random.fold_in` that passes None through."""
    return None if key is None else jax.random.fold_in(key, number)
