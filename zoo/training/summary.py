"""What a run leaves behind: `summary.json`, the loss curves, the closing table and the sample."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from zoo.errors import DataError, choices
from zoo.files import restore_non_finite, write_json
from zoo.training.plots import plot_curves, plot_losses
from zoo.training.progress import format_duration

__all__ = [
    "Status",
    "plot_curves",
    "plot_losses",
    "print_sample",
    "print_summary",
    "read_summary",
    "summarise",
    "summary_table",
    "write_summary",
]

Status = Literal["finished", "preempted", "diverged", "failed"]

_FILE = "summary.json"


def summarise(
    metrics: Sequence[Mapping[str, Any]],
    *,
    status: Status,
    steps: int,
    tokens: int,
    wall_time_s: float,
    **more: object,
) -> dict[str, Any]:
    """The summary of a run from its logged metrics.

    Args:
        metrics: what `read_metrics` returns.
        status: how the run ended.
        steps: optimizer steps done, earlier processes of the same run included.
        tokens: real tokens seen, likewise.
        wall_time_s: seconds of training, likewise.
        more: further entries, kept as they are.

    Returns:
        The arguments, and as far as the metrics have them: `loss` (last logged), `tokens_per_s`
        (median), each last `eval_…` figure, and each of them at the evaluation of least finite
        loss as `best_eval_…` with its `best_step`.
    """
    summary: dict[str, Any] = {
        "status": status,
        "steps": steps,
        "tokens": tokens,
        "wall_time_s": wall_time_s,
    }
    speeds = [row["tokens_per_s"] for row in metrics if row.get("tokens_per_s") is not None]
    if speeds:
        summary["tokens_per_s"] = statistics.median(speeds)
    losses = [row["loss"] for row in metrics if "loss" in row]
    if losses:
        summary["loss"] = losses[-1]
    evaluations = [row for row in metrics if "eval_loss" in row]
    if evaluations:
        summary |= _eval_figures(evaluations[-1])
    finite = [row for row in evaluations if math.isfinite(row["eval_loss"])]
    if finite:
        best = min(finite, key=lambda row: float(row["eval_loss"]))
        summary |= {f"best_{name}": value for name, value in _eval_figures(best).items()}
        summary["best_step"] = best["step"]
    return summary | more


def write_summary(workdir: Path | str, summary: Mapping[str, Any]) -> Path:
    """Write `summary.json`, the last file of a run, in one rename; returns its path.

    Numbers that are not finite are written as in `metrics.jsonl`.

    Raises:
        ValueError: `summary["status"]` is none of the four.
    """
    if summary.get("status") not in get_args(Status):
        accepted = choices(get_args(Status))
        raise ValueError(f"status = {summary.get('status')!r}; accepted are {accepted}")
    path = Path(workdir) / _FILE
    write_json(path, summary, indent=2)
    return path


def read_summary(workdir: Path | str) -> dict[str, Any]:
    """The summary in `workdir`.

    Raises:
        DataError: there is none (the run is not over), or it is damaged.
    """
    path = Path(workdir) / _FILE
    if not path.is_file():
        raise DataError(f"{path}: no such file; a run writes it last, so this one has not ended")
    try:
        summary = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); run the training again to write it") from error
    if not isinstance(summary, dict) or summary.get("status") not in get_args(Status):
        raise DataError(f"{path}: needs a `status` of {choices(get_args(Status))}")
    restored: dict[str, Any] = restore_non_finite(summary)
    return restored


def summary_table(summary: Mapping[str, Any], paths: Mapping[str, Path | str]) -> Table:
    """The closing table: figures, then where everything was written.

    Args:
        summary: what `summarise` returns; what it lacks is left out.
        paths: label to artefact. Shown relative to the working folder where they lie in it.
    """
    table = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
    table.title = Text(f"Run {summary['status']}", style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ignore")
    for label, text in _figure_rows(summary):
        table.add_row(label, text)
    if paths:
        table.add_section()
        table.add_row("", "")
    for label, path in paths.items():
        table.add_row(label, Text(_short(Path(path))))
    return table


def print_summary(
    summary: Mapping[str, Any],
    paths: Mapping[str, Path | str],
    *,
    console: Console | None = None,
) -> None:
    """Print `summary_table` with every path in one piece, however narrow the console."""
    console = console or Console()
    table = summary_table(summary, paths)
    if (
        console.measure(table, options=console.options.update(width=10_000)).maximum
        <= console.width
    ):
        console.print(table)
        return
    # Too narrow: a path cut in two cannot be copied, so the paths go below, wrapped by nobody.
    console.print(summary_table(summary, {}))
    longest = max(len(label) for label in paths)
    for label, path in paths.items():
        line = f"{label:{longest}}  {_short(Path(path))}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_sample(text: str, *, title: str = "Sample", console: Console | None = None) -> None:
    """Print generated text in a panel, with control characters made visible and harmless."""
    shown = "".join(
        char if char.isprintable() or char == "\n" else "�" for char in text.expandtabs(4)
    )
    (console or Console()).print(Panel(Text(shown), title=title, title_align="left"))


def _eval_figures(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith("eval_")}


def _figure_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each figure that `summary` has."""
    rows = []
    for name, label, form in (
        ("steps", "steps", "{:,}"),
        ("tokens", "tokens", "{:,}"),
        ("loss", "train loss", "{:.3f}"),
        ("eval_loss", "eval loss", "{:.3f}"),
        ("eval_bits_per_byte", "bits per byte", "{:.3f}"),
        ("eval_perplexity", "perplexity", "{:,.2f}"),
        ("eval_accuracy", "accuracy", "{:.1%}"),
        ("eval_f1", "F1", "{:.1%}"),
        ("eval_f1_macro", "F1, mean of labels", "{:.1%}"),
        ("eval_matthews", "Matthews", "{:.3f}"),
        ("eval_exact_match", "exact match", "{:.1%}"),
        ("eval_bleu", "BLEU", "{:.1f}"),
        ("eval_chrf", "chrF", "{:.1f}"),
    ):
        if summary.get(name) is not None:
            rows.append((label, form.format(summary[name]) + _best(summary, name, form)))
    if summary.get("wall_time_s") is not None:
        rows.append(("time", format_duration(summary["wall_time_s"])))
    if summary.get("tokens_per_s") is not None:
        rows.append(("tokens/s", f"{summary['tokens_per_s']:,.0f}"))
    return rows


def _best(summary: Mapping[str, Any], name: str, form: str) -> str:
    """The best figure beside the last, when another step had it."""
    best = summary.get(f"best_{name}")
    if best is None or best == summary[name]:
        return ""
    return f"  (best {form.format(best)} at step {summary['best_step']:,})"


def _short(path: Path) -> str:
    folder = Path.cwd()
    whole = path.absolute()
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)
