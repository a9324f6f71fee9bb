"""What a comparison found, to read and to hand on."""

from __future__ import annotations

from pathlib import Path

from zoo.compare.comparison import Comparison
from zoo.compare.results import to_csv
from zoo.training.trackers import dumps, replacing


def write_report(comparison: Comparison) -> dict[str, Path]:
    """Write the raw results, one line a run, as CSV and JSONL; returns their paths."""
    lines = "".join(f"{dumps(row.to_json())}\n" for row in comparison.rows)
    texts = {"csv": ("results.csv", to_csv(comparison.rows)), "json": ("results.jsonl", lines)}
    written = {}
    for kind, (name, text) in texts.items():
        written[kind] = comparison.workdir / name
        with replacing(written[kind]) as beside:
            beside.write_text(text, encoding="utf-8")
    return written
