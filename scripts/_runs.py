"""Training runs as rows of a committed table: made once, skipped when there, re-run to check."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.environment import environment
from zoo.training.config import TrainConfig
from zoo.training.identity import identity
from zoo.training.loop import train
from zoo.training.trackers import read_metrics

Row = dict[str, Any]


def finished_run(make: Callable[[str], TrainConfig]) -> tuple[dict[str, Any], list[Row], Row]:
    """(summary, metrics, the columns that every row has) of one run in a folder that is removed.

    Args:
        make: workdir to config.

    Raises:
        SystemExit: when a signal stopped the run, which is then no row.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = make(str(Path(folder) / "run"))
        summary = train(config)
        if summary["status"] == "preempted":
            raise SystemExit("stopped by a signal: this run has no row, the same command makes it")
        metrics = read_metrics(Path(config.workdir) / "metrics.jsonl")
        shutil.rmtree(config.workdir)
    versions = environment()
    columns = {
        "seconds": round(summary["wall_time_s"], 1),
        "config": identity(config),
        "jax": versions["packages"]["jax"],
        "python": versions["python"],
        "processor": versions["processor"],
    }
    return summary, metrics, columns


class Table:
    """Rows in a JSONL file, one a finished run, found by the hash of their config."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[Row]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def find(self, config: TrainConfig) -> Row | None:
        """The row of a run with just these settings, if there is one."""
        wanted = identity(config)
        return next((row for row in self.rows() if row["config"] == wanted), None)

    def ensure(self, config: TrainConfig, run: Callable[[], Row]) -> Row:
        """The row of a run, made and written down if it is missing."""
        row = self.find(config)
        if row is None:
            row = run()
            self.path.parent.mkdir(exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return row

    def again(
        self, count: int, run: Callable[[Row], Row], verdict: Callable[[Row], Any] | None = None
    ) -> int:
        """Re-run some rows chosen at random; the number that did not come out equal.

        Rows of a processor like this one come first. Others round differently: of those only
        what `verdict` says of them can be equal.

        Raises:
            SystemExit: when too few rows are of this processor, and there is no verdict.
        """
        here = environment()["processor"]
        ours = [row for row in self.rows() if row.get("processor") == here]
        others = [row for row in self.rows() if row.get("processor") != here]
        print(f"{len(ours)} of {len(self.rows())} rows are of this processor, {here}")
        if len(ours) < count and verdict is None:
            raise SystemExit(f"--again {count}: only {len(ours)} rows can come out equal here")
        chosen = random.sample(ours, min(count, len(ours)))
        chosen += random.sample(others, min(count - len(chosen), len(others)))
        different = 0
        for row in chosen:
            fresh = run(row)
            changed = [key for key in row if key not in _MAY_DIFFER and fresh[key] != row[key]]
            same, said = not changed, "differs"
            if changed and verdict is not None and row.get("processor") != here:
                same = verdict(fresh) == verdict(row)
                said = f"made elsewhere, verdict {'equal' if same else 'not equal'}"
            different += not same
            name = ", ".join(f"{key} {row[key]}" for key in list(row)[:3])
            apart = ", ".join(f"{key} {row[key]} -> {fresh[key]}" for key in changed)
            print(f"{name}: {f'{said}: {apart}' if changed else 'equal'}")
        return different


_MAY_DIFFER = ("seconds", "jax", "python", "processor")
