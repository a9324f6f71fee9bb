"""Plans cover every layer once, in order, with few compiled layers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.models.planner import BlockPlan, plan


def order(blocks: tuple[BlockPlan, ...]) -> list[int]:
    """Layers as a run of the blocks meets them."""
    return [
        block.start + repeat * block.period + position
        for block in blocks
        for repeat in range(block.repeats)
        for position in range(block.period)
    ]


@pytest.mark.parametrize(
    ("structures", "blocks"),
    [
        ("", []),
        ("A", [(0, 1, 1)]),
        ("AAAAAA", [(0, 1, 6)]),
        ("ABABAB", [(0, 2, 3)]),
        ("AABAABAAB", [(0, 3, 3)]),
        ("BAAAAA", [(0, 1, 1), (1, 1, 5)]),  # a special first layer
        ("AAABBBBB", [(0, 1, 3), (3, 1, 5)]),  # mix_norm
        ("AAAAAB" * 4 + "AA", [(0, 6, 4), (24, 1, 2)]),  # five to one, and a remainder
        ("ABCDEFGH", [(i, 1, 1) for i in range(8)]),
    ],
)
def test_known_patterns(structures: str, blocks: list[tuple[int, int, int]]) -> None:
    assert [(b.start, b.period, b.repeats) for b in plan(structures)] == blocks


def test_a_hundred_equal_layers_are_one_compiled_layer() -> None:
    assert plan([("post",)] * 100) == (BlockPlan(0, 1, 100),)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text("AB", max_size=40),
        st.text("ABC", max_size=40),
        # Repeats are rare in free text.
        st.tuples(st.text("ABC", max_size=7), st.integers(1, 6), st.text("AB", max_size=5)).map(
            lambda parts: parts[2] + parts[0] * parts[1] + parts[2]
        ),
    )
)
def test_every_layer_is_in_the_plan_once_in_order_with_its_structure(structures: str) -> None:
    blocks = plan(structures)
    assert order(blocks) == list(range(len(structures)))
    for block in blocks:
        for position in range(block.period):
            layers = block.layers(position)
            assert len(layers) == block.repeats
            assert {structures[layer] for layer in layers} == {structures[block.start + position]}
    assert sum(block.period for block in blocks) <= len(structures)
