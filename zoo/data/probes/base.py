"""What a probe of depth is, and the draws that its problems are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from zoo.data.config import ProbeKind


class Problem(NamedTuple):
    """One problem with its answers.

    Attributes:
        tokens: int64 [size], in the order of reading.
        answers: bool [size], the tokens that are to be predicted; the others are the question, and
            say all that the answers need. The first token is never one.
    """

    tokens: np.ndarray
    answers: np.ndarray


@dataclasses.dataclass(frozen=True)
class Probe:
    """A kind of problem with exact answers, as hard as it is long.

    Attributes:
        name: of the rows and of the task.
        summary: one line.
        source: where it was described.
        shortest: least `data.length`, so that there are problems enough to hold some out.
        words: of a length, the word of each token id; the labels come first.
        label: of a length, what the problems are, for people.
        problem: `(draws, length)` to a problem of at most length + 1 tokens, so that a model that
            predicts the next token reads at most `length` of them. `draws` gives numbers in [0, 1).
        labels: what the one answer of each problem is one of; empty where there are more answers.
    """

    name: ProbeKind
    summary: str
    source: str
    shortest: int
    words: Callable[[int], tuple[str, ...]]
    label: Callable[[int], str]
    problem: Callable[[Draws, int], Problem]
    labels: tuple[str, ...] = ()


Draws = Callable[[int], np.ndarray]


def whole(draws: np.ndarray, below: int) -> np.ndarray:
    """Numbers in [0, 1) to whole ones from 0 to `below` - 1, int64."""
    made: np.ndarray = (draws * below).astype(np.int64)
    return made


def asked(question: Sequence[int], answer: Sequence[int]) -> Problem:
    """The problem whose answer, some tokens, stands behind its question."""
    tokens = np.asarray([*question, *answer], np.int64)
    return Problem(tokens, np.arange(len(tokens)) >= len(question))
