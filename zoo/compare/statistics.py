"""Which variant is better, by how much, and where the evidence carries no verdict.

`analyse` takes the final score of every run and says for each pair of variants, under each
condition and over all of them, whether one is better. The chance that a whole sweep holds even one
false verdict is at most `1 - confidence`; all intervals together cover the truth as often. How
they are made is said in `zoo.compare.intervals`, what they do in docs/statistics.md.

A run that diverged or failed has no score and is never averaged. It counts in two ways: a variant
that failed more often ranks below, and whether it did so by more than chance is tested exactly.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import special

from zoo.compare.analysis import Analysis, Cell, Pair, Rank, Score, Verdict
from zoo.compare.failures import fails_more, failure_p, tests_of_failures
from zoo.compare.intervals import (
    Array,
    Spread,
    cell_half_width,
    contrast,
    detectable,
    families,
    half_width,
    measure,
    p_value,
)
from zoo.errors import ConfigError, DataError

__all__ = ["Analysis", "Cell", "Pair", "Rank", "Score", "Verdict", "analyse", "detectable"]

# Power at which `Pair.detectable` is stated.
POWER = 0.8
# A cell is named as noisy when its runs scatter this many times as much as is usual beside it.
NOISY = 3.0


@dataclasses.dataclass(frozen=True)
class _Grid:
    """The scores as arrays [conditions, variants], and what is asked of them."""

    variants: tuple[str, ...]
    conditions: tuple[str, ...]
    runs: Array
    failed: Array
    mean: Array
    spread: Spread
    sign: float
    confidence: float
    smallest: float

    @property
    def share(self) -> float:
        """How often each family may be wrong."""
        count = families(len(self.conditions), failures=bool(self.failed.any()))
        return (1 - self.confidence) / count

    @functools.cached_property
    def tests(self) -> int:
        """How many tests of failures share their family's part of what may go wrong; 0: none."""
        if not self.failed.any():
            return 0
        return tests_of_failures(self.runs, self.failed, level=self.share)


def analyse(
    scores: Iterable[Score],
    *,
    lower_is_better: bool = True,
    confidence: float = 0.95,
    smallest: float = 0.0,
    withheld: Mapping[tuple[str, str], str] | None = None,
) -> Analysis:
    """What the final scores of a sweep show.

    Args:
        scores: one a run. A run that was never made has none; one that failed has value None.
        confidence: of everything that is said together.
        smallest: the smallest difference that matters, in the metric's unit: where an interval
            lies within ±smallest the two are `equivalent`.
        withheld: (variant, condition) to the reason why no verdict may rest on its scores; neither
            places nor notes do then.

    Raises:
        ConfigError: on a confidence outside of 0 to 1, or a negative `smallest`.
        DataError: when a run has two scores.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence = {confidence} lies outside of 0 to 1")
    if not smallest >= 0:
        raise ConfigError(f"smallest = {smallest} is negative; use 0 or more, in the metric's unit")
    grid = _grid(list(scores), 1.0 if lower_is_better else -1.0, confidence, smallest)
    pairs = [_withheld(pair, withheld or {}) for pair in _pairs(grid)]
    known = grid.spread.own > 0
    level = grid.spread.level[known.any(1)]
    level = level[np.isfinite(level)]
    return Analysis(
        cells=_cells(grid),
        pairs=pairs,
        ranking=_ranking(grid, pairs),
        sigma=float(np.sqrt(level.mean())) if level.size else None,
        df=int(grid.spread.own.sum()),
        pooled=bool(grid.spread.alike >= 0.05),
        notes=_notes(grid, pairs),
        confidence=confidence,
        smallest=smallest,
        lower_is_better=lower_is_better,
    )


def _grid(scores: list[Score], sign: float, confidence: float, smallest: float) -> _Grid:
    variants = tuple(dict.fromkeys(score.variant for score in scores))
    conditions = tuple(dict.fromkeys(score.condition for score in scores))
    shape = len(conditions), len(variants)
    found: dict[tuple[int, int], list[float]] = {}
    failed = np.zeros(shape, int)
    seen = set()
    for score in scores:
        run = (score.variant, score.condition, score.seed)
        if run in seen:
            raise DataError(
                f"two scores of {score.variant!r} under {score.condition!r} with seed "
                f"{score.seed}; give one a run"
            )
        seen.add(run)
        place = conditions.index(score.condition), variants.index(score.variant)
        if score.value is None or not math.isfinite(score.value):
            failed[place] += 1
        else:
            found.setdefault(place, []).append(float(score.value))
    runs, mean, variance = np.zeros(shape, int), np.full(shape, np.nan), np.zeros(shape)
    for place, values in found.items():
        runs[place], mean[place] = len(values), np.mean(values)
        variance[place] = np.var(values, ddof=1) if len(values) > 1 else 0.0
    return _Grid(
        variants,
        conditions,
        runs,
        failed,
        mean,
        measure(variance, runs - 1),
        sign,
        confidence,
        smallest,
    )


def _cells(grid: _Grid) -> dict[tuple[str, str], Cell]:
    found = {}
    half = cell_half_width(grid.spread, grid.runs, confidence=grid.confidence)
    for i, variant in enumerate(grid.variants):
        for c, condition in enumerate(grid.conditions):
            if not grid.runs[c, i] + grid.failed[c, i]:
                continue
            mean, width = grid.mean[c, i], half[c, i]
            found[variant, condition] = Cell(
                n=int(grid.runs[c, i]),
                failed=int(grid.failed[c, i]),
                mean=_number(mean),
                low=_number(mean - width),
                high=_number(mean + width),
            )
    return found


@dataclasses.dataclass(frozen=True)
class _Question:
    """Two variants under some conditions, and those of them in which both have a known spread."""

    a: int
    b: int
    where: tuple[int, ...]
    condition: str | None
    measured: tuple[int, ...]


def _questions(grid: _Grid) -> list[_Question]:
    every: list[tuple[tuple[int, ...], str | None]] = [
        ((c,), name) for c, name in enumerate(grid.conditions)
    ]
    every.append((tuple(range(len(grid.conditions))), None))
    known = np.isfinite(grid.spread.variance).tolist()
    ran = (grid.runs + grid.failed > 0).tolist()
    return [
        _Question(a, b, where, name, tuple(c for c in where if known[c][a] and known[c][b]))
        for where, name in every
        for a, b in combinations(range(len(grid.variants)), 2)
        if any(ran[c][a] for c in where) and any(ran[c][b] for c in where)
    ]


def _pairs(grid: _Grid) -> list[Pair]:
    """All pairs under each condition, then over all of them."""
    questions = _questions(grid)
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, question in enumerate(questions):
        alike.setdefault(question.measured, []).append(place)
    found: dict[int, Pair] = {}
    for measured, places in alike.items():
        group = [questions[place] for place in places]
        made = _measured(grid, group, np.array(measured)) if measured else _unmeasured(grid, group)
        found.update(zip(places, made, strict=True))
    return [_with_failures(grid, q, found[place]) for place, q in enumerate(questions)]


def _measured(grid: _Grid, questions: list[_Question], measured: Array) -> list[Pair]:
    """By scores alone, where both have a known spread under the same conditions."""
    a, b = (np.array([getattr(q, side) for q in questions]) for side in ("a", "b"))
    count = len(grid.variants)
    found = contrast(grid.spread, grid.runs, a, b, measured)
    mean = grid.mean[measured].mean(0)
    difference = mean[a] - mean[b]
    half = half_width(found, grid.spread.share, level=grid.share, variants=count)
    # p of a family, corrected for how many there are
    p = p_value(difference, found, grid.spread.share, variants=count)
    p = np.minimum(1.0, p / grid.share * (1 - grid.confidence))
    numbers = (
        difference,
        difference - half,
        difference + half,
        p,
        difference / found.sigma * hedges(found.df),
        half + special.ndtri(POWER) * found.error,
    )
    return [
        Pair(
            grid.variants[question.a],
            grid.variants[question.b],
            question.condition,
            difference=difference,
            low=low,
            high=high,
            p=p,
            effect=effect,
            verdict=_judge(grid, low, high),
            detectable=shown,
        )
        for question, difference, low, high, p, effect, shown in zip(
            questions, *(column.tolist() for column in numbers), strict=True
        )
    ]


def _unmeasured(grid: _Grid, questions: list[_Question]) -> list[Pair]:
    """Without two runs of each that differ, nothing says what chance would do."""
    found = []
    for question in questions:
        a, b, where = question.a, question.b, np.array(question.where)
        least = np.minimum(grid.runs[where, a], grid.runs[where, b])
        if (least == 0).all():
            reason = "there is no condition that both finished"
        elif (least < 2).all():
            reason = "one of them finished fewer than two runs: nothing tells what chance would do"
        else:
            reason = "all seeds gave the same score: nothing tells what chance would do"
        both = where[least > 0]
        apart = grid.mean[both, a] - grid.mean[both, b]
        found.append(
            Pair(
                grid.variants[a],
                grid.variants[b],
                question.condition,
                difference=float(apart.mean()) if both.size else None,
                low=None,
                high=None,
                p=None,
                effect=None,
                verdict="no verdict",
                reason=reason,
            )
        )
    return found


def _judge(grid: _Grid, low: float, high: float) -> Verdict:
    """By the interval of a less b."""
    if grid.smallest > 0 and -grid.smallest <= low and high <= grid.smallest:
        return "equivalent"
    if low <= 0 <= high:
        return "no difference shown"
    return "a better" if grid.sign * high < 0 or grid.sign * low < 0 else "b better"


def _with_failures(grid: _Grid, question: _Question, pair: Pair) -> Pair:
    """What the scores say, unless one of the two failed more often."""
    a, b, where = question.a, question.b, np.array(question.where)
    more = fails_more(grid.runs[where], grid.failed[where], a, b) if grid.tests else 0
    if more == 0:
        return pair
    worse, better = (a, b) if more > 0 else (b, a)
    counts = " against ".join(
        f"{grid.failed[where, i].sum()} of {(grid.runs + grid.failed)[where, i].sum()}"
        for i in (worse, better)
    )
    said = f"{grid.variants[worse]} failed in {counts}"
    favours: Verdict = "b better" if more > 0 else "a better"
    p = failure_p(grid.runs, grid.failed, a, b, where, tests=grid.tests)
    p = min(1.0, p / grid.share * (1 - grid.confidence))
    if pair.verdict in ("a better", "b better") and pair.verdict != favours:
        reason = f"{said}, but scores better where it finishes"
        return dataclasses.replace(pair, verdict="no verdict", reason=reason)
    if p < 1 - grid.confidence:
        return dataclasses.replace(pair, verdict=favours, p=p, reason=said)
    if pair.verdict == favours:
        return dataclasses.replace(pair, reason=said)
    reason = f"{said}, which so few runs do not tell from chance"
    return dataclasses.replace(pair, verdict="no verdict", reason=reason)


def _withheld(pair: Pair, reasons: Mapping[tuple[str, str], str]) -> Pair:
    for (variant, condition), reason in reasons.items():
        if variant in (pair.a, pair.b) and pair.condition in (None, condition):
            return dataclasses.replace(pair, verdict="no verdict", reason=reason)
    return pair


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# -- ranking and notes -------------------------------------------------------------------------


def hedges(df: Array) -> Array:
    """What an effect in estimated standard deviations is to be multiplied by (Hedges 1981).

    Args:
        df: more than 1, of the estimate.
    """
    return np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2)


def _ranking(grid: _Grid, pairs: Sequence[Pair]) -> list[Rank]:
    better = {(p.a, p.b): p.verdict for p in pairs if p.condition is None}
    total = grid.runs + grid.failed
    score = np.where(np.isfinite(grid.mean), grid.sign * grid.mean, np.inf)
    order = (score[:, None, :] < score[:, :, None]).sum(-1) + 1.0
    ranks = []
    for i, variant in enumerate(grid.variants):
        above = 0
        for j, other in enumerate(grid.variants):
            if i == j:
                continue
            more = fails_more(grid.runs, grid.failed, i, j) if grid.tests else 0
            beaten = (
                better.get((variant, other)) == "b better"
                or better.get((other, variant)) == "a better"
            )
            above += more > 0 or (more == 0 and beaten)
        ran = total[:, i] > 0
        whole = ran.any() and (grid.runs[ran, i] > 0).all()
        ranks.append(
            Rank(
                place=1 + above,
                variant=variant,
                mean=float(grid.mean[ran, i].mean()) if whole else None,
                rank=float(order[ran, i].mean()),
                failed=float(grid.failed[:, i].sum() / total[:, i].sum()),
                runs=int(total[:, i].sum()),
            )
        )
    worst = math.inf
    return sorted(
        ranks,
        key=lambda r: (
            r.place,
            r.failed,
            worst if r.mean is None else grid.sign * r.mean,
        ),
    )


def _notes(grid: _Grid, pairs: Sequence[Pair]) -> list[str]:
    notes = []
    if len(grid.conditions) == 1:
        notes.append(f"One scale only: what holds at {grid.conditions[0]} may not hold at others.")
    most = int((grid.runs + grid.failed).max(initial=0))
    if most == 1:
        notes.append("One seed: nothing tells what chance does, so there is no verdict on scores.")
    elif most == 2:
        notes.append("Two seeds: where spreads differ much, a sweep in ten holds a false verdict.")
    notes += _noisy(grid)
    for i, variant in enumerate(grid.variants):
        if grid.failed[:, i].any():
            parts = [
                f"{grid.failed[c, i]} of {grid.runs[c, i] + grid.failed[c, i]} at {condition}"
                for c, condition in enumerate(grid.conditions)
                if grid.failed[c, i]
            ]
            notes.append(
                f"{variant} failed in {', '.join(parts)}; its means are of the runs that finished."
            )
    return notes + _reversals(pairs)


def _noisy(grid: _Grid) -> list[str]:
    flat = [
        condition
        for c, condition in enumerate(grid.conditions)
        if (grid.spread.own[c] > 0).any() and not np.isfinite(grid.spread.level[c])
    ]
    notes = []
    if flat:
        notes.append(f"All seeds gave the same scores at {', '.join(flat)}: no verdict there.")
    if grid.spread.alike >= 0.05:
        return notes
    with np.errstate(invalid="ignore", divide="ignore"):
        times = np.sqrt(grid.spread.variance / grid.spread.level[:, None])
    loud = [
        f"{grid.variants[i]} at {grid.conditions[c]} ({times[c, i]:.1f} times the usual)"
        for c, i in np.argwhere(times > NOISY)
    ]
    where = f": {', '.join(loud)}" if loud else ""
    return [*notes, f"Variances differ{where}; intervals are wider for it."]


def _reversals(pairs: Sequence[Pair]) -> list[str]:
    """Pairs whose order is shown one way under one condition, and the other way under another."""
    shown: dict[tuple[str, str], dict[Verdict, list[str]]] = {}
    for pair in pairs:
        if pair.condition is not None and pair.verdict in ("a better", "b better"):
            sides = shown.setdefault((pair.a, pair.b), {})
            sides.setdefault(pair.verdict, []).append(pair.condition)
    return [
        f"The order reverses: {a} is better than {b} at {', '.join(sides['a better'])}, worse at "
        f"{', '.join(sides['b better'])}; the mean over conditions hides that."
        for (a, b), sides in shown.items()
        if len(sides) == 2
    ]
