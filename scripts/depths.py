"""Every placement at three depths on real text, each trained by its own recipe.

    python scripts/depths.py             # every run that is missing, then the page and the picture
    python scripts/depths.py --page      # docs/depths.md and docs/depths.png from what is there
    python scripts/depths.py --again 3   # re-run three rows chosen at random, compare

A decoder of width 64 reads the source of the Python standard library, 4 x 128 bytes a step: 6 and
24 layers for 200 steps, 96 layers for 100. Warm-up, rate, schedule and clipping come from each
variant's recipe. What ends no better than the frequencies of bytes is run again for four times as
many steps: is it slow, or stuck? One line a finished run goes to results/depths.jsonl, and runs
that have one are skipped, so the command may be stopped at any time.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _runs import Row, Table, finished_run

from zoo.checkpoints import CheckpointConfig
from zoo.data.config import DataConfig
from zoo.data.loader import open_data
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.variants.registry import list_variants

ROOT = Path(__file__).resolve().parent.parent
TABLE = Table(ROOT / "results" / "depths.jsonl")
PAGE, PICTURE = ROOT / "docs" / "depths.md", ROOT / "docs" / "depths.png"
STEPS = {6: 200, 24: 200, 96: 100}  # by number of layers
LONGER = 4  # times as many, for what is on the plateau by then
DATA = DataConfig(batch_size=4, length=128)
# Nats a byte by which a run must beat the frequencies of single bytes to count as training.
LEARNS = 0.1


def config(variant: str, num_layers: int, steps: int, workdir: str) -> TrainConfig:
    return TrainConfig(
        workdir=workdir,
        steps=steps,
        log_every=1,
        eval_every=STEPS[num_layers],
        eval_batches=32,
        sample_tokens=0,
        tensorboard=False,
        model=ModelConfig(variant=variant, num_layers=num_layers, d_model=64, num_heads=4),
        data=DATA,
        checkpoint=CheckpointConfig(every=steps),
    )


def run(variant: str, num_layers: int, steps: int) -> Row:
    """One training run as a row; losses are nats a byte, the final one on held-out text."""
    print(f"\n== {variant}, {num_layers} layers, {steps} steps", flush=True)
    summary, metrics, columns = finished_run(
        lambda folder: config(variant, num_layers, steps, folder)
    )
    losses = [row["loss"] for row in metrics if "loss" in row]
    held_out = [row["eval_loss"] for row in metrics if "eval_loss" in row]
    return {
        "variant": variant,
        "num_layers": num_layers,
        "steps": steps,
        "status": summary["status"],
        "start_loss": losses[0] if losses else None,
        "final_loss": summary.get("eval_loss"),
        "max_grad_norm": max((row["grad_norm"] for row in metrics), default=None),
        **({} if steps == STEPS[num_layers] else {"eval_losses": held_out}),
        **columns,
    }


def frequencies() -> float:
    """Nats a byte of the held-out text under its own byte frequencies."""
    tokens = np.concatenate(
        [rows["tokens"].ravel() for rows in open_data(DATA).eval_batches(max_batches=32)]
    )
    shares = np.bincount(tokens) / tokens.size
    return float(-sum(share * math.log(share) for share in shares if share > 0))


def verdict(row: Row, plateau: float) -> str:
    """`trains`; `plateau`: no better than the frequencies of bytes; `diverged`."""
    if row["status"] != "finished" or row["final_loss"] is None:
        return "diverged"
    if row["final_loss"] > row["start_loss"]:
        return "diverged"
    return "trains" if row["final_loss"] < plateau - LEARNS else "plateau"


def settings() -> Iterator[tuple[str, int]]:
    """Shallow models of all variants first: something to look at soon."""
    for num_layers in STEPS:
        for variant in list_variants():
            yield variant, num_layers


Rows = dict[tuple[str, int], Row]  # by variant and depth


def found() -> Rows:
    """The valid rows of the usual length."""
    rows = {(v, n): TABLE.find(config(v, n, STEPS[n], "any")) for v, n in settings()}
    return {key: row for key, row in rows.items() if row is not None}


def stuck(rows: Rows, plateau: float) -> Iterator[tuple[str, int, int]]:
    """(variant, layers, steps) of the longer runs."""
    for (variant, depth), row in rows.items():
        if verdict(row, plateau) == "plateau":
            yield variant, depth, LONGER * STEPS[depth]


def page(rows: Rows, longer: Rows, plateau: float) -> str:
    """docs/depths.md."""
    lines = [
        "# Every placement at three depths",
        "",
        "Made by `python scripts/depths.py`; one line a run is in `results/depths.jsonl`.",
        "A decoder of width 64 on the source of the Python standard library, 4 × 128 bytes a step:",
        "6 and 24 layers for 200 steps, 96 layers for 100, one seed. Warm-up, learning rate,",
        "schedule and clipping are those of each variant's recipe, so rows differ in more than the",
        "placement, and so short a run says whether a model trains, not which is best.",
        "",
        "Each cell: loss at the first step → held-out loss at the end, in nats a byte; in brackets",
        "the largest gradient norm of the run. "
        f"**plateau**: no more than {LEARNS} nats below the {plateau:.2f}",
        "nats of single-byte frequencies. **diverged**: not finite, or worse than at the start.",
        "",
        "| variant | " + " | ".join(f"{n} layers" for n in STEPS) + " |",
        "|---|" + "---|" * len(STEPS),
    ]
    for variant in list_variants():
        cells = [_cell(rows.get((variant, n)), plateau) for n in STEPS]
        lines.append(f"| `{variant}` | {' | '.join(cells)} |")
    lines += ["", f"![Held-out loss of every variant at three depths]({PICTURE.name})", ""]
    return "\n".join(
        lines + _longer(longer, plateau) + _processors([*rows.values(), *longer.values()])
    )


def _processors(rows: list[Row]) -> list[str]:
    """Where rows come out equal when they are run again."""
    counts = Counter(row.get("processor", "processors that were not written down") for row in rows)
    made = "; ".join(f"{count} runs are from {name}" for name, count in counts.most_common())
    return ["## Processors", "", f"Other processors round otherwise: {made}.", ""]


def _longer(rows: Rows, plateau: float) -> list[str]:
    """The section on what was on the plateau: held-out loss at each quarter of a longer run."""
    lines = [
        "## Slow, or stuck?",
        "",
        f"What is on the plateau above, run again for {LONGER} times as many steps, its schedule",
        "stretched with it: held-out loss after each quarter. It leaves the plateau if it ends at",
        f"least {LEARNS} nats below it.",
        "",
        "| variant | layers | steps | held-out loss | at the end |",
        "|---|---|---|---|---|",
    ]
    words = {"trains": "leaves", "plateau": "**stays**", "diverged": "**diverged**"}
    for (variant, depth), row in rows.items():
        losses = " → ".join(f"{loss:.3g}" for loss in row["eval_losses"])
        said = words[verdict(row, plateau)]
        lines.append(f"| `{variant}` | {depth} | {row['steps']} | {losses} | {said} |")
    return [*lines, ""]


def _cell(row: Row | None, plateau: float) -> str:
    if row is None:
        return ""
    said = verdict(row, plateau)
    start, final, top = (
        "—" if row[key] is None else f"{row[key]:.3g}"
        for key in ("start_loss", "final_loss", "max_grad_norm")
    )
    words = f"{start} → {final} ({top})"
    return words if said == "trains" else f"**{said}** {words}"


def draw(rows: Rows, plateau: float) -> None:
    """docs/depths.png: a line a variant, a dot a depth, sorted by the deepest."""
    from matplotlib.figure import Figure

    names = [name for name in list_variants() if any((name, n) in rows for n in STEPS)]
    deepest = max(STEPS)

    def loss(name: str, depth: int) -> float:
        row = rows.get((name, depth))
        if row is None or verdict(row, plateau) == "diverged":
            return math.inf
        return float(row["final_loss"])

    names.sort(key=lambda name: loss(name, deepest), reverse=True)
    figure = Figure(figsize=(8, 0.24 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    for depth, marker, colour in zip(STEPS, "os^", ("#9ecae1", "#4292c6", "#08306b"), strict=True):
        values = [loss(name, depth) for name in names]
        axes.plot(values, range(len(names)), marker, color=colour, label=f"{depth} layers", ms=5)
        gone = [index for index, value in enumerate(values) if math.isinf(value)]
        edge = [plateau + 0.35] * len(gone)
        axes.plot(edge, gone, "x", color=colour, ms=6)
    axes.axvline(plateau, color="#b30000", lw=1, ls="--", label="frequencies of single bytes")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(-1, len(names))
    axes.set_xlabel("held-out loss, nats a byte (x: diverged)")
    axes.grid(axis="y", lw=0.3)
    axes.legend(fontsize=8, loc="upper right")
    figure.savefig(PICTURE, dpi=120)


def _ensure(variant: str, depth: int, steps: int) -> Row:
    return TABLE.ensure(config(variant, depth, steps, "any"), lambda: run(variant, depth, steps))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="only write page and picture")
    parser.add_argument("--again", type=int, metavar="N", help="re-run N rows, compare")
    options = parser.parse_args()
    if options.again:
        plateau = frequencies()
        return TABLE.again(
            options.again,
            lambda row: run(row["variant"], row["num_layers"], row["steps"]),
            lambda row: verdict(row, plateau),
        )
    if not options.page:
        for variant, depth in settings():
            _ensure(variant, depth, STEPS[depth])
    rows, plateau = found(), frequencies()
    longer = {}
    for variant, depth, steps in stuck(rows, plateau):
        one = (variant, depth, steps)
        row = TABLE.find(config(*one, "any")) if options.page else _ensure(*one)
        if row is not None:
            longer[variant, depth] = row
    PAGE.write_text(page(rows, longer, plateau))
    draw(rows, plateau)
    print(f"{PAGE.read_text()}\nwrote {PAGE.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
