"""Three placements at 100 layers on real text: each at its best learning rate.

    python scripts/depth.py            # every run that is missing, then table and picture
    python scripts/depth.py --table    # table and picture from what is there

Each of `VARIANTS` is trained at each of `RATES`, and the best of each again on two more
seeds; the best are compared with each other. One line a finished run goes to
results/depth.jsonl, and runs that have one are skipped, so the command may be stopped at
any time. About 45 seconds a run on 2 cores, 18 runs. `--again N` re-runs N rows chosen at
random and says whether they come out equal.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from pathlib import Path

from _runs import Row, Table, finished_run

from zoo.checkpoints import CheckpointConfig
from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig
from zoo.training.summary import plot_curves

ROOT = Path(__file__).resolve().parent.parent
TABLE = Table(ROOT / "results" / "depth.jsonl")
VARIANTS = ("deep_norm", "post_norm", "pre_norm")
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = (0, 1, 2)  # the rate is chosen on the first


def config(variant: str, lr: float, seed: int, workdir: str) -> TrainConfig:
    """100 layers, 4 x 128 bytes a step, 200 steps; warm-up from each variant's recipe."""
    return TrainConfig(
        workdir=workdir,
        steps=200,
        seed=seed,
        log_every=5,
        eval_every=50,
        eval_batches=64,
        sample_tokens=0,
        tensorboard=False,
        model=ModelConfig(
            variant=variant, num_layers=100, d_model=64, num_heads=4, positions="learned"
        ),
        data=DataConfig(batch_size=4, length=128),
        # All but the warm-up is the same for all: the placement is what differs.
        optim=OptimConfig(lr=lr, schedule="cosine", beta2=0.98, weight_decay=0.01, clip_norm=1.0),
        checkpoint=CheckpointConfig(every=200),
    )


def run(variant: str, lr: float, seed: int) -> Row:
    """One training run as a row."""
    summary, metrics, columns = finished_run(lambda workdir: config(variant, lr, seed, workdir))
    return {
        "variant": variant,
        "lr": lr,
        "seed": seed,
        "status": summary["status"],
        "bits_per_byte": summary.get("eval_bits_per_byte"),
        "loss": summary.get("loss"),
        "max_grad_norm": max(row["grad_norm"] for row in metrics),
        "curve": [[row["step"], round(row["loss"], 4)] for row in metrics],
        **columns,
    }


def done(variant: str, lr: float, seed: int) -> Row | None:
    """The row of a run, if there is one."""
    return TABLE.find(config(variant, lr, seed, "any"))


def ensure(variant: str, lr: float, seed: int) -> Row:
    """The row of a run, made if it is missing."""
    return TABLE.ensure(config(variant, lr, seed, "any"), lambda: run(variant, lr, seed))


def best_rate(variant: str) -> float:
    """The rate with the fewest bits a byte on the first seed; a run that diverged is last."""
    found = [done(variant, lr, SEEDS[0]) for lr in RATES]
    known = [row for row in found if row is not None]
    return float(min(known, key=bits)["lr"])


def bits(row: Row) -> float:
    ended = row["status"] == "finished" and row["bits_per_byte"] is not None
    return float(row["bits_per_byte"]) if ended else float("inf")


def table() -> str:
    """The comparison in Markdown."""
    lines = [
        "| variant | "
        + " | ".join(f"lr {lr:g}" for lr in RATES)
        + " | best lr, 3 seeds: mean (range) |",
        "|---|" + "---|" * (len(RATES) + 1),
    ]
    for variant in VARIANTS:
        cells = []
        for lr in RATES:
            row = done(variant, lr, SEEDS[0])
            cells.append("" if row is None else _cell(row))
        lr = best_rate(variant)
        ended = [row for seed in SEEDS if (row := done(variant, lr, seed)) is not None]
        values = [bits(row) for row in ended]
        mean = f"{statistics.mean(values):.2f} ({min(values):.2f}–{max(values):.2f}), lr {lr:g}"
        lines.append(f"| `{variant}` | {' | '.join(cells)} | **{mean}** |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    return f"{row['bits_per_byte']:.2f}" if row["status"] == "finished" else row["status"]


def write() -> None:
    """The table into README.md, the picture into docs/."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    block = f"<!-- depth table -->\n{table()}\n<!-- /depth table -->"
    pattern = r"<!-- depth table -->.*?<!-- /depth table -->"
    text, places = re.subn(pattern, lambda _: block, text, flags=re.DOTALL)
    if places != 1:
        raise SystemExit(f"{readme} has {places} places for the depth table; it needs one")
    readme.write_text(text)
    series = {}
    for variant in VARIANTS:
        row = done(variant, best_rate(variant), SEEDS[0])
        assert row is not None
        series[f"{variant}, lr {row['lr']:g}"] = [(step, loss) for step, loss in row["curve"]]
    picture = plot_curves(
        series,
        ROOT / "docs" / "depth.png",
        title="100 layers, d_model 64: each placement at its best learning rate",
        xlabel="step",
        ylabel="training loss, nats a byte",
    )
    print(f"{table()}\n\nwrote {readme.relative_to(ROOT)} and {picture.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write table and picture")
    parser.add_argument("--again", type=int, metavar="N", help="re-run N rows, compare")
    options = parser.parse_args()
    if options.again:
        return TABLE.again(options.again, lambda row: run(row["variant"], row["lr"], row["seed"]))
    if not options.table:
        for variant in VARIANTS:
            for lr in RATES:
                ensure(variant, lr, SEEDS[0])
        for variant in VARIANTS:
            for seed in SEEDS[1:]:
                ensure(variant, best_rate(variant), seed)
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
