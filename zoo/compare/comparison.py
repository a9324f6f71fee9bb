"""A finished comparison, as the report reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.compare.results import Row
from zoo.compare.statistics import Analysis
from zoo.tasks.base import Metric


@dataclasses.dataclass(frozen=True)
class Choice:
    """What tuning chose for one variant at one task, depth and width.

    Attributes:
        setting: by dotted field; empty where nothing was tuned.
        score: mean of the selection metric over the tuning seeds; None where every point
            diverged, or nothing was tuned.
        tried: points of the space that were run.
        added: of these, points beyond the ends of the given lists.
        on_edge: fields whose best value lies on an end of what was tried: a better one may lie
            beyond, so no verdict rests on it.
        note: in words, where something is to be said.
    """

    task: str
    variant: str
    depth: int
    width: int
    setting: Mapping[str, Any]
    score: float | None = None
    tried: int = 0
    added: int = 0
    on_edge: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything that the report shows.

    Attributes:
        workdir: of the comparison; runs are in `workdir/runs`.
        config: `CompareConfig.to_json()`.
        metric: what variants are judged by.
        rows: every run of the plan, made or not.
        choices: what tuning chose, in the order of the plan.
        analysis: of the final runs' test figures.
        notes: what the reader must know, a sentence each.
        environment: versions, devices and commit.
        select: what settings are chosen by; None: the metric.
    """

    workdir: Path
    config: Mapping[str, Any]
    metric: Metric
    rows: Sequence[Row]
    choices: Sequence[Choice]
    analysis: Analysis
    notes: Sequence[str]
    environment: Mapping[str, Any]
    select: Metric | None = None
