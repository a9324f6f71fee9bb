"""Turning a stack's per-layer structures into blocks that are scanned."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from zoo.errors import ConfigError

# Longest pattern looked for; published ones repeat after at most eight layers.
_LONGEST_PERIOD = 16


@dataclasses.dataclass(frozen=True)
class BlockPlan:
    """`period` consecutive layers from `start`, `repeats` times over.

    Attributes:
        shared: consecutive repeats that have the same weights.
    """

    start: int
    period: int
    repeats: int
    shared: int = 1

    def layers(self, position: int) -> range:
        """Indices of the layers at one position of the period."""
        stop = self.start + self.period * self.repeats
        return range(self.start + position, stop, self.period)


def plan(structures: Sequence[Hashable]) -> tuple[BlockPlan, ...]:
    """Cover the layers with the fewest compiled ones: greedily the most layers per period.

    Equal layers give one block of period 1; `A B A B A B` one of period 2; a special
    first layer a block of its own.
    """
    blocks, start = [], 0
    while start < len(structures):
        left = len(structures) - start
        candidates = [
            BlockPlan(start, period, _repeats(structures, start, period))
            for period in range(1, min(_LONGEST_PERIOD, left // 2) + 1)
        ]
        repeating = [block for block in candidates if block.repeats > 1]
        # max keeps the first of equals, which is the shortest period.
        best = max(
            repeating,
            key=lambda block: block.period * block.repeats,
            default=BlockPlan(start, 1, 1),
        )
        blocks.append(best)
        start += best.period * best.repeats
    return tuple(blocks)


def grouped(blocks: Sequence[BlockPlan], groups: int) -> BlockPlan:
    """One block of all layers, in which those of a group have the same weights.

    Raises:
        ConfigError: where layers differ.
    """
    if len(blocks) > 1 or blocks[0].period > 1:
        raise ConfigError(
            f"layer_groups = {groups}: the layers of this variant are not all alike, and so cannot "
            "share weights; leave it out"
        )
    return dataclasses.replace(blocks[0], shared=blocks[0].repeats // groups)


def _repeats(structures: Sequence[Hashable], start: int, period: int) -> int:
    pattern = tuple(structures[start : start + period])
    repeats = 1
    while tuple(structures[start + repeats * period :][:period]) == pattern:
        repeats += 1
    return repeats
