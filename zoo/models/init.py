"""Initial values of every weight, from its declaration and the placement."""

from __future__ import annotations

import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.errors import ConfigError
from zoo.layers.norms import unit
from zoo.layers.weight import Weight, map_weights
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
        factor = _initial(placement, weight, shape.shape)
        name = "/".join(str(part.key) for part in path)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        match weight.kind:
            case "gain" | "multiplier" | "bias":
                return jnp.broadcast_to(factor, shape.shape)
            case "embedding":
                return factor * sizes.embedding_std * jax.random.normal(own, shape.shape)
            case "matrix":
                kind = placement.base_init or config.init
                return factor * _base(own, shape.shape, weight, kind, config.init_std)

    params: dict[str, Any] = jax.tree_util.tree_map_with_path(draw, weights, shapes)
    return on_sphere(weights, params) if "sphere" in placement.hooks else params


def on_sphere(weights: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Every matrix and embedding with unit length along the width of the stream (2410.01131)."""

    def project(weight: Weight, array: jax.Array) -> jax.Array:
        if weight.kind not in ("matrix", "embedding") or "embed" not in weight.axes:
            return array
        return unit(array, weight.axes.index("embed") + weight.stacked, eps=0.0)

    projected: dict[str, Any] = map_weights(project, weights, params)
    return projected


def _initial(placement: Placement, weight: Weight, shape: tuple[int, ...]) -> jax.Array:
    """`Placement.initial` in a shape that broadcasts to the weight's."""
    values = np.asarray(placement.initial(weight), np.float32)
    if not weight.stacked:
        values = values[0]
    # One number for a layer, or one for each of its elements.
    own = shape[1:] if weight.stacked else shape
    layers = shape[:1] if weight.stacked else ()
    each = own if values.size > math.prod(layers) else (1,) * len(own)
    return jnp.asarray(values.reshape(*layers, *each))


def _base(
    key: jax.Array, shape: tuple[int, ...], weight: Weight, kind: str, init_std: float
) -> jax.Array:
    """A draw of the base distribution.

    Glorot and Bengio (2010), normal or uniform; LeCun et al. (1998), normal; N(0, init_std);
    or Glorot's normal with its largest singular value brought to 1 (LipsFormer, 2304.09856).
    """
    std = (2.0 / (weight.fan_in + weight.fan_out)) ** 0.5
    match kind:
        case "normal":
            return init_std * jax.random.normal(key, shape)
        case "lecun_normal":
            return weight.fan_in**-0.5 * jax.random.normal(key, shape)
        case "spectral_normal":
            drawn = jax.random.normal(key, shape)
            return drawn / jnp.linalg.norm(drawn, ord=2, axis=(-2, -1), keepdims=True)
        case "xavier_normal":
            return std * jax.random.normal(key, shape)
        case "xavier_uniform":
            return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * std * 3.0**0.5
    raise ConfigError(f"init = {kind!r} is not known")
