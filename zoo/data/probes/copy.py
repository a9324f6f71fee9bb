"""Copy: write a string of letters once more."""

from __future__ import annotations

import string

from zoo.data.probes.base import Draws, Probe, Problem, asked, whole

LETTERS = tuple(string.ascii_lowercase)
SEPARATOR = len(LETTERS)


def problem(draws: Draws, length: int) -> Problem:
    """`a b c | a b c`, of half as many letters as the length."""
    letters = whole(draws(length // 2), len(LETTERS)).tolist()
    return asked([*letters, SEPARATOR], letters)


PROBE = Probe(
    name="copy",
    summary="write a string of letters once more",
    source="Graves et al. 2014, section 4.1 (1410.5401)",
    shortest=4,
    words=lambda length: (*LETTERS, "|"),
    label=lambda length: f"strings of {length // 2} letters to copy",
    problem=problem,
)
