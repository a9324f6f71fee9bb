"""Induction: after "a b ... a" comes b, for pairs that no other row has."""

from __future__ import annotations

import numpy as np

from zoo.data.probes.base import Draws, Probe, Problem, whole

# Keys, and as many values, of a vocabulary that short rows share.
LEAST_WORDS = 32


def pairs(length: int) -> int:
    """How many pairs there are, each of them asked for once."""
    return (length + 1) // 4


def size(length: int) -> int:
    """How many keys the vocabulary has; as many values follow them."""
    return max(LEAST_WORDS, pairs(length))


def words(length: int) -> tuple[str, ...]:
    return tuple(f"{kind}{i}" for kind in "kv" for i in range(size(length)))


def problem(draws: Draws, length: int) -> Problem:
    """`k1 v1 k2 v2 ...`, then the same pairs in another order, whose values are the answers.

    Keys differ within a row and are no values, so that each answer is unique; values may repeat.
    """
    count = pairs(length)
    keys = np.argsort(draws(size(length)), kind="stable")[:count]
    values = size(length) + whole(draws(count), size(length))
    shown = np.stack([keys, values], axis=1)
    again = shown[np.argsort(draws(count), kind="stable")]
    tokens = np.concatenate([shown.ravel(), again.ravel()])
    places = np.arange(len(tokens))
    return Problem(tokens, (places >= 2 * count) & (places % 2 == 1))


PROBE = Probe(
    name="induction",
    summary="say what stood behind a word before (associative recall)",
    source="Ba et al. 2016, section 4.1 (1610.06258); several questions a row as in Arora et al. "
    "2023 (2312.04927)",
    shortest=7,
    words=words,
    label=lambda length: f"{pairs(length)} pairs of words to recall",
    problem=problem,
)
