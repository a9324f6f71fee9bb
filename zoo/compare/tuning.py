"""What is to be run to tune a variant, and what has been chosen: pure functions of the results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from zoo.compare.comparison import Choice
from zoo.compare.config import CompareConfig, Range
from zoo.compare.plan import Cell, Setting, Spec, points
from zoo.compare.results import RESULTS, Row
from zoo.errors import ConfigError
from zoo.tasks.base import Metric

Make = Callable[[Setting, int, float], Spec]
"""The tuning run of a setting, a place in the list of seeds, and a share of the steps."""
Read = Callable[[Spec], Row]
"""The row of a run, as far as it has been made."""

Scores = Callable[[Sequence[Setting], float], list[float]]
"""A score for each setting at a share of the steps, lower is better."""

# How near to an end of a range, as a share of the way, counts as on it.
_NEAR = 0.05


def tune(
    config: CompareConfig, cell: Cell, make: Make, metric: Metric, read: Read
) -> tuple[list[Spec], Choice | None]:
    """The runs that tuning has asked for so far, and the choice once they are all made.

    Where the choice is None some of the runs have no result yet; with their results, ask again.

    Args:
        make: a run of the cell, matched to the first variant.
        read: the result of a run.
    """
    asked: list[Spec] = []

    def scores(settings: Sequence[Setting], share: float) -> list[float]:
        """Of each setting, lower is better; all runs are asked for before one is missed."""
        found: list[float | None] = []
        for setting in settings:
            specs = [make(setting, place, share) for place in range(config.tuning_seeds)]
            asked.extend(specs)
            found.append(_score([read(spec) for spec in specs], metric))
        if None in found:
            raise _Unfinished
        return [score for score in found if score is not None]

    try:
        return asked, _chosen(config, cell, metric, scores)
    except _Unfinished:
        return asked, None


class _Unfinished(Exception):
    """Runs that a choice depends on have no result yet."""


def _chosen(config: CompareConfig, cell: Cell, metric: Metric, scores: Scores) -> Choice:
    settings = points(config)
    if len(settings) == 1:
        note = "" if settings[0] else "nothing was tuned: the recipe's setting"
        return _choice(cell, settings[0], note=note)
    tried, share = len(settings), 1.0
    if config.search == "halving":
        settings, found, share = _halved(settings, scores)
    else:
        found = scores(settings, share)
    lists = {name: list(v) for name, v in config.space.items() if not isinstance(v, Range)}
    added = 0
    while added < config.extend and min(found) < math.inf:
        beyond = _beyond(settings[found.index(min(found))], lists)
        if beyond is None:
            break
        try:
            found = found + scores([beyond], share)
        except ConfigError:  # no such value: what was tried ends where it must
            break
        settings, added = [*settings, beyond], added + 1
    least, counts = min(found), {"tried": tried + added, "added": added}
    if least == math.inf:
        return _choice(cell, _mildest(settings), note="every point diverged", **counts)
    best = settings[found.index(least)]
    score = least if metric.lower_is_better else -least
    return _choice(cell, best, score=score, on_edge=_edges(best, lists, config), **counts)


def _halved(settings: list[Setting], scores: Scores) -> tuple[list[Setting], list[float], float]:
    """(the last round's settings, their scores, its share of the steps): each round gives the
    better half of the one before twice as many steps."""
    found: list[float] = []
    share = 1.0
    for left, share in halving(len(settings)):
        if found:
            order = sorted(range(len(settings)), key=found.__getitem__)
            settings = [settings[index] for index in order[:left]]
        found = scores(settings, share)
    return settings, found, share


def halving(count: int) -> list[tuple[int, float]]:
    """(points, their share of the steps) of each round of successive halving over `count`."""
    rounds = max(1, math.ceil(math.log2(count)))
    return [(math.ceil(count / 2**turn), 2.0 ** (turn - rounds)) for turn in range(rounds)]


def _choice(cell: Cell, setting: Setting, **more: Any) -> Choice:
    return Choice(cell.task, cell.variant, cell.depth, cell.width, dict(setting), **more)


def _score(rows: Sequence[Row], metric: Metric) -> float | None:
    """Mean over the seeds, lower is better; infinite where one of them failed, None where one
    has no result yet."""
    if any(row.status not in RESULTS for row in rows):
        return None
    if any(row.metric is None for row in rows):
        return math.inf
    mean = statistics.fmean(row.metric for row in rows if row.metric is not None)
    return mean if metric.lower_is_better else -mean


def _beyond(best: Setting, lists: dict[str, list[Any]]) -> Setting | None:
    """The point past the end that the best one lies on, a step of the list further.

    The lists grow with it.
    """
    for name, values in lists.items():
        numbers = _ladder(values)
        if numbers is None or best[name] not in (numbers[0], numbers[-1]):
            continue
        near, far = numbers[:2] if best[name] == numbers[0] else numbers[:-3:-1]
        # Steps of a ladder of rates are factors; through 0 there is no factor.
        value = near * near / far if min(numbers) > 0 else 2 * near - far
        beyond = round(value) if isinstance(near, int) else float(f"{value:.4g}")
        if beyond in values:
            continue
        values.append(beyond)
        return {**best, name: beyond}
    return None


def _edges(best: Setting, lists: dict[str, list[Any]], config: CompareConfig) -> tuple[str, ...]:
    found = []
    for name, values in config.space.items():
        if isinstance(values, Range):
            share = values.share(best[name])
            if share < _NEAR or share > 1 - _NEAR:
                found.append(name)
            continue
        numbers = _ladder(lists[name])
        if numbers is not None and best[name] in (numbers[0], numbers[-1]):
            found.append(name)
    return tuple(found)


def _ladder(values: Sequence[Any]) -> list[float] | None:
    """The values in order where they are numbers that have an order to go on in."""
    if len(values) < 2 or any(isinstance(v, (bool, str)) or v is None for v in values):
        return None
    return sorted(values)


def _mildest(settings: Sequence[Setting]) -> Setting:
    """The one of the smallest learning rate, else the first."""
    return min(settings, key=lambda setting: setting.get("optim.lr", 0.0))
