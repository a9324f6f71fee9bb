"""Benchmarks as rows of a committed table: measured once, skipped when there, shown as a page."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo.environment import environment

Known = dict[str, dict[str, Any]]  # the newest line of each row, by its name
Measured = tuple[float, dict[str, Any]]  # the figure, and what it is made of


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what the figure is, in words.
        hold: the bound that is promised; `at_least` says which side of it is good. None: a
            figure to know, with no promise.
    """

    name: str
    what: str
    hold: float | None
    measure: Callable[[argparse.Namespace], Measured]
    at_least: bool = False

    def holds(self, value: float) -> bool:
        if self.hold is None:
            return True
        return value >= self.hold if self.at_least else value <= self.hold


def machine() -> dict[str, Any]:
    """What the figures hold for: processor, cores, versions, commit."""
    found = environment()
    versions = {name: found["packages"][name] for name in ("jax", "flax", "optax")}
    return {
        "cpu": found["processor"],
        "cores": found["cpus"],
        "versions": versions,
        "commit": found["commit"],
    }


def read(results: Path) -> dict[str, dict[str, Any]]:
    """The newest line of each row."""
    return {line["row"]: line for line in _lines(results)}


def _lines(results: Path) -> list[dict[str, Any]]:
    if not results.exists():
        return []
    return [json.loads(text) for text in results.read_text(encoding="utf-8").splitlines()]


def arguments(doc: str, *, results: Path, page: Path) -> argparse.Namespace:
    """The command line that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", default=[], help="words that a row's name contains")
    parser.add_argument("--again", action="store_true", help="measure rows that are there anew")
    parser.add_argument("--table", action="store_true", help="write the page only")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each side of a race")
    parser.add_argument("--parity-python", default=sys.executable, help="has the other library")
    parser.add_argument("--results", type=Path, default=results, help="file of the lines")
    parser.add_argument("--page", type=Path, default=page, help="file of the table")
    return parser.parse_args()


def run(rows: Sequence[Row], options: argparse.Namespace, show: Callable[[Known], str]) -> int:
    """Measure the rows that are asked for and missing, then write the page that `show` makes."""
    chosen = [
        row for row in rows if not options.rows or any(word in row.name for word in options.rows)
    ]
    known, about = read(options.results), machine()
    for row in [] if options.table else chosen:
        if row.name in known and not options.again:
            continue
        start = time.perf_counter()
        value, detail = row.measure(options)
        line = {"row": row.name, "value": round(value, 4), "hold": row.hold, "detail": detail}
        line |= {"machine": about}
        options.results.parent.mkdir(exist_ok=True)
        with options.results.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        took = time.perf_counter() - start
        print(f"{row.what}: {value:.3f} {detail} ({took:.0f} s)", flush=True)
    known = read(options.results)
    options.page.write_text(show(known) + elsewhere(rows, options.results), encoding="utf-8")
    missed = [
        row.name for row in chosen if row.name in known and not row.holds(known[row.name]["value"])
    ]
    print(f"{options.page}: " + (f"not held: {', '.join(missed)}" if missed else "all held"))
    return 0


def page(intro: str, rows: Sequence[Row], known: Known, *, after: str = "") -> str:
    """The rows that promise something, what `after` adds, and the machines they ran on."""
    lines = [(row, known[row.name]) for row in rows if row.name in known]
    return f"{intro}\n{_table(lines)}{after}\n{_machines(line for _, line in lines)}"


def elsewhere(rows: Sequence[Row], results: Path) -> str:
    """A table for each other processor on which rows were measured before: its newest lines."""
    newest, by_name = read(results), {row.name: row for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for line in _lines(results):
        if line["row"] in by_name:
            found.setdefault(line["machine"]["cpu"], {})[line["row"]] = line
    text = ""
    for cpu, own in found.items():
        lines = [
            (by_name[name], line)
            for name, line in own.items()
            if newest[name]["machine"]["cpu"] != cpu and by_name[name].hold is not None
        ]
        if lines:
            text += f"\n## Before, on {cpu}\n\n{_table(lines)}\n"
            text += _machines(line for _, line in lines)
    return text


def _table(lines: Sequence[tuple[Row, dict[str, Any]]]) -> str:
    table = ["| figure | value | hold | made of |", "|---|---|---|---|"]
    for row, line in lines:
        if row.hold is None:
            continue
        sign = "≥" if row.at_least else "≤"
        mark = "" if row.holds(line["value"]) else " (not held)"
        parts = ", ".join(
            f"{key} {value}" for key, value in line["detail"].items() if key != "versions"
        )
        table.append(f"| {row.what} | {line['value']:.3f}{mark} | {sign} {row.hold} | {parts} |")
    return "\n".join(table) + "\n"


def _machines(lines: Iterable[dict[str, Any]]) -> str:
    machines = {}
    for line in lines:
        about = line["machine"]
        versions = about["versions"] | line["detail"].get("versions", {})
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
        machines[f"{about['cpu']}, {about['cores']} cores; {text}; commit {about['commit']}"] = None
    return "".join(f"- {text}\n" for text in machines)
