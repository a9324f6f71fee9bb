"""What matrices are drawn from, before a placement's gain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Distribution = Literal[
    "xavier_normal", "xavier_uniform", "normal", "lecun_normal", "spectral_normal"
]


def draw(
    key: jax.Array,
    shape: tuple[int, ...],
    kind: Distribution,
    *,
    fan_in: int,
    fan_out: int,
    std: float,
) -> jax.Array | np.ndarray[Any, Any]:
    """A draw, float32; the last two axes are a matrix's, those before them count layers.

    A small one comes as NumPy's array, where nothing is traced: see `sample`.

    Args:
        kind: Glorot and Bengio (2010), normal or uniform; LeCun et al. (1998), normal;
            N(0, std); or a normal with its largest singular value brought to 1 (LipsFormer,
            2304.09856).
        fan_in, fan_out: of the matrix product.
        std: of `normal`.
    """
    match kind:
        case "spectral_normal":
            drawn = sample(jax.random.normal, key, shape)
            return drawn / jnp.linalg.norm(drawn, ord=2, axis=(-2, -1), keepdims=True)
        case "xavier_uniform":
            scale = deviation(kind, fan_in=fan_in, fan_out=fan_out, std=std)
            return sample(_symmetric, key, shape) * scale * 3.0**0.5
        case _:
            scale = deviation(kind, fan_in=fan_in, fan_out=fan_out, std=std)
            return scale * sample(jax.random.normal, key, shape)


# Compiling a draw takes 0.4 s a shape, drawing so many numbers a few hundredths.
_LARGEST = 2**20


def sample(
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array], key: jax.Array, shape: tuple[int, ...]
) -> jax.Array | np.ndarray[Any, Any]:
    """`draw(key, shape)`, compiled for the next power of two: once for many shapes.

    The same bits: an element of a draw depends on its flat index alone, with jax's default
    generator. Above 2**20 elements, in a traced function and with another generator the shape is
    drawn as it is; else the array is NumPy's, so that arithmetic on it compiles nothing either.
    """
    size = math.prod(shape)
    partitionable = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    by_index = partitionable and str(jax.random.key_impl(key)) == "threefry2x32"
    if isinstance(key, jax.core.Tracer) or not by_index or size > _LARGEST:
        return draw(key, shape)
    padded = 1 << max(size - 1, 0).bit_length()
    return np.asarray(draw(key, (padded,)))[:size].reshape(shape)


def _symmetric(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def deviation(kind: Distribution, *, fan_in: int, fan_out: int, std: float) -> float:
    """The standard deviation of a draw's elements; arguments as for `draw`.

    That of `spectral_normal` is the one which large matrices tend to: the largest singular value
    of a standard normal one tends to sqrt(fan_in) + sqrt(fan_out).
    """
    match kind:
        case "normal":
            return std
        case "lecun_normal":
            return float(fan_in**-0.5)
        case "spectral_normal":
            return 1.0 / (fan_in**0.5 + fan_out**0.5)
        case "xavier_normal" | "xavier_uniform":
            return float((2.0 / (fan_in + fan_out)) ** 0.5)
