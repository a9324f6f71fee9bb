"""What the pictures and tables of a report show, taken from the rows of the runs.

A run that diverged or failed has no part in any mean; where one did, its point says so instead.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from zoo.compare.comparison import Comparison
from zoo.compare.report.words import Place, place
from zoo.compare.results import RESULTS, Row, condition, read_curve, read_layers
from zoo.compare.statistics import Cell
from zoo.tasks.base import Metric

Outcome = Literal["finished", "diverged", "failed"]
Curve = list[tuple[float, float]]
"""(step, figure), with NaN where a figure was not finite."""

# Points of a curve that a picture keeps, and of all the curves of a panel together.
_MOST, _MOST_IN_PANEL, _LEAST = 200, 12_000, 25


@dataclasses.dataclass(frozen=True)
class Rate:
    """What became of one learning rate, for one variant at one place.

    Attributes:
        rate, steps: of the runs.
        outcome: `finished` when every run of its best setting finished.
        value: mean of the selection metric, of tuning runs where there are any: of all rates only
            the one that was chosen has others; None unless finished.
        runs, lost: of that setting, and how many of them did not finish.
    """

    rate: float
    steps: int
    outcome: Outcome
    value: float | None
    runs: int
    lost: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of the final runs of a variant at a place that finished: means, and the most memory."""

    seconds: float
    tokens: float
    flops: float
    parameters: int
    memory: int

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclasses.dataclass(frozen=True)
class Stable:
    """The largest learning rate without a lost run at it or below; `open` when none was lost."""

    rate: float | None
    open: bool


class Evidence:
    """The runs of a comparison, sorted by variant and place."""

    def __init__(self, comparison: Comparison) -> None:
        self.metric: Metric = comparison.metric
        self.select: Metric = comparison.select or comparison.metric
        self.rows: list[Row] = list(comparison.rows)
        self.runs = comparison.workdir / "runs"
        asked = [str(name) for name in comparison.config.get("variants", ())]
        self.variants = list(dict.fromkeys([*asked, *(row.variant for row in self.rows)]))
        self.places: list[Place] = sorted(
            dict.fromkeys(place(row) for row in self.rows),
            key=lambda each: (self._tasks.index(each[0]), each[2], each[1]),
        )
        self._by_cell: dict[tuple[str, Place], list[Row]] = defaultdict(list)
        for row in self.rows:
            self._by_cell[row.variant, place(row)].append(row)
        self._cells = comparison.analysis.cells

    @functools.cached_property
    def _tasks(self) -> list[str]:
        return list(dict.fromkeys(row.task for row in self.rows))

    def of(self, variant: str, where: Place) -> list[Row]:
        """All runs of a variant at a place."""
        return self._by_cell.get((variant, where), [])

    def final(self, variant: str, where: Place) -> list[Row]:
        """The runs on fresh seeds that have a result."""
        rows = self.of(variant, where)
        return [row for row in rows if row.phase == "final" and row.status in RESULTS]

    def cell(self, variant: str, where: Place) -> Cell | None:
        """The statistics of a variant at a place; None without any."""
        return self._cells.get((variant, condition(*where)))

    def unfinished(self) -> list[Row]:
        """Runs that ended otherwise than they should."""
        return [row for row in self.rows if row.status in ("diverged", "failed", "damaged")]

    def rates(self, variant: str, where: Place) -> list[Rate]:
        """What became of each learning rate that was tried, by steps and rate."""
        groups: dict[tuple[int, float], dict[str, list[Row]]] = defaultdict(dict)
        for row in self.of(variant, where):
            if row.lr is not None and row.status in RESULTS:
                settings = groups[row.steps, float(row.lr)]
                settings.setdefault(repr(sorted(row.setting.items())), []).append(row)
        return [
            self._best([_outcome(rate, steps, rows) for rows in settings.values()])
            for (steps, rate), settings in sorted(groups.items())
        ]

    def _best(self, rates: Sequence[Rate]) -> Rate:
        sign = 1 if self.select.lower_is_better else -1
        worst = math.inf
        return min(rates, key=lambda each: worst if each.value is None else sign * each.value)

    def longest(self, variant: str, where: Place) -> dict[float, Rate]:
        """Of each learning rate the runs with the most steps."""
        return {each.rate: each for each in self.rates(variant, where)}

    def stable(self, variant: str, where: Place) -> Stable | None:
        """None where no learning rate was searched."""
        found = self.longest(variant, where)
        largest = None
        for rate in sorted(found):
            if found[rate].outcome != "finished":
                return Stable(largest, open=False)
            largest = rate
        return None if len(found) < 2 else Stable(largest, open=True)

    def cost(self, variant: str, where: Place) -> Cost | None:
        """None where no final run finished."""
        rows = [row for row in self.final(variant, where) if row.status == "finished"]
        if not rows:
            return None
        return Cost(
            seconds=statistics.fmean(row.seconds for row in rows),
            tokens=statistics.fmean(row.tokens for row in rows),
            flops=statistics.fmean(row.flops for row in rows),
            parameters=rows[0].parameters,
            memory=max(row.memory for row in rows),
        )

    def whole(self, variant: str, where: Place) -> float | None:
        """Mean of the test figure; None where a final run was lost or there is none."""
        rows = self.final(variant, where)
        values = [row.test for row in rows if row.test is not None]
        return statistics.fmean(values) if values and len(values) == len(rows) else None

    @functools.cached_property
    def _logged(self) -> Mapping[str, list[dict[str, Any]]]:
        rows = [row for row in self.rows if row.phase == "final"]
        return {row.run: read_curve(row, self.runs) for row in rows if row.status in RESULTS}

    def curves(self, where: Place, figure: str) -> list[tuple[Row, Curve]]:
        """The final runs at a place that logged a figure, thinned."""
        found = []
        for variant in self.variants:
            for row in self.final(variant, where):
                steps = self._logged[row.run]
                points = [(each["step"], each[figure]) for each in steps if figure in each]
                if points:
                    found.append((row, points))
        most = max(_LEAST, min(_MOST, _MOST_IN_PANEL // max(1, len(found))))
        return [(row, thinned(points, most)) for row, points in found]

    def layers(self, variant: str, where: Place) -> dict[str, list[float]]:
        """Figures by layer of the first final run that has them; empty without any."""
        for row in self.final(variant, where):
            layers = read_layers(row, self.runs) or {}
            lists = {name: each for name, each in layers.items() if isinstance(each, list)}
            if lists:
                return {name: [_float(value) for value in each] for name, each in lists.items()}
        return {}


def _outcome(rate: float, steps: int, rows: Sequence[Row]) -> Rate:
    lost = sum(row.metric is None for row in rows)
    if not lost:
        alike = [row for row in rows if row.phase == "tuning"] or rows
        value = statistics.fmean(row.metric for row in alike if row.metric is not None)
        return Rate(rate, steps, "finished", value, len(rows), 0)
    diverged = any(row.status == "diverged" for row in rows)
    return Rate(rate, steps, "diverged" if diverged else "failed", None, len(rows), lost)


def thinned(points: Sequence[tuple[float, Any]], most: int = _MOST) -> Curve:
    """At most that many points: means of neighbours, the last point as it is.

    A group with a figure that is not finite becomes NaN, so that a divergence stays to be seen.
    """
    clean = [(float(step), _float(value)) for step, value in points]
    if len(clean) <= most:
        return clean
    *body, last = clean
    size = math.ceil(len(body) / (most - 1))
    groups = [body[start : start + size] for start in range(0, len(body), size)]
    return [*((_mean(group, 0), _mean(group, 1)) for group in groups), last]


def _mean(group: Sequence[tuple[float, float]], index: int) -> float:
    return sum(each[index] for each in group) / len(group)


def _float(value: Any) -> float:
    made = float(value) if isinstance(value, (int, float)) else math.nan
    return made if math.isfinite(made) else math.nan


def median_curve(curves: Sequence[Curve]) -> Curve:
    """The median of the curves over the steps that all of them reach, lines between points."""
    import numpy as np

    whole = [[each for each in curve if not math.isnan(each[1])] for curve in curves]
    if not whole or not all(whole):
        return []
    first, last = max(curve[0][0] for curve in whole), min(curve[-1][0] for curve in whole)
    steps = [step for step, _ in whole[0] if first <= step <= last]
    if not steps:
        return []
    values = [np.interp(steps, *np.transpose(curve)) for curve in whole]
    return list(zip(steps, np.median(values, axis=0).tolist(), strict=True))
