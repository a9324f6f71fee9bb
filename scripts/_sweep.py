"""A made-up comparison on disk: folders as training runs leave them, with known figures."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.compare.comparison import Choice, Comparison
from zoo.compare.results import LAYERS, SCORES, Row, read_row
from zoo.compare.statistics import Score, analyse
from zoo.files import dumps, write_json
from zoo.tasks.base import Metric
from zoo.training.summary import summarise, write_summary

METRIC = Metric("bits_per_byte", lower_is_better=True, unit="bits a byte")
_TOKENS = 4096  # a step


def sweep(
    workdir: Path,
    *,
    variants: Sequence[str] = ("post_norm", "pre_norm", "deep_norm"),
    depths: Sequence[int] = (6, 12, 24),
    rates: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2),
    seeds: int = 3,
    steps: int = 400,
    every: int = 10,
    layers: bool = True,
) -> Comparison:
    """A comparison whose first variant is worst and diverges at the deepest stack and at the
    largest rate; the others differ by 0.05 bits from one to the next."""
    draw = random.Random(0)
    rows, choices = [], []
    for depth, (place, variant) in itertools.product(depths, enumerate(variants)):
        best = rates[len(rates) // 2]
        planned = [("tuning", rate, 500_000) for rate in rates]
        planned += [("final", best, seed) for seed in range(seeds)]
        for phase, rate, seed in planned:
            fragile = place == 0
            lost = fragile and (rate == max(rates) or (depth == max(depths) and seed == 0))
            value = 2.0 - 0.05 * place - 0.02 * math.log2(depth) + 0.1 * math.log(rate / best) ** 2
            value += draw.gauss(0, 0.01)
            row = Row(
                run=f"lm-{place}-{depth}L-lr{rate}-{phase}-s{seed}",
                phase="tuning" if phase == "tuning" else "final",
                task="language_model",
                variant=variant,
                depth=depth,
                width=64,
                setting={"optim.lr": rate},
                seed=seed,
                steps=steps,
            )
            write_run(workdir / "runs" / row.run, row, value, lost, every, layers and seed == 0)
            rows.append(read_row(row, workdir / "runs", METRIC))
        edge = ("optim.lr",) if place == 1 and depth == min(depths) else ()
        choices.append(
            Choice(
                "language_model",
                variant,
                depth,
                64,
                {"optim.lr": best},
                score=2.0 - 0.05 * place,
                tried=len(rates),
                on_edge=edge,
            )
        )
    finals = [row for row in rows if row.phase == "final"]
    return Comparison(
        workdir=workdir,
        config=_config(variants, depths, rates, seeds),
        metric=METRIC,
        rows=rows,
        choices=choices,
        analysis=analyse([Score(row.variant, row.condition, row.seed, row.test) for row in finals]),
        notes=["These figures are made up."],
        environment={"zoo": "0.1.0", "commit": "0" * 40, "python": "3.11.7", "packages": {}},
    )


def _config(
    variants: Sequence[str], depths: Sequence[int], rates: Sequence[float], seeds: int
) -> dict[str, Any]:
    """As far as a report reads it."""
    return {
        "variants": list(variants),
        "depths": list(depths),
        "space": {"optim.lr": list(rates)},
        "search": "grid",
        "tuning_seeds": 1,
        "extend": 1,
        "seeds": seeds,
        "match": "tokens",
    }


def write_run(folder: Path, row: Row, value: float, lost: bool, every: int, layers: bool) -> None:
    """A folder as a run leaves it that ends at `value`, or is lost half-way."""
    folder.mkdir(parents=True, exist_ok=True)
    last = row.steps // 2 if lost else row.steps
    draw = random.Random(row.run)
    curve: list[dict[str, Any]] = []
    for step in range(every, last + 1, every):
        bits = value + 6.0 * math.exp(-10 * step / row.steps)
        line = {"step": step, "loss": bits * math.log(2) + draw.gauss(0, 0.05), "grad_norm": 1.0}
        if step == last or step % (10 * every) == 0:
            line |= {"eval_loss": bits * math.log(2), "eval_bits_per_byte": bits}
        curve.append(line)
    if lost:
        curve[-1]["loss"] = math.nan
    else:
        curve[-1]["eval_bits_per_byte"] = value
    (folder / "metrics.jsonl").write_text("".join(f"{dumps(line)}\n" for line in curve))
    note = {"note": f"loss = nan at step {last}"} if lost else {}
    summary = summarise(
        curve,
        status="diverged" if lost else "finished",
        steps=last,
        tokens=last * _TOKENS,
        wall_time_s=0.01 * last * row.depth * (1 + 0.1 * (row.variant != "post_norm")),
        **note,
    )
    write_summary(folder, summary)
    if lost:
        return
    figures = {"test_bits_per_byte": value + draw.gauss(0, 0.01)} if row.phase == "final" else {}
    size = 12 * row.depth * row.width**2
    spent = {"parameters": size, "flops": 6.0 * size * last * _TOKENS, "memory": 16 * size}
    write_json(folder / SCORES, {"figures": figures, **spent})
    if layers and row.phase == "final":
        count = range(1, row.depth + 1)
        write_json(
            folder / LAYERS,
            {
                "stream_rms": [layer**0.5 for layer in count],
                "grad_norm": [1.0 / layer for layer in count],
                "update_ratio": [1e-3 * (1 + 0.1 * draw.random()) for _ in count],
            },
        )
