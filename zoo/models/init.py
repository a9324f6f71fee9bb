"""Initial values of every weight, from its declaration and the placement."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp

from zoo.layers.weight import Weight
from zoo.models.config import ModelConfig
from zoo.variants.placement import Placement


def initial_params(
    shapes: dict[str, Any],
    weights: dict[str, Any],
    config: ModelConfig,
    placement: Placement,
    key: jax.Array,
) -> dict[str, Any]:
    """Parameters of a model.

    Matrices are drawn from the architecture's base distribution times the placement's
    gain for their role and layer; gains and learned multipliers start at the
    placement's value, biases at 0. A weight's draw depends on its place in the tree
    and the key alone.

    Args:
        shapes, weights: as `zoo.layers.weight.split` returns them.
    """

    sizes = config.sizes()

    def draw(path: tuple[Any, ...], weight: Weight, shape: Any) -> jax.Array:
        factors = jnp.asarray(placement.initial(weight), jnp.float32)
        column = factors.reshape(-1, *(1 for _ in weight.axes))
        factor = column if weight.stacked else column[0]
        name = "/".join(str(part.key) for part in path)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        match weight.kind:
            case "bias":
                return jnp.zeros(shape.shape, jnp.float32)
            case "gain" | "multiplier":
                return jnp.broadcast_to(factor, shape.shape)
            case "embedding":
                return factor * sizes.embedding_std * jax.random.normal(own, shape.shape)
            case "matrix":
                return factor * _base(own, shape.shape, weight, config)

    return jax.tree_util.tree_map_with_path(draw, weights, shapes)


def _base(key: jax.Array, shape: tuple[int, ...], weight: Weight, config: ModelConfig) -> jax.Array:
    """Glorot and Bengio (2010), normal or uniform, or N(0, init_std)."""
    std = (2.0 / (weight.fan_in + weight.fan_out)) ** 0.5
    match config.init:
        case "normal":
            return config.init_std * jax.random.normal(key, shape)
        case "xavier_normal":
            return std * jax.random.normal(key, shape)
        case "xavier_uniform":
            return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * std * 3.0**0.5
