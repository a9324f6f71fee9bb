"""What claims are judged with. It is part of every claim's hash: a change here unsays them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from zoo.compare.comparison import Comparison
from zoo.compare.config import CompareConfig
from zoo.compare.ledger import thinned
from zoo.compare.results import Row, read_curve
from zoo.compare.statistics import Pair
from zoo.data.loader import open_data

Word = Literal["confirmed", "not seen", "reversed"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        word: of the claim, at this scale.
        figures: what the rule looked at, by name.
        interval: of the figure that decides, where it has one.
    """

    word: Word
    figures: Mapping[str, float | str | None]
    interval: tuple[float, float] | None = None


Found = Mapping[str, Comparison]
"""The comparisons of a claim by label."""


def finals(found: Comparison, variant: str) -> list[Row]:
    """The final runs of a variant, in the order of their seeds."""
    rows = [row for row in found.rows if row.phase == "final" and row.variant == variant]
    return sorted(rows, key=lambda row: row.seed)


def mean(found: Comparison, variant: str) -> float | None:
    """Mean test figure; None where a run did not finish."""
    values = [row.test for row in finals(found, variant)]
    if not values or None in values:
        return None
    return sum(value for value in values if value is not None) / len(values)


def frequencies(config: CompareConfig) -> float:
    """Bits a byte of the text that verdicts rest on under its own byte frequencies."""
    data = dataclasses.replace(config.run.data, validation_half="second")
    batches = open_data(data).eval_batches(max_batches=config.run.eval_batches)
    counts = np.bincount(np.concatenate([rows["tokens"].ravel() for rows in batches]))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def curve(found: Comparison, row: Row) -> list[dict[str, Any]]:
    """The logged steps of a run, as many as a line of the results keeps of them."""
    return thinned(read_curve(row, found.workdir / "runs"))


def pair(found: Comparison, a: str, b: str) -> Pair:
    """The statistics of two variants over all places, `a` first: negative where it is lower.

    Raises:
        LookupError: when the comparison has no such pair.
    """
    places = {each.condition for each in found.analysis.pairs}
    for each in found.analysis.pairs:
        if {each.a, each.b} != {a, b} or not (each.condition is None or len(places) == 1):
            continue
        if each.a == a:
            return each
        swapped = {"a better": "b better", "b better": "a better"}
        turned = [None if value is None else -value for value in (each.difference, each.effect)]
        low, high = (None if value is None else -value for value in (each.high, each.low))
        return dataclasses.replace(
            each,
            a=a,
            b=b,
            difference=turned[0],
            effect=turned[1],
            low=low,
            high=high,
            verdict=swapped.get(each.verdict, each.verdict),
        )
    raise LookupError(f"no pair of {a} and {b}")


def interval(pair: Pair) -> tuple[float, float] | None:
    """Of the difference, where there is one."""
    return None if pair.low is None or pair.high is None else (pair.low, pair.high)


def favoured(found: Comparison, a: str, b: str) -> str | None:
    """The one of two variants that is shown to be better, wherever in their lists the rates lie.

    The corrected interval of the difference excludes 0, or the other lost a run and it did not.
    """
    failed = [mean(found, name) is None for name in (a, b)]
    if any(failed):
        return None if all(failed) else (b if failed[0] else a)
    ends = interval(pair(found, a, b))
    if ends is None or ends[0] <= 0 <= ends[1]:
        return None
    return a if (ends[1] < 0) == found.metric.lower_is_better else b
