"""What a comparison shows while it runs, and the tables at its end."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from zoo.compare.comparison import Comparison
from zoo.compare.config import CompareConfig
from zoo.compare.results import RESULTS, Row
from zoo.compare.statistics import Pair
from zoo.compare.work import Board, Say
from zoo.tables import table
from zoo.training.progress import format_duration

# Seconds between two looks at the folder.
_EVERY = 2.0


@contextlib.contextmanager
def watching(config: CompareConfig, *, quiet: bool = False) -> Iterator[Say]:
    """A function that prints a line of news; on a terminal a live table below them.

    Args:
        quiet: print nothing on standard output.
    """
    if quiet:
        yield lambda line: print(line, file=sys.stderr, flush=True)
        return
    console = Console(file=sys.stdout)  # the one of now: runs print to their own log
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    board = Board(config, retry=False)
    over = threading.Event()
    with Live(_progress(board), console=console, refresh_per_second=1, transient=True) as live:

        def look() -> None:
            while not over.wait(_EVERY):
                live.update(_progress(board))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield lambda line: live.console.print(line, markup=False, highlight=False)
        finally:
            over.set()
            thread.join()


def _progress(board: Board) -> Table:
    """Runs by variant and status, with what is left."""
    rows = [board.row(spec) for spec in board.specs()]
    shown = Table(box=None, pad_edge=False)
    for name in ("variant", "tuning", "final", "diverged", "failed", f"best {board.select.name}"):
        shown.add_column(name)
    for variant in board.config.variants:
        own = [row for row in rows if row.variant == variant]
        values = [row.metric for row in own if row.metric is not None]
        best = (min if board.select.lower_is_better else max)(values, default=0.0)
        cells = [f"{_done(own, phase)}/{_all(own, phase)}" for phase in ("tuning", "final")]
        counts = [str(sum(row.status == word for row in own)) for word in ("diverged", "failed")]
        shown.add_row(variant, *cells, *counts, f"{best:.4g}" if values else "")
    done = [row for row in rows if row.status in RESULTS]
    shown.caption = f"{len(done)} of {len(rows)} runs known so far{_left(rows, board.config)}"
    return shown


def _left(rows: Sequence[Row], config: CompareConfig) -> str:
    """Time that is left by what done runs took for their depth and steps."""
    spent = sum(row.seconds for row in rows if row.status in RESULTS)
    weight = sum(_weight(row) for row in rows if row.status in RESULTS)
    if not spent or not weight:
        return ""
    left = sum(_weight(row) for row in rows if row.status not in RESULTS)
    return f", {format_duration(spent / weight * left / config.workers)} left"


def _weight(row: Row) -> float:
    return float(row.depth * row.width * row.steps)


def _done(rows: Sequence[Row], phase: str) -> int:
    return sum(row.phase == phase and row.status in RESULTS for row in rows)


def _all(rows: Sequence[Row], phase: str) -> int:
    return sum(row.phase == phase for row in rows)


def summary(made: Comparison, files: Mapping[str, Path]) -> str:
    """The ranking, what differs, and where everything was written, for a terminal."""
    analysis = made.analysis
    lines = []
    if analysis.ranking:
        header = ("place", "variant", f"mean {made.metric.name}", "failed")
        ranks = [
            (rank.place, rank.variant, "" if rank.mean is None else f"{rank.mean:.4f}", rank.failed)
            for rank in analysis.ranking
        ]
        lines += [table(ranks, header), ""]
    for pair in analysis.pairs:
        if pair.condition is None:
            lines.append(f"{pair.a} against {pair.b}: {pair.verdict}{_interval(pair)}")
    lines += ["", *made.notes, *analysis.notes, ""]
    lines += [f"{kind:<9} {path}" for kind, path in files.items()]
    return "\n".join(lines)


def _interval(pair: Pair) -> str:
    if pair.difference is None or pair.low is None or pair.high is None:
        return ""
    return f" ({pair.difference:+.3g}, {pair.low:+.3g} to {pair.high:+.3g})"
