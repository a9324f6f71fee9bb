"""Initial values of every weight, from its declaration and the placement."""

from __future__ import annotations

import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.layers.distributions import draw, sample
from zoo.layers.norms import unit
from zoo.layers.weight import QKV, Weight, map_weights
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
    gain for their role and layer, those that make queries, keys and values times
    `qkv_gain`; gains and learned multipliers start at the placement's value, biases at 0.
    A weight's draw depends on its place in the tree and the key alone.

    Args:
        shapes, weights: as `zoo.layers.weight.split` returns them.
    """

    sizes = config.sizes()
    # Traced, an array of NumPy would be written out in the program.
    broadcast_to = jnp.broadcast_to if isinstance(key, jax.core.Tracer) else np.broadcast_to

    # In NumPy as far as `sample` allows it: each operation of jax compiles for each shape.
    def start(path: tuple[Any, ...], weight: Weight, shape: Any) -> Any:
        factor = _initial(placement, weight, shape.shape)
        name = "/".join(str(part.key) for part in path)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        match weight.kind:
            case "gain" | "multiplier" | "bias":
                return broadcast_to(factor, shape.shape)
            case "embedding":
                drawn = sample(jax.random.normal, own, shape.shape)
                return factor * sizes.embedding_std * drawn
            case "matrix":
                kind = placement.base_init or config.init
                fans = {"fan_in": weight.fan_in, "fan_out": weight.fan_out}
                if weight.role in QKV:
                    factor = factor * config.qkv_gain
                return factor * draw(own, shape.shape, kind, std=config.init_std, **fans)

    started = jax.tree_util.tree_map_with_path(start, weights, shapes)
    # Copies of NumPy's: a train step gives the memory of its parameters away.
    params: dict[str, Any] = jax.tree.map(
        lambda array: jnp.array(array) if isinstance(array, np.ndarray) else array, started
    )
    return on_sphere(weights, params) if "sphere" in placement.hooks else params


def on_sphere(weights: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Every matrix and embedding with unit length along the width of the stream (2410.01131)."""

    def project(weight: Weight, array: jax.Array) -> jax.Array:
        if weight.kind not in ("matrix", "embedding") or "embed" not in weight.axes:
            return array
        return unit(array, weight.axes.index("embed") + weight.stacked, eps=0.0)

    projected: dict[str, Any] = map_weights(project, weights, params)
    return projected


def _initial(placement: Placement, weight: Weight, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """`Placement.initial` in a shape that broadcasts to the weight's."""
    values = np.asarray(placement.initial(weight), np.float32)
    if not weight.stacked:
        values = values[0]
    # One number for a layer, or one for each of its elements.
    own = shape[1:] if weight.stacked else shape
    layers = shape[:1] if weight.stacked else ()
    each = own if values.size > math.prod(layers) else (1,) * len(own)
    return values.reshape((*layers, *each))
