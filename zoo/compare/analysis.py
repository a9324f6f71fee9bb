"""What goes into the statistics of a sweep and what comes out: plain records."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Verdict = Literal["a better", "b better", "equivalent", "no difference shown", "no verdict"]


@dataclasses.dataclass(frozen=True)
class Score:
    """The final score of one run; `value` None (or no number) when it diverged or failed."""

    variant: str
    condition: str
    seed: int
    value: float | None


@dataclasses.dataclass(frozen=True)
class Cell:
    """A variant under a condition.

    Attributes:
        n: runs that finished.
        failed: runs that did not.
        mean: of the finished ones; None without any.
        low, high: interval of this mean alone; None where nothing tells its spread.
    """

    n: int
    failed: int
    mean: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two variants under one condition, or over all of them.

    Attributes:
        condition: None for the mean over the conditions that both finished.
        difference: mean score of a less that of b, of finished runs, in the metric's unit.
        low, high: its interval, simultaneous with all others of the analysis.
        p: corrected for all comparisons; below `1 - confidence` just where a difference is shown.
        effect: the difference in standard deviations of a run, corrected for few runs (Hedges).
        detectable: a difference of this size would have been shown with probability 0.8, given
            how much these runs scatter.
        reason: why there is no verdict, or that failures decide it.
    """

    a: str
    b: str
    condition: str | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    effect: float | None
    verdict: Verdict
    detectable: float | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Rank:
    """A variant's place.

    Attributes:
        place: 1 + how many variants failed less, or as often and are better over all conditions;
            what was not told apart shares a place.
        mean: score over the conditions; None where it never finished one that others were run on.
        rank: its place by mean score in each condition, averaged; a cell without a score is last.
        failed: share of its runs that failed.
        runs: how many it had.
    """

    place: int
    variant: str
    mean: float | None
    rank: float
    failed: float
    runs: int


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a sweep shows.

    Attributes:
        cells: by (variant, condition), in the order of the scores.
        pairs: of all variants, by condition, then over all conditions (`condition` None).
        ranking: best first.
        sigma: usual standard deviation of a run; None where no cell has two finished runs.
        df: degrees of freedom of all cells together.
        pooled: whether the cells' spreads look alike, so that they lean on each other the most.
        notes: what a reader of the verdicts must know, in sentences.
    """

    cells: Mapping[tuple[str, str], Cell]
    pairs: Sequence[Pair]
    ranking: Sequence[Rank]
    sigma: float | None
    df: int
    pooled: bool
    notes: Sequence[str]
    confidence: float = 0.95
    smallest: float = 0.0
    lower_is_better: bool = True

    def to_json(self) -> dict[str, Any]:
        """Numbers, words, lists and dicts only; cells are a list with their two names."""
        made = dataclasses.asdict(self)
        made["cells"] = [
            {"variant": variant, "condition": condition, **dataclasses.asdict(cell)}
            for (variant, condition), cell in self.cells.items()
        ]
        return made
