"""What differs from layer to layer: numbers of the placement, windows, keys, scanned as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.layers.linear_attention import share
from zoo.models.config import ModelConfig, spread
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.streams import Numbers
from zoo.variants.streams.base import ramped

# The window of a layer without one, beside layers that have one.
_EVERYTHING = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class LayerInputs:
    """What differs from layer to layer: a pytree, scanned beside the weights.

    Attributes:
        numbers: [sublayers] of the constant multipliers.
        window: how far attention looks back, or None.
        rotary: which way of `Scope.rotary` turns queries and keys; None: there is one for all.
        decay: linear attention's share of its rates, or None.
        drop_rate: stochastic depth's probability of leaving a branch out.
        key: of dropout, or None.
        past: [sublayers] of what each branch keeps of earlier tokens, or None.
    """

    numbers: tuple[Numbers, ...]
    window: Any
    rotary: Any
    decay: Any
    drop_rate: Any
    key: Any
    past: Any = None


jax.tree_util.register_dataclass(LayerInputs)


def layer_inputs(
    placement: StackPlacement,
    config: ModelConfig,
    layers: range,
    step: jax.Array | None,
    key: jax.Array | None,
) -> LayerInputs:
    """Per-layer inputs of some layers: a plain number where all agree, an array where not."""
    columns = zip(*(placement.layers[layer] for layer in layers), strict=True)
    numbers = tuple(_numbers(column, step) for column in columns)
    windows = config.windows(len(placement.layers))
    window = _agree([windows[layer] or _EVERYTHING for layer in layers])
    ways = config.rotary_ways()
    letters = spread(config.rotary_pattern, len(placement.layers))
    several = config.positions == "rotary" and len(ways) > 1
    rates = config.drop_rates(len(placement.layers))
    keys = None
    if key is not None:
        keys = jax.vmap(lambda layer: jax.random.fold_in(key, layer))(jnp.asarray(list(layers)))
    return LayerInputs(
        numbers=numbers,
        window=None if config.window is None else window,
        rotary=_agree([ways.index(letters[layer]) for layer in layers]) if several else None,
        decay=_agree([share(layer, len(placement.layers)) for layer in layers])
        if "L" in config.attention_pattern
        else None,
        drop_rate=_agree([rates[layer] for layer in layers]),
        key=keys,
    )


def _numbers(sites: Sequence[Site], step: jax.Array | None) -> Numbers:
    """The constants of one sublayer over some layers, schedules taken at `step`."""
    rows = [site.numbers() for site in sites]
    numbers = {name: _agree([row[name] for row in rows]) for name in rows[0]}
    if step is None:
        return numbers
    for role in sites[0].multipliers():
        ramps = [ramp for site in sites if (ramp := site.multipliers()[role].ramp) is not None]
        if ramps:
            numbers[role] = numbers[role] * ramped(ramps, step)
    return numbers


def _agree(values: Sequence[int | float]) -> Any:
    same = all(value == values[0] for value in values)
    return values[0] if same else np.asarray(values)


def partition(inputs: Sequence[LayerInputs], repeats: int) -> tuple[Any, Any]:
    """(numbers shared by all repeats, arrays to scan); None stands where the other has it."""
    leaves, treedef = jax.tree.flatten(list(inputs))
    fixed = [leaf if isinstance(leaf, int | float) else None for leaf in leaves]
    varying = [None if isinstance(leaf, int | float) else jnp.asarray(leaf) for leaf in leaves]
    return (treedef, fixed), varying


def combine(fixed: Any, varying: Sequence[Any]) -> list[LayerInputs]:
    treedef, numbers = fixed
    leaves = [v if n is None else n for n, v in zip(numbers, varying, strict=True)]
    combined: list[LayerInputs] = jax.tree.unflatten(treedef, leaves)
    return combined
