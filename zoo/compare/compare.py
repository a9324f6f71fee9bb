"""A comparison from its settings to its report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from zoo.compare.comparison import Choice, Comparison
from zoo.compare.config import CompareConfig
from zoo.compare.executors import CONFIG, Executor, executor
from zoo.compare.ledger import unpack
from zoo.compare.plan import base_run, cells, test_data
from zoo.compare.report import write_report
from zoo.compare.results import RESULTS, Row, condition
from zoo.compare.statistics import Analysis, Score, analyse
from zoo.compare.work import Board, Say, metric_of
from zoo.data.base import Data
from zoo.environment import environment
from zoo.errors import ConfigError, choices, near_matches
from zoo.files import write_json
from zoo.tasks import TASKS, Task
from zoo.training.setup import open_run_data
from zoo.variants.registry import is_own

_EDGE = "a best setting lies on the end of what was searched"


def compare(
    config: CompareConfig,
    *,
    say: Say = print,
    shard: tuple[int, int] = (1, 1),
    run_with: Executor | None = None,
) -> tuple[Comparison, dict[str, Path]]:
    """Make every run that is missing, and the report.

    The same call again goes on where it stopped; more variants, depths or seeds reuse what is
    there.

    Args:
        say: takes a line of news.
        shard: (i, n) of the processes that share the folder.
        run_with: how runs are made; default: as `config.workers` says.

    Returns:
        The comparison, and the files of its report by kind.

    Raises:
        ConfigError: on bad input, before anything is run.
        Preempted: when a signal came; the run is saved.
    """
    check(config)
    try:
        if config.ledger is not None:
            unpack(Path(config.ledger), config.workdir)
        config.workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"workdir = {str(config.workdir)!r} cannot be made: {error}") from error
    write_json(config.workdir / CONFIG, {"config": config.to_json(), "environment": environment()})
    board = Board(config)
    (run_with or executor(config, shard))(board, say)
    made = comparison(config)
    return made, write_report(made)


def check(config: CompareConfig) -> None:
    """Refuse what cannot work, before anything is run.

    Raises:
        ConfigError: naming what it is.
    """
    config.validate()
    labels = config.labelled()
    for run in labels.values():
        run.validate()
        if run.init_from is not None:
            raise ConfigError("init_from: a comparison trains from scratch; leave it out")
        if run.data_seed is not None:
            raise ConfigError("data_seed: a comparison sets it, from seed; leave it out")
        if config.test_path is not None and run.data.path is None:
            raise ConfigError(
                f"test_path = {config.test_path!r} needs data.path"
                + ("; with data.dataset use test_split" if run.data.dataset else "")
            )
    names: dict[str, str] = {}
    for name in config.variants:
        same = names.setdefault(_folded(name), name)
        if same != name:
            raise ConfigError(f"variants names {same!r} and {name!r}, which make the same folders")
        if is_own(name) and config.workers > 1:
            raise ConfigError(
                f"workers = {config.workers}: {name!r} is registered in this process alone, and "
                "workers are others; use workers = 1, or start this command as several shards"
            )
    if len({TASKS[run.task].metric for run in labels.values()}) > 1 and config.metric is None:
        raise ConfigError(
            "tasks are judged by different metrics; name one that all have, such as metric = 'loss'"
        )
    opened = set()
    for cell in cells(config):
        run = base_run(config, cell)
        if cell.task not in opened:
            opened.add(cell.task)
            data = open_run_data(run)
            open_run_data(test_data(config, run))
            for field in ("metric", "select"):
                check_metric(field, getattr(config, field), TASKS[run.task], data)


def check_metric(field: str, name: str | None, task: Task, data: Data) -> None:
    """Refuse a figure that a task does not give on its data.

    Raises:
        ConfigError: naming those that it gives.
    """
    ratio, hits = data.bytes_per_token("validation"), dict.fromkeys(task.hits, 1.0)
    given = list(task.metrics(1.0, ratio, **hits))
    if task.judge is not None:
        given += [each for each in task.judge.names(data.spec) if each not in given]
    if name is not None and name not in given:
        raise ConfigError(
            f"{field} = {name!r}: {task.name} gives no such figure on {data.label}"
            f"{near_matches(name, given)}; it gives {choices(given)}"
        )


def comparison(config: CompareConfig) -> Comparison:
    """What the folder of a comparison holds, analysed; nothing is run."""
    board = Board(config, retry=False)
    rows: list[Row] = []
    choices = []
    missing = 0
    for cell in board.cells:
        specs, choice = board.plan(cell)
        found = [board.row(spec) for spec in specs]
        rows += found
        missing += sum(row.status in ("missing", "unscored", "preempted") for row in found)
        if choice is not None:
            choices.append(choice)
    notes = []
    if missing:
        notes.append(f"{missing} runs are still to be made: this is an interim report.")
    for row in rows:
        if row.status == "damaged":
            notes.append(f"{row.run} is damaged and left out: {row.note}.")
    return Comparison(
        workdir=config.workdir,
        config=config.to_json(),
        metric=board.metric,
        rows=rows,
        choices=choices,
        analysis=judge(config, rows, choices),
        notes=notes,
        environment=environment(),
        select=board.select,
    )


def judge(config: CompareConfig, rows: Sequence[Row], choices: Sequence[Choice]) -> Analysis:
    """The statistics of the final runs; no verdict rests on a setting at the end of its space."""
    metric = metric_of(config)
    final = [row for row in rows if row.phase == "final" and row.status in RESULTS]
    edges = [
        (choice.variant, condition(choice.task, choice.depth, choice.width))
        for choice in choices
        if choice.on_edge
    ]
    analysis = analyse(
        [Score(row.variant, row.condition, row.seed, row.test) for row in final],
        lower_is_better=metric.lower_is_better,
        smallest=config.smallest,
        withheld=dict.fromkeys(edges, _EDGE),
    )
    if not edges:
        return analysis
    names = sorted(f"{name} ({where})" for name, where in edges)
    note = (
        f"No verdict on {'; '.join(names)}: the best setting lies on the end of the space that was "
        "searched, and a better one may lie beyond."
    )
    return dataclasses.replace(analysis, notes=[*analysis.notes, note])


def _folded(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
