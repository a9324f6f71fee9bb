"""Greedy decoding against transformers' generate, with equal weights, on the same CPU.

    python scripts/bench_generate.py                  # every row that is missing, then the page
    python scripts/bench_generate.py --rows tiny      # rows whose name contains a word
    python scripts/bench_generate.py --again          # measure anew

About three minutes on 2 cores that are otherwise idle. Needs torch and transformers, in this
environment or in the one whose interpreter `--parity-python` names, which also writes the
checkpoints that both sides load. A line a row goes to results/bench_generate.jsonl;
docs/benchmarks_generate.md shows the newest of each.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _bench import Measured, Row, arguments, page, run
from _races import Peer, Side, milliseconds, race, ratio, rounds_for

import zoo
from zoo.layers import weight

ROOT = Path(__file__).resolve().parent.parent
PEER = "_torch_generate.py"
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "tiny": {"n_embd": 128, "n_layer": 6, "n_head": 4, "vocab_size": 256},
}
PROMPT, NEW, MOST_ROWS = 16, 64, 8


@functools.cache
def _room() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def checkpoint(python: str, shape: str) -> Path:
    """A GPT-2 with random weights, as transformers writes it, and prompts for it."""
    folder = Path(_room().name) / shape
    script, config = str(Path(__file__).parent / PEER), json.dumps(SHAPES[shape])
    command = [python, script, "write", str(folder), config]
    subprocess.run(command, check=True, capture_output=True)
    prompts = np.random.default_rng(0).integers(0, 256, size=(MOST_ROWS, PROMPT))
    (folder / "prompt.json").write_text(json.dumps(prompts.tolist()))
    return folder


def decode(shape: str, batch: int, options: argparse.Namespace) -> Measured:
    """Our tokens a second over theirs; prompts are read within the time."""
    folder = checkpoint(options.parity_python, shape)
    theirs = folder / f"tokens_{batch}.json"
    peer = Peer(options.parity_python, PEER, "steps", folder, theirs, batch, PROMPT, NEW)
    model = zoo.load_pretrained(folder)
    ids = jnp.asarray(json.loads((folder / "prompt.json").read_text()))[:batch]

    def generate() -> jax.Array:
        return zoo.generate(model, ids, max_new_tokens=NEW, eos_id=())

    def ours() -> float:
        start = time.perf_counter()
        jax.block_until_ready(generate())
        return time.perf_counter() - start

    sides: dict[str, Side] = {"ours": ours, "torch": peer.side("generate"), "sum": reading()}
    rounds = rounds_for(sides["torch"], seconds=4 * options.seconds, least=6)
    seconds = race(sides, rounds=rounds, warm_up=4)
    peer.close()
    same = np.asarray(generate()) == np.asarray(json.loads(theirs.read_text()))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weight.split(model)[0]))
    detail = {f"{name}_ms": milliseconds(seconds[name]) for name in ("ours", "torch")}
    return ratio(seconds, "torch", "ours"), detail | {
        "ours_gb_s": round(size * NEW / statistics.median(seconds["ours"]) / 1e9, 1),
        "sum_gb_s": round(_SUMMED * 4 / statistics.median(seconds["sum"]) / 1e9, 1),
        "equal_tokens": round(float(same[:, PROMPT:].mean()), 3),
        "rounds": rounds,
        "versions": peer.versions,
    }


_SUMMED = 100_000_000


def reading() -> Side:
    """Adding up numbers: as fast as this machine reads memory."""
    numbers = jnp.ones(_SUMMED)
    total = jax.jit(jnp.sum)

    def go() -> float:
        start = time.perf_counter()
        jax.block_until_ready(total(numbers))
        return time.perf_counter() - start

    return go


def rows() -> list[Row]:
    def row(shape: str, batch: int, hold: float, what: str) -> Row:
        measure = functools.partial(decode, shape, batch)
        return Row(f"{shape}/{batch}", what, hold, measure, at_least=True)

    return [
        row("gpt2", 1, 1.7, "tokens/s over transformers', GPT-2 small, batch 1"),
        row("gpt2", 8, 1.5, "tokens/s over transformers', GPT-2 small, batch 8"),
        row("tiny", 1, 8.0, "tokens/s over transformers', d_model 128, 6 layers, batch 1"),
    ]


_INTRO = f"""# Benchmarks of generation

Made by `python scripts/bench_generate.py` from `results/bench_generate.jsonl`: {NEW} greedy tokens
behind prompts of {PROMPT}, the same random weights in both libraries, float32, 2 threads, both with
their cache of keys and values. Ratios of times that were taken in turn, medians over rounds; the
time to read the prompt is in them. `ours_gb_s` is what reading every weight once a token comes to,
`sum_gb_s` what adding up a long array reads on this machine: at batch 1 the one cannot pass the
other by much.
"""


def main() -> int:
    options = arguments(
        __doc__,
        results=ROOT / "results" / "bench_generate.jsonl",
        page=ROOT / "docs" / "benchmarks_generate.md",
    )
    return run(rows(), options, lambda known: page(_INTRO, rows(), known))


if __name__ == "__main__":
    sys.exit(main())
