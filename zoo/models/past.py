"""A text that goes on: what the layers of a stack keep of it, and a stack as decoding wants it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import nnx

from zoo.layers.attention import Scope
from zoo.models.config import ModelConfig
from zoo.models.inputs import LayerInputs
from zoo.models.planner import BlockPlan
from zoo.models.stack import Block, Layer, Stack
from zoo.variants.placement import StackPlacement
from zoo.variants.streams import Carry

# For each block and position of its period: [sublayers] of what branches keep. Those of layers that
# are scanned are stacked; others have no such axis, since XLA would copy them instead of writing
# to them in place.
Pasts = list[list[Any]]


def remember(
    stack: Stack,
    x: jax.Array,
    scope: Scope,
    pasts: Pasts | None,
    *,
    placement: StackPlacement,
    config: ModelConfig,
) -> tuple[jax.Array, Pasts]:
    """As a call of the stack, and what later tokens need of this one.

    Args:
        pasts: of the call before, of which `x` is the next token; None: `x` begins a text.
    """

    def run(layer: Layer, carry: Carry, scope: Scope, own: LayerInputs) -> tuple[Carry, Any]:
        return layer.remember(carry, scope, own)

    carry = stack.ends.open(x)
    scope = stack.with_values(carry, scope, placement, config, None)
    kept: Pasts = []
    for index, block in enumerate(stack.blocks):
        inputs = stack.inputs(block, placement, config)
        before = [None] * len(inputs) if pasts is None else pasts[index]
        if block.plan.repeats > 1:
            inputs = _with_pasts(inputs, before)
            carry, records = block.run(carry, scope, inputs, config=config, run=run)
        else:
            layers, alone = block.first(inputs)
            records = []
            for layer, own in zip(layers, _with_pasts(alone, before), strict=True):
                carry, record = run(layer, carry, scope, own)
                records.append(record)
        kept.append(records)
    return stack.ends.close(carry), kept


def _with_pasts(inputs: list[LayerInputs], pasts: list[Any]) -> list[LayerInputs]:
    pairs = zip(inputs, pasts, strict=True)
    return [dataclasses.replace(own, past=past) for own, past in pairs]


def with_room(
    stack: Stack, pasts: Pasts, tokens: int, *, placement: StackPlacement, config: ModelConfig
) -> Pasts:
    """What a prompt left behind, with room for a text of so many tokens in all.

    Layers that see a window of it get a ring of that length; where several windows are scanned
    together, and so share a shape, each has room for everything.
    """

    def slots(block: Block) -> list[int]:
        windows = [own.window for own in stack.inputs(block, placement, config)]
        return [min(window, tokens) if isinstance(window, int) else tokens for window in windows]

    return [
        [
            tuple(None if past is None else past.resized(room) for past in layer)
            for layer, room in zip(layers, slots(block), strict=True)
        ]
        for block, layers in zip(stack.blocks, pasts, strict=True)
    ]


def unrolled(stack: Stack) -> Stack:
    """The same layers, each with weights of its own instead of a part of stacked ones.

    A product with one layer of a stacked weight copies that layer first.
    """
    layers: list[Layer] = []
    for block in stack.blocks:
        period, params = nnx.split(block.layers)
        for repeat in range(block.plan.repeats):
            row = repeat // block.plan.shared
            layers += nnx.merge(period, jax.tree.map(lambda a: a[row][None], params))  # type: ignore[arg-type]  # noqa: B023
    same: Stack = nnx.merge(*nnx.split(stack))
    same.blocks = nnx.List([Block(BlockPlan(0, len(layers), 1), layers)])
    return same
