"""Parity: whether a string of bits has an odd number of ones."""

from __future__ import annotations

from zoo.data.probes.base import Draws, Probe, Problem, asked, whole

LABELS = ("0", "1")
EQUALS = len(LABELS)


def problem(draws: Draws, length: int) -> Problem:
    """`1 0 1 1 = 1`, of one bit less than the length."""
    bits = whole(draws(length - 1), 2).tolist()
    return asked([*bits, EQUALS], [sum(bits) % 2])


PROBE = Probe(
    name="parity",
    summary="say whether a string of bits has an odd number of ones",
    source="Hahn 2020 (1906.06755)",
    shortest=7,
    words=lambda length: (*LABELS, "="),
    label=lambda length: f"parity of {length - 1} bits",
    problem=problem,
    labels=LABELS,
)
