"""What matrices are drawn from, before a placement's gain."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

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
) -> jax.Array:
    """A draw, float32; the last two axes are a matrix's, those before them count layers.

    Args:
        kind: Glorot and Bengio (2010), normal or uniform; LeCun et al. (1998), normal;
            N(0, std); or a normal with its largest singular value brought to 1 (LipsFormer,
            2304.09856).
        fan_in, fan_out: of the matrix product.
        std: of `normal`.
    """
    match kind:
        case "spectral_normal":
            drawn = jax.random.normal(key, shape)
            return drawn / jnp.linalg.norm(drawn, ord=2, axis=(-2, -1), keepdims=True)
        case "xavier_uniform":
            scale = deviation(kind, fan_in=fan_in, fan_out=fan_out, std=std)
            return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * scale * 3.0**0.5
        case _:
            scale = deviation(kind, fan_in=fan_in, fan_out=fan_out, std=std)
            return scale * jax.random.normal(key, shape)


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
