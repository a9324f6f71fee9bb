"""Numbers and places as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.compare.results import Row
from zoo.tasks.base import Metric

Place = tuple[str, int, int]
"""Where variants meet: task, depth, width."""


def number(value: float | None, digits: int = 4) -> str:
    """A few digits; a dash for what is not known."""
    if value is None or math.isnan(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e5 and math.isfinite(value):
        size, power = f"{value:.{digits - 1}e}".split("e")
        size = size.rstrip("0").rstrip(".") if "." in size else size
        return f"{size}e{int(power)}"
    return f"{value:.{digits}g}"


def figure(value: float | None, digits: int = 4) -> str:
    """The same with zeros at the end, for a column of measurements."""
    if value is None or not math.isfinite(value) or not 1e-3 <= abs(value) < 1e5:
        return number(value, digits)
    return f"{value:#.{digits}g}".rstrip(".")


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """`low to high`."""
    if low is None or high is None:
        return "–"
    return f"{figure(low, digits)} to {figure(high, digits)}"


def amount(value: float) -> str:
    """`1.2 M`: of what is counted in thousands and more."""
    for size, sign in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {sign}"
    return f"{value:.3g}"


def named(metric: Metric) -> str:
    """`bits per byte`; which way is up is said once, in the methods."""
    return metric.name.replace("_", " ")


def unit(metric: Metric) -> str:
    """What stands after a difference of the metric."""
    return metric.unit or named(metric)


def listing(words: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def several(count: int, word: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def setting(values: Mapping[str, Any]) -> str:
    """`lr 0.001, warmup 100`."""
    shown = ((name.rpartition(".")[2], value) for name, value in values.items())
    return ", ".join(
        f"{name} {number(value) if isinstance(value, float) else value}" for name, value in shown
    )


def place(row: Row) -> Place:
    """Where a run meets those of other variants."""
    return row.task, row.depth, row.width


def place_name(where: Place, places: Sequence[Place]) -> str:
    """A place in as few words as tell it from the others."""
    task, depth, width = where
    layers = several(depth, "layer")
    words = [task] if len({each[0] for each in places}) > 1 else []
    words.append(layers)
    words += [f"width {width}"] if len({each[2] for each in places}) > 1 else []
    return ", ".join(words)


def kind_of(places: Sequence[Place]) -> str:
    """What several places differ in: `depths`, `widths`, `tasks`, or `places` where in more."""
    kinds = [
        name
        for name, values in zip(
            ("tasks", "depths", "widths"), zip(*places, strict=True), strict=True
        )
        if len(set(values)) > 1
    ]
    return kinds[0] if len(kinds) == 1 else "places"
