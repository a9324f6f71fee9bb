"""Making runs over a shared folder: each is claimed, made once, and scored.

Any number of processes may work on one comparison. A run that nobody has claimed
(`zoo.compare.locks`) and that has no result is there for the taking, with the checkpoints that
its last process left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from zoo.compare.comparison import Choice
from zoo.compare.config import CompareConfig
from zoo.compare.ledger import append
from zoo.compare.locks import claim
from zoo.compare.matching import Matcher
from zoo.compare.origins import Origins
from zoo.compare.plan import Cell, Setting, Spec, cells, make_spec
from zoo.compare.results import LAYERS, RESULTS, SCORES, Phase, Row, read_row
from zoo.compare.scoring import Trained, measure_layers, score
from zoo.compare.tuning import tune
from zoo.errors import ConfigError, DataError, ZooError
from zoo.files import dumps
from zoo.tasks import TASKS
from zoo.tasks.base import Metric
from zoo.training.loop import train
from zoo.training.summary import summarise, write_summary

Say = Callable[[str], None]
# Seconds between two looks at what others are doing.
_PATIENCE = 1.0


class Preempted(Exception):
    """A signal stopped a run, which is saved; the same command goes on."""


class Board:
    """The runs of one comparison and what has become of them.

    Args:
        retry: whether runs that had failed before, other than by diverging, count as not made.
    """

    def __init__(self, config: CompareConfig, *, retry: bool = True) -> None:
        self.config = config
        self.metric = metric_of(config)
        self.select = self.metric if config.select is None else _metric(config.select)
        self.runs = config.workdir / "runs"
        self.cells = list(cells(config))
        self._matcher = Matcher(config)
        self._origins = Origins(config)
        self._specs: dict[Any, Spec] = {}
        self._results: dict[str, Row] = {}
        self._failed: dict[str, Any] = {}
        if retry:  # a full disk may have been it
            failed = [spec.row.run for spec in self.specs() if self.row(spec).status == "failed"]
            self._failed = {run: self._stamp(run) for run in failed}
            self._results.clear()

    def spec(
        self, cell: Cell, phase: Phase, setting: Setting, place: int, share: float = 1.0
    ) -> Spec:
        """`zoo.compare.plan.make_spec` for the matched run of a cell, made once."""
        key = (cell, phase, tuple(setting.items()), place, share)
        if key not in self._specs:
            run = self._matcher.run(cell)
            self._specs[key] = make_spec(
                self.config, cell, run, phase=phase, setting=setting, place=place, share=share
            )
        return self._specs[key]

    def row(self, spec: Spec) -> Row:
        """What is known of a run; what will not change is read once."""
        name = spec.row.run
        if name not in self._results:
            row = read_row(
                spec.row,
                self.runs,
                self.metric,
                self.select,
                origin=lambda: self._origins.of(spec),
            )
            # Until it has been made again, here or by another process.
            if row.status == "failed" and self._failed.get(name) == self._stamp(name):
                row = dataclasses.replace(row, status="missing")
            if row.status in RESULTS:
                self._results[name] = row
            return row
        return self._results[name]

    def plan(self, cell: Cell) -> tuple[list[Spec], Choice | None]:
        """The runs that the results of a cell ask for so far: tuning, then on fresh seeds."""

        def spec(*args: Any) -> Spec:
            return self.spec(cell, "tuning", *args)

        specs, choice = tune(self.config, cell, spec, self.select, self.row)
        if choice is not None:
            places = range(self.config.seeds)
            specs = specs + [self.spec(cell, "final", choice.setting, each) for each in places]
        return specs, choice

    def specs(self) -> list[Spec]:
        """The runs of all cells, as far as they are known."""
        return [spec for cell in self.cells for spec in self.plan(cell)[0]]

    def is_done(self, spec: Spec) -> bool:
        """Whether nothing is left to do for a run."""
        status = self.row(spec).status
        if status != "finished":
            return status in RESULTS
        return not self.wants_layers(spec)

    def wants_layers(self, spec: Spec) -> bool:
        """Whether the layers of a run are still to be measured: of the first final run of each
        cell they are, where its weights are there."""
        folder = self.runs / spec.row.run
        first = spec.row.seed == self.config.labelled()[spec.row.task].seed
        asked = self.config.layers and spec.row.phase == "final" and first
        return asked and not (folder / LAYERS).is_file() and _has_weights(folder)

    def _stamp(self, run: str) -> tuple[int, int]:
        """Other for each summary that is written."""
        status = (self.runs / run / "summary.json").stat()
        return status.st_ino, status.st_mtime_ns


def metric_of(config: CompareConfig) -> Metric:
    """What a comparison selects and judges by: the metric that was asked for, or the task's."""
    labels = config.labelled()
    name, lower, unit = TASKS[next(iter(labels.values())).task].metric
    if config.metric is None or config.metric == name:
        return Metric(name, lower, unit)
    return _metric(config.metric)


# Of these more is better, of the figures of a loss less.
_GAINS = ("bleu", "chrf", "accuracy", "f1", "f1_macro", "matthews", "exact_match")


def _metric(name: str) -> Metric:
    return Metric(name, lower_is_better=name not in _GAINS)


def work(board: Board, say: Say, *, shard: tuple[int, int] = (1, 1)) -> None:
    """Make what is to be made, with whoever else is at it, until all runs are done.

    Args:
        shard: (i, n): begin at the i-th of n parts of the cells, so that processes that start
            together take different runs; then help with the others.

    Raises:
        Preempted: when a signal came; the run is saved.
    """
    first = (shard[0] - 1) * len(board.cells) // shard[1]
    order = board.cells[first:] + board.cells[:first]
    while True:
        # Cell by cell, for the runs of a cell share their compiled programs.
        left = [spec for cell in order for spec in board.plan(cell)[0] if not board.is_done(spec)]
        if not left:
            return
        if not any(_take(board, spec, say) for spec in left):
            time.sleep(_PATIENCE)


def _take(board: Board, spec: Spec, say: Say) -> bool:
    """Make one run if nobody else is at it; whether it was made here."""
    with claim(board.config.workdir, spec.row.run) as ours:
        if not ours or board.is_done(spec):  # somebody was quicker
            return False
        make_run(board, spec, say)
        return True


def make_run(board: Board, spec: Spec, say: Say) -> None:
    """Train, resume, score or measure one run, whatever it still needs; it must be claimed."""
    folder = board.runs / spec.row.run
    row = board.row(spec)
    if row.status == "damaged":
        say(f"{row.note}; set aside as {_set_aside(folder)}, made again")
        row = board.row(spec)
    # What a ledger gave cannot be scored again: it has no weights.
    scorable = row.status == "unscored" and _has_weights(folder)
    if row.status not in RESULTS and not scorable:
        _log(board, "start", spec)
        summary = _trained(spec, say)
        if summary["status"] == "preempted":
            raise Preempted(f"{spec.row.run} stopped at step {summary['steps']} and is saved")
        row = board.row(spec)
    trained = Trained(spec)
    if row.status == "unscored":
        score(board.config, trained, board.select.name)
        row = board.row(spec)
    if row.status not in RESULTS:  # it would be made for ever
        figures = f"eval_{board.select.name} or test_{board.metric.name}"
        lacks = f"scoring it gave no {figures}, or its data has changed meanwhile"
        raise DataError(f"{spec.row.run}: {row.note or lacks}")
    if row.status == "finished" and board.wants_layers(spec):
        measure_layers(trained)
    if board.config.ledger is not None:
        append(Path(board.config.ledger), row, board.runs)
    _log(board, "end", spec, status=row.status)
    shown = "" if row.metric is None else f" {board.select.name} {row.metric:.4g}"
    say(f"{row.status}{shown}  {spec.row.run}")


def _trained(spec: Spec, say: Say) -> dict[str, Any]:
    """The summary of a run, made or resumed with its output in `log.txt`."""
    folder = Path(spec.config.workdir)
    begun = (folder / "config.json").exists()
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SCORES, LAYERS):  # of an earlier end
        (folder / name).unlink(missing_ok=True)
    try:
        return _made(spec)
    except ZooError as error:
        if not begun:
            raise
        # The folder holds another run, or no sound checkpoint: nothing of it is kept in use.
        say(f"{spec.row.run}: {error}; set aside as {_set_aside(folder)}, made again")
    folder.mkdir(parents=True)
    return _made(spec)


def _made(spec: Spec) -> dict[str, Any]:
    """The summary of a run; one that there is no memory for has failed, which is a result."""
    folder = Path(spec.config.workdir)
    with _output_to(folder / "log.txt"):
        try:
            return train(spec.config)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            summary = summarise(
                [], status="failed", steps=0, tokens=0, wall_time_s=0.0, note=_first_line(error)
            )
            write_summary(folder, summary)
            return summary


def _has_weights(folder: Path) -> bool:
    return (folder / "checkpoints").is_dir()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    with (
        path.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def _set_aside(folder: Path) -> Path:
    """Move a run that cannot be believed to `damaged/`; it is not deleted."""
    place = folder.parent.parent / "damaged"
    place.mkdir(exist_ok=True)
    count = 1
    while (aside := place / f"{folder.name}.{count}").exists():
        count += 1
    shutil.move(folder, aside)
    return aside


def _log(board: Board, event: str, spec: Spec, **more: Any) -> None:
    """One line in `log.jsonl`: who did what when."""
    entry = {"time": round(time.time(), 3), "pid": os.getpid(), "event": event}
    line = dumps(entry | {"run": spec.row.run} | more) + "\n"
    with (board.config.workdir / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line)


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4).

    Raises:
        ConfigError: on anything else.
    """
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        index, count = map(int, parts)
        if 1 <= index <= count:
            return index, count
    raise ConfigError(f"shard = {text!r}; use i/n with i from 1 to n, such as 1/4")


def log_of(workdir: Path) -> Sequence[dict[str, Any]]:
    """The entries of `log.jsonl` that are whole."""
    path = workdir / "log.jsonl"
    entries = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.is_file() else []:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries
