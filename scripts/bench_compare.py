"""What `zoo compare` costs beside the runs it makes, and how long a large report takes.

    python scripts/bench_compare.py                  # every row that is missing, then the page
    python scripts/bench_compare.py --again          # measure anew

About twenty minutes on 2 cores that are otherwise idle. A line a row goes to
results/bench_compare.jsonl; docs/benchmarks_compare.md shows the newest of each.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _bench import Measured, Row, arguments, page, run
from _sweep import write_run

from zoo.compare.config import CompareConfig, from_json
from zoo.compare.plan import Spec
from zoo.compare.work import Board
from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 3


def small(workdir: Path) -> CompareConfig:
    """Two placements over two rates and three seeds: ten runs, each three quarters as long as
    those of configs/compare/default.py on average."""
    return CompareConfig(
        variants=("post_norm", "pre_norm"),
        depths=(12,),
        space={"optim.lr": (1e-3, 3e-3)},
        extend=0,
        seeds=3,
        run=TrainConfig(
            workdir=str(workdir),
            steps=400,
            tensorboard=False,
            model=ModelConfig(d_model=64, num_heads=4),
            data=DataConfig(batch_size=4, length=128),
        ),
    )


def bare_runs(config: CompareConfig) -> list[Spec]:
    """The training runs of a comparison; whatever tuning chooses costs what its last rate costs."""
    board = Board(config)
    chosen = config.space["optim.lr"][-1]
    return [
        board.spec(cell, phase, {"optim.lr": rate}, place)
        for cell in board.cells
        for phase, rate, place in (
            *(("tuning", rate, 0) for rate in config.space["optim.lr"]),
            *(("final", chosen, place) for place in range(config.seeds)),
        )
    ]


def alone(config: CompareConfig) -> float:
    """Seconds in all of the same training runs one after the other, with nothing else."""
    from zoo.training.loop import train

    runs = bare_runs(config)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        for spec in runs:
            train(spec.config)
    return time.perf_counter() - start


def compared(config: CompareConfig) -> float:
    """Seconds of the comparison: the runs, scores, layers, statistics and report."""
    from zoo.compare.compare import compare

    start = time.perf_counter()
    compare(config, say=lambda line: None)
    return time.perf_counter() - start


def _in_process(side: str) -> float:
    """Seconds of a side in a process of its own, so that both compile."""
    with tempfile.TemporaryDirectory() as folder:
        config = json.dumps(small(Path(folder) / "compare").to_json())
        command = [sys.executable, __file__, "--side", side, config]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def overhead(options: argparse.Namespace) -> Measured:
    seconds: dict[str, list[float]] = {"alone": [], "compared": []}
    for turn in range(ROUNDS):
        for side in sorted(seconds, reverse=bool(turn % 2)):
            seconds[side].append(_in_process(side))
    value = statistics.median(
        ours / theirs for ours, theirs in zip(seconds["compared"], seconds["alone"], strict=True)
    )
    spent = {f"{side}_s": round(statistics.median(each), 1) for side, each in seconds.items()}
    runs = len(bare_runs(small(Path("compare"))))
    return value, spent | {"runs": runs, "rounds": ROUNDS}


def report(options: argparse.Namespace) -> Measured:
    """`zoo compare --report` on 1,008 made-up runs, the process's start included."""
    names = ("post_norm", "pre_norm", "deep_norm", "b2t", "residual_dual", "keel")
    names += ("peri_norm", "sub_ln", "rezero", "mix_norm", "admin", "layer_norm_scaling")
    rates = tuple(1e-4 * 2.0**power for power in range(9))
    with tempfile.TemporaryDirectory() as folder:
        config = small(Path(folder) / "compare")
        config = dataclasses.replace(
            config,
            variants=names,
            depths=(2, 4, 6, 8, 12, 16),
            space={"optim.lr": rates},
            seeds=5,
        )
        board = Board(config)
        made = 0
        while missing := [spec for spec in board.specs() if board.row(spec).status == "missing"]:
            for spec in missing:
                value = 2.0 + abs(rates.index(spec.row.setting["optim.lr"]) - 4) / 10
                write_run(board.runs / spec.row.run, spec.row, value, False, 10, True)
                made += 1
        file = Path(folder) / "compare" / "compare.json"
        file.write_text(json.dumps({"config": config.to_json()}))
        command = [sys.executable, "-c", "import zoo.cli; zoo.cli.main()", "compare"]
        start = time.perf_counter()
        subprocess.run([*command, "--config", str(file), "--report"], check=True, cwd=ROOT)
        seconds = time.perf_counter() - start
        size = (Path(folder) / "compare" / "report.html").stat().st_size
    return seconds, {"runs": made, "page_mb": round(size / 1e6, 2)}


def rows() -> list[Row]:
    return [
        Row("overhead", "time of a comparison over its bare runs", 1.05, overhead),
        Row("report", "seconds to report 1,000 runs", 20.0, report),
    ]


_INTRO = """# Benchmarks of comparisons

Made by `python scripts/bench_compare.py` from `results/bench_compare.jsonl`. Overhead: ten runs of
400 steps, 12 layers of width 64, as bare training runs in one process, and as a comparison with its
scores on unseen data, layers, statistics and report; both sides compile. Medians of ratios taken in
turn. What a comparison adds does not grow with the steps of a run: shorter runs bear more of it.
"""


def main() -> int:
    if sys.argv[1:2] == ["--side"]:
        side, config = sys.argv[2:4]
        print({"alone": alone, "compared": compared}[side](from_json(json.loads(config))))
        return 0
    options = arguments(
        __doc__,
        results=ROOT / "results" / "bench_compare.jsonl",
        page=ROOT / "docs" / "benchmarks_compare.md",
    )
    return run(rows(), options, lambda known: page(_INTRO, rows(), known))


if __name__ == "__main__":
    sys.exit(main())
