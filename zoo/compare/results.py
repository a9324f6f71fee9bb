"""What the runs of a comparison left behind: one row a run, read from its folder and checked."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.errors import DataError
from zoo.files import restore_non_finite
from zoo.tasks.base import Metric
from zoo.training.summary import read_summary
from zoo.training.trackers import read_metrics

Phase = Literal["tuning", "final"]
RunStatus = Literal["finished", "diverged", "failed", "preempted", "unscored", "missing", "damaged"]

SCORES, LAYERS = "scores.json", "layers.json"
# Ended for good: a result, whatever it is. The others are run (again).
RESULTS: tuple[RunStatus, ...] = ("finished", "diverged", "failed")


@dataclasses.dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        run: name of its folder below `runs/`.
        phase: `tuning` chooses a setting, `final` compares on seeds that no choice has seen.
        task: label of its task in the comparison.
        variant: as it was asked for.
        depth: layers, of each stack where there are two.
        width: d_model.
        setting: what the search space lists, by dotted field of the run's config.
        seed: of initialisation; the order of the data is shared by all runs of a place in the
            list of seeds.
        steps: asked for.
        status: how the run ended; `unscored` when figures are still to be taken, or were taken
            on other data or otherwise; `missing` when it has not ended, `damaged` when its files
            cannot be believed, or tell of other data.
        note: why, where it did not finish.
        metric: the figure that choices are made by, at the end of the run; None unless finished.
        test: the figure on data that no choice has seen; final runs only.
        figures: all `eval_` (selection) and `test_` figures of the end.
        seconds, tokens: of training.
        parameters: numbers trained.
        flops: of the whole run, forward and backward.
        memory: bytes of parameters, optimizer state and activations, as `--dry-run` counts them.
    """

    run: str
    phase: Phase
    task: str
    variant: str
    depth: int
    width: int
    setting: Mapping[str, Any]
    seed: int
    steps: int
    status: RunStatus = "missing"
    note: str = ""
    metric: float | None = None
    test: float | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0
    parameters: int = 0
    flops: float = 0.0
    memory: int = 0

    @property
    def lr(self) -> float | None:
        """The peak learning rate that the search set, if it set one."""
        return self.setting.get("optim.lr")

    @property
    def condition(self) -> str:
        """Where variants meet: task, depth and width."""
        return condition(self.task, self.depth, self.width)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def condition(task: str, depth: int, width: int) -> str:
    """A place where variants meet, in words."""
    return f"{task}, {depth} layers, width {width}"


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a run is made of that its name does not say.

    Attributes:
        data: fingerprint of what it trains on and is chosen by.
        scores: what its `test_` figures are made with, under `made_with` in `scores.json`.
    """

    data: str
    scores: Mapping[str, Any]


def read_row(
    planned: Row,
    runs: Path,
    metric: Metric,
    select: Metric | None = None,
    *,
    origin: Callable[[], Origin] | None = None,
) -> Row:
    """The planned row with what its folder holds.

    A folder whose files contradict each other gives the status `damaged` and a note that names
    the file, never a figure.

    Args:
        planned: of a run that may or may not have been made.
        runs: the folder of all runs.
        metric: the figure to compare by.
        select: the figure to choose by; None: the same.
        origin: what it would be made of now, asked only where its files say what it was made of;
            what they do not say, as those of older versions, is taken to be the same.
    """
    select = metric if select is None else select
    folder = runs / planned.run
    try:
        if not (folder / "summary.json").is_file():
            return dataclasses.replace(planned, status="missing")
        summary = read_summary(folder)
        _check(folder, summary, planned)
        scores = _scores(folder)
    except (DataError, OSError) as error:
        return dataclasses.replace(planned, status="damaged", note=str(error))
    data, made_with = summary.get("data_fingerprint"), scores.get("made_with")
    now = origin() if origin is not None and (data or made_with) else None
    if now is not None and data not in (None, now.data):
        note = f"{folder / 'summary.json'}: of a run on other data than there is now"
        return dataclasses.replace(planned, status="damaged", note=note)
    status: RunStatus = summary["status"]
    figures = {name: value for name, value in summary.items() if name.startswith("eval_")}
    figures |= scores.get("figures", {})
    value, test = figures.get(f"eval_{select.name}"), figures.get(f"test_{metric.name}")
    note = summary.get("note", "")
    finished = status == "finished"
    if finished:
        outdated = now is not None and made_with not in (None, now.scores)
        if not scores or outdated or value is None or (planned.phase == "final" and test is None):
            return dataclasses.replace(planned, status="unscored")
        if not math.isfinite(value):
            status, note, finished = "diverged", f"eval_{select.name} = {value} at the end", False
    return dataclasses.replace(
        planned,
        status=status,
        note=note,
        metric=value if finished else None,
        test=test if finished else None,
        figures=figures,
        seconds=float(summary["wall_time_s"]),
        tokens=int(summary["tokens"]),
        parameters=int(scores.get("parameters", 0)),
        flops=float(scores.get("flops", 0.0)),
        memory=int(scores.get("memory", 0)),
    )


def read_curve(row: Row, runs: Path) -> list[dict[str, Any]]:
    """The logged steps of a run, empty where there are none to believe."""
    try:
        return read_metrics(runs / row.run / "metrics.jsonl")
    except (DataError, OSError):
        return []


def read_layers(row: Row, runs: Path) -> dict[str, list[float]] | None:
    """By layer, from the bottom: `stream_rms`, `grad_norm`, `update_ratio`; None where they were
    not measured. Stacks of an encoder-decoder follow each other."""
    path = runs / row.run / LAYERS
    try:
        layers = restore_non_finite(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
    return layers if isinstance(layers, dict) else None


def to_csv(rows: Sequence[Row]) -> str:
    """One line a run; a setting's and a figure's name is its column."""
    settings = sorted({name for row in rows for name in row.setting})
    figures = sorted({name for row in rows for name in row.figures})
    plain = [
        field.name
        for field in dataclasses.fields(Row)
        if field.name not in ("setting", "figures", "note")
    ]
    columns = {"optim.lr": "lr"}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *(columns.get(name, name) for name in settings), *figures, "note"])
    for row in rows:
        values = [getattr(row, name) for name in plain]
        values += [row.setting.get(name) for name in settings]
        values += [row.figures.get(name) for name in figures]
        writer.writerow(["" if value is None else value for value in [*values, row.note]])
    return text.getvalue()


def _check(folder: Path, summary: Mapping[str, Any], planned: Row) -> None:
    """Raise DataError where the summary is not that of a whole run of this plan."""
    file = folder / "summary.json"
    for name in ("steps", "tokens", "wall_time_s"):
        value = summary.get(name)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise DataError(f"{file}: {name} = {value!r}, where a number is needed")
    if summary["status"] != "finished":
        return
    if summary["steps"] != planned.steps:
        raise DataError(f"{file}: steps = {summary['steps']}, this run has {planned.steps}")
    curve = read_metrics(folder / "metrics.jsonl")
    last = next((row for row in reversed(curve) if "eval_loss" in row), None)
    if last is None or last["step"] != planned.steps:
        raise DataError(f"{folder / 'metrics.jsonl'}: no evaluation at step {planned.steps}")
    for name, value in last.items():
        if name.startswith("eval_") and not _same(summary.get(name), value):
            raise DataError(
                f"{file}: {name} = {summary.get(name)!r}, the last line of metrics.jsonl has "
                f"{value!r}"
            )


def _same(ours: Any, theirs: Any) -> bool:
    return ours == theirs or (ours != ours and theirs != theirs)


def _scores(folder: Path) -> dict[str, Any]:
    """What was measured beside training; empty before it was."""
    path = folder / SCORES
    if not path.is_file():
        return {}
    try:
        scores = restore_non_finite(json.loads(path.read_bytes()))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from error
    if not isinstance(scores, dict) or not isinstance(scores.get("figures"), dict):
        raise DataError(f"{path}: needs an object with `figures`")
    for name, value in scores["figures"].items():
        if not isinstance(value, (int, float)):
            raise DataError(f"{path}: {name} = {value!r}, where a number is needed")
    return scores
