"""Finished runs as lines of a file that can be committed, and back to folders.

A line holds what a report reads of a run: its summary, its scores, its layers, and its curve
thinned out. Where a run has a line and no folder, the folder is made of the line, without
checkpoints; the run then counts as made, on whatever machine. A run that is made again gets
another line where it comes out differently: the last one counts.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from zoo.compare.locks import claim
from zoo.compare.results import LAYERS, SCORES, Row
from zoo.environment import environment
from zoo.errors import DataError
from zoo.files import dumps, write_json
from zoo.training.trackers import read_metrics

# Logged steps of a curve that a line keeps, beside those of evaluations.
_KEPT = 40
_COLUMNS = ("step", "loss", "grad_norm", "tokens")
# Where these are equal a line says the same; seconds never are.
_SAID = ("status", "scores", "layers")


def append(ledger: Path, row: Row, runs: Path) -> None:
    """Add a line for a run that is over, unless its last one says the same."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(ledger.with_name(f".{ledger.name}.lock")):
        line, known = _packed(row, runs / row.run), _last_lines(ledger).get(row.run)
        if known is not None and _said(known) == _said(line):
            return
        with ledger.open("a", encoding="utf-8") as file:
            file.write(dumps(line) + "\n")


def unpack(ledger: Path, workdir: Path) -> int:
    """Make a folder for each run that has a line and no folder; returns how many.

    A run that another process has claimed is left to it.

    Args:
        workdir: of the comparison.

    Raises:
        DataError: naming the line that cannot be read.
    """
    made = 0
    lines, runs = _last_lines(ledger), workdir / "runs"  # read whole before anything is made
    runs.mkdir(parents=True, exist_ok=True)
    for run, line in lines.items():
        folder = runs / run
        if _in_use(folder):
            continue
        with claim(workdir, run) as ours:
            if ours and not _in_use(folder):
                _unpacked(line, folder)
                made += 1
    return made


def _in_use(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _unpacked(line: Mapping[str, Any], folder: Path) -> None:
    """All of the folder or, when the process is killed, none of it."""
    with tempfile.TemporaryDirectory(dir=folder.parent.parent, prefix=".unpacking-") as beside:
        made = Path(beside) / "run"
        made.mkdir()
        curve = "".join(dumps(each) + "\n" for each in line["metrics"])
        (made / "metrics.jsonl").write_text(curve, encoding="utf-8")
        for name, key in ((SCORES, "scores"), (LAYERS, "layers"), ("summary.json", "summary")):
            if line.get(key) is not None:
                write_json(made / name, line[key])
        os.replace(made, folder)


def _last_lines(ledger: Path) -> dict[str, dict[str, Any]]:
    """The line that counts of each run, by the name of its folder."""
    return {Path(line["run"]).name: line for line in read(ledger)}


def _said(line: Mapping[str, Any]) -> list[Any]:
    """What makes a line worth another one."""
    return [*(line.get(name) for name in _SAID), line["summary"].get("data_fingerprint")]


def read(ledger: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger, none where there is no such file.

    A value that is not finite stays the word that JSON has for it.

    Raises:
        DataError: naming the line that cannot be read.
    """
    # Bytes end at newlines alone: a message may hold other characters that end a line of text.
    try:
        lines = ledger.read_bytes().splitlines() if ledger.is_file() else []
    except OSError as error:
        raise DataError(f"ledger = {str(ledger)!r} cannot be read: {error}") from error
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            complete = {"run", "summary", "metrics"} <= set(line)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"ledger = {str(ledger)!r}, line {number} is no JSON object: {error}; use a file "
                "that --ledger wrote, or the name of a new one"
            ) from error
        if not complete:
            raise DataError(
                f"ledger = {str(ledger)!r}, line {number}: needs run, summary and metrics"
            )
        yield line


def _packed(row: Row, folder: Path) -> dict[str, Any]:
    found, curve = environment(), folder / "metrics.jsonl"
    return {
        "run": row.run,
        "phase": row.phase,
        "seed": row.seed,
        "status": row.status,
        "metric": row.metric,
        "test": row.test,
        "summary": json.loads((folder / "summary.json").read_bytes()),
        "scores": _optional(folder / SCORES),
        "layers": _optional(folder / LAYERS),
        # A run that failed before its first step left none.
        "metrics": thinned(read_metrics(curve)) if curve.is_file() else [],
        "commit": found["commit"],
        "jax": found["packages"]["jax"],
        "processor": found["processor"],
        "cpus": found["cpus"],
    }


def _optional(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.is_file() else None


def thinned(curve: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a line keeps of a curve; of what it has kept, all."""
    every = max(1, len(curve) // _KEPT)
    return [
        {name: value for name, value in row.items() if name in _COLUMNS or name.startswith("eval_")}
        for index, row in enumerate(curve)
        if "eval_loss" in row or index % every == 0 or index == len(curve) - 1
    ]
