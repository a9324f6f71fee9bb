"""A stack as decoding wants it, and the room that its layers' pasts need."""

from __future__ import annotations

import jax
from flax import nnx

from zoo.models.config import ModelConfig
from zoo.models.planner import BlockPlan
from zoo.models.stack import Block, Layer, Pasts, Stack
from zoo.variants.placement import StackPlacement


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
