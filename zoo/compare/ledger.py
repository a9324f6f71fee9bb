"""Finished runs as lines of a file that can be committed, and back to folders.

A line holds what a report reads of a run: its summary, its scores, its layers, and its curve
thinned out. Where a run has a line and no folder, the folder is made of the line, without
checkpoints; the run then counts as made, on whatever machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from zoo.compare.results import LAYERS, SCORES, Row, write_json
from zoo.environment import environment
from zoo.errors import DataError
from zoo.training.trackers import dumps, read_metrics, replacing

# Logged steps of a curve that a line keeps, beside those of evaluations.
_KEPT = 40
_COLUMNS = ("step", "loss", "grad_norm", "tokens")


def append(ledger: Path, row: Row, runs: Path) -> None:
    """Add a line for a run that is over, unless it has one."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(ledger.with_name(f".{ledger.name}.lock")):
        if any(line["run"] == row.run for line in read(ledger)):
            return
        with ledger.open("a", encoding="utf-8") as file:
            file.write(dumps(_packed(row, runs / row.run)) + "\n")


def unpack(ledger: Path, runs: Path) -> int:
    """Make a folder for each line whose run has none; returns how many.

    Raises:
        DataError: naming the line that cannot be read.
    """
    made = 0
    for line in read(ledger):
        folder = runs / Path(line["run"]).name
        if (folder / "summary.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "metrics.jsonl") as beside:
            text = "".join(dumps(each) + "\n" for each in line["metrics"])
            beside.write_text(text, encoding="utf-8")
        for name, key in ((SCORES, "scores"), (LAYERS, "layers")):
            if line.get(key) is not None:
                write_json(folder / name, line[key])
        write_json(folder / "summary.json", line["summary"])  # last, as a run does
        made += 1
    return made


def read(ledger: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger, none where there is no such file.

    A value that is not finite stays the word that JSON has for it.

    Raises:
        DataError: naming the line that cannot be read.
    """
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.is_file() else []
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            complete = {"run", "summary", "metrics"} <= set(line)
        except (ValueError, TypeError) as error:
            raise DataError(f"{ledger}, line {number}: {error}") from error
        if not complete:
            raise DataError(f"{ledger}, line {number}: needs run, summary and metrics")
        yield line


def _packed(row: Row, folder: Path) -> dict[str, Any]:
    found = environment()
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
        "metrics": thinned(read_metrics(folder / "metrics.jsonl")),
        "commit": found["commit"],
        "jax": found["packages"]["jax"],
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
