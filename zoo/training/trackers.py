"""Where a run's figures go: `metrics.jsonl` and TensorBoard events behind one small protocol.

The loop calls `log(step, figures)` once a logged step, with everything known at that step in one
mapping: `loss`, `learning_rate`, `grad_norm`, `tokens` (seen since step 0), `tokens_per_s`, and at
evaluations also `eval_loss`, `eval_bits_per_byte`, `eval_perplexity`. Names that start with `eval_`
are held-out figures; any other name is allowed and passed on as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from zoo.errors import DataError
from zoo.files import dumps, replacing, restore_non_finite


class Tracker(Protocol):
    """Takes figures as the run makes them."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Record `figures` of optimizer step `step` (steps count from 1; 0 is before training)."""

    def close(self) -> None:
        """Write out what is pending. A second call does nothing."""


class Trackers:
    """Several trackers as one. A context manager: leaving it closes them all."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Pass `figures` to each tracker, in order."""
        for tracker in self._trackers:
            tracker.log(step, figures)

    def close(self) -> None:
        """Close each tracker, also when another one's close fails; that error is then raised."""
        with ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(tracker.close)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JsonlTracker:
    """Appends one JSON object a call to `path`, flushed at once so that a kill loses no line.

    A value that is not finite is written as the string `"NaN"`, `"Infinity"` or `"-Infinity"`, so
    that every line is valid JSON; `read_metrics` turns these back into floats. A line that an
    earlier kill left torn is removed before the first append. Folders are made as needed.

    Raises:
        DataError: the file holds a damaged line before its last.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _repair_tail(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Append `{"step": step, **figures}` as one line."""
        self._file.write(dumps({"step": int(step), **figures}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardTracker:
    """Writes TensorBoard events into `folder`: `eval_loss` as `eval/loss`, others as `train/…`.

    Args:
        folder: where the event files go; made when missing. A resumed run adds a file.
        resume_step: the checkpoint's step. TensorBoard then hides what an earlier process logged
            after it. None for a run that starts at 0.
    """

    def __init__(self, folder: Path | str, *, resume_step: int | None = None) -> None:
        from tensorboardX import SummaryWriter

        # TensorBoard purges from `purge_step` on, itself included; the checkpoint's step stays.
        purge_step = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge_step, flush_secs=20)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add each figure as a scalar of this step."""
        for name, value in figures.items():
            self._writer.add_scalar(_tag(name), float(value), step)

    def close(self) -> None:
        """Write out the events still queued."""
        self._writer.close()


def cut_back(path: Path | str, step: int) -> None:
    """Drop from the metrics at `path` all lines after `step`, and a torn last line.

    Called on resume with the checkpoint's step, before a `JsonlTracker` is opened; -1 empties the
    file. The kept lines stay byte for byte; the new file replaces the old one in one rename. A
    missing file is left missing.

    Raises:
        DataError: a line before the last is damaged.
    """
    path = Path(path)
    if not path.exists():
        return
    kept = [line for line, row in _lines(path) if row["step"] <= step]
    _rewrite(path, kept)


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """The logged objects in file order, numbers that are not finite as floats again.

    A torn last line (the run was killed, or is writing now) is left out.

    Raises:
        DataError: the file is missing, or a line before the last is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such metrics file; a training run writes one as metrics.jsonl")
    return [row for _, row in _lines(path)]


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Each line's bytes and object. Read as bytes: a torn line may end inside a character."""
    raw = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(raw, start=1):
        row = _row(line)
        if row is not None:
            found.append((line, row))
        elif line.strip() and number < len(raw):  # the last piece has no newline: torn
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is no JSON object with an integer `step`; "
                "remove the line to go on"
            )
    return found


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return {key: restore_non_finite(value) for key, value in row.items()}


def _repair_tail(path: Path) -> None:
    """Make an existing file end in a whole line."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        _rewrite(path, [line for line, _ in _lines(path)])


def _rewrite(path: Path, lines: Sequence[bytes]) -> None:
    with replacing(path) as beside:
        beside.write_bytes(b"".join(line + b"\n" for line in lines))


def _tag(name: str) -> str:
    """TensorBoard groups its panels by what stands before the slash."""
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
