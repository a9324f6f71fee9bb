"""BERT-base against torch and transformers: forward, training step, loading, with equal weights.

    python scripts/bench_bert.py                  # every row that is missing, then the page
    python scripts/bench_bert.py --rows load      # rows whose name contains a word
    python scripts/bench_bert.py --again          # measure anew

About five minutes on 2 cores. Needs torch and transformers, in this environment or in the one
whose interpreter `--parity-python` names, which also writes the checkpoint that both sides load.
A line a row goes to results/bench_bert.jsonl; docs/benchmarks_bert.md shows the newest of each.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from _bench import Measured, Row, arguments, page, run
from _races import Peer, Side, milliseconds, race, ratio, rounds_for

import zoo
from zoo.layers import weight

ROOT = Path(__file__).resolve().parent.parent
BATCH, LENGTH = 8, 128
_WRITE = (
    "import sys, transformers as t, torch; torch.manual_seed(0);"
    "t.BertForMaskedLM(t.BertConfig()).save_pretrained(sys.argv[1])"
)
_LOAD = """
import json, sys, time
sys.path.insert(0, sys.argv[2])
from _memory import Growth
import jax, jax.numpy as jnp, zoo
from zoo.layers import weight
import zoo.hf.pretrained
jnp.zeros(1).block_until_ready()
with Growth() as growth:
    start = time.perf_counter()
    params = weight.split(zoo.load_pretrained(sys.argv[1]))[0]
    jax.block_until_ready(params)
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "growth": growth.bytes}))
"""


@functools.cache
def _room() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def checkpoint(python: str) -> Path:
    """BERT-base with random weights, as transformers writes it."""
    folder = Path(_room().name) / "bert"
    subprocess.run([python, "-c", _WRITE, str(folder)], check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def theirs(options: argparse.Namespace) -> Iterator[Peer]:
    folder = checkpoint(options.parity_python)
    peer = Peer(options.parity_python, "_torch_bert.py", "steps", folder, BATCH, LENGTH)
    try:
        yield peer
    finally:
        peer.close()


def forward(options: argparse.Namespace) -> Measured:
    """Logits of every token."""
    model = zoo.load_pretrained(checkpoint(options.parity_python))
    params, ids = weight.split(model)[0], tokens(model)
    logits = jax.jit(lambda params: weight.bind(model, params)(ids))

    def go() -> float:
        start = time.perf_counter()
        jax.block_until_ready(logits(params))
        return time.perf_counter() - start

    return raced(go, "forward", options)


def train(options: argparse.Namespace) -> Measured:
    """Cross-entropy at every token and AdamW, with dropout as the config has it."""
    model = zoo.load_pretrained(checkpoint(options.parity_python))
    params, ids = weight.split(model)[0], tokens(model)
    optimizer = optax.adamw(1e-4, weight_decay=0.01)

    def loss(params: Any, key: jax.Array) -> jax.Array:
        logits = weight.bind(model, params)(ids, dropout_key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, ids).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    # The step gives its arrays up, the model keeps its own.
    state = (jax.tree.map(jnp.copy, params), optimizer.init(params))
    keys = iter(jax.random.split(jax.random.key(0), 10_000))

    def go() -> float:
        nonlocal state
        start = time.perf_counter()
        state, value = step(state, next(keys))
        jax.block_until_ready((state, value))
        return time.perf_counter() - start

    return raced(go, "train", options)


def tokens(model: Any) -> jax.Array:
    key = jax.random.key(0)
    return jax.random.randint(key, (BATCH, LENGTH), 0, model.config.vocab_size)


def raced(ours: Side, what: str, options: argparse.Namespace) -> Measured:
    """Our seconds over theirs."""
    with theirs(options) as peer:
        sides = {"ours": ours, "torch": peer.side(what)}
        rounds = rounds_for(sides["torch"], seconds=4 * options.seconds, least=6)
        seconds = race(sides, rounds=rounds, warm_up=2)
        detail = {f"{name}_ms": milliseconds(own) for name, own in seconds.items()}
        return ratio(seconds, "ours", "torch"), detail | {
            "rounds": rounds,
            "versions": peer.versions,
        }


@functools.cache
def loads(python: str) -> dict[str, list[dict[str, Any]]]:
    """Five loads of each side, each in a process of its own, alternating.

    `seconds` are those of the load alone, `process` those from its start to its end, with imports.
    """
    folder, here = str(checkpoint(python)), str(Path(__file__).parent)
    commands = {
        "ours": [sys.executable, "-c", _LOAD, folder, here],
        "torch": [python, f"{here}/_torch_bert.py", "load", folder],
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for number in range(6):
        for name, command in commands.items():
            start = time.perf_counter()
            made = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            process = {"process": time.perf_counter() - start}
            if number:  # the first of each reads the disk
                found[name].append(json.loads(made.stdout.splitlines()[-1]) | process)
    return found


def load_time(what: str, options: argparse.Namespace) -> Measured:
    found = loads(options.parity_python)
    seconds = {name: [each[what] for each in own] for name, own in found.items()}
    detail = {f"{name}_ms": milliseconds(own) for name, own in seconds.items()}
    return ratio(seconds, "ours", "torch"), detail


def load_memory(options: argparse.Namespace) -> Measured:
    size = (checkpoint(options.parity_python) / "model.safetensors").stat().st_size
    growth = {
        name: statistics.median(each["growth"] for each in own)
        for name, own in loads(options.parity_python).items()
    }
    detail = {f"{name}_mib": round(own / 2**20, 1) for name, own in growth.items()}
    return growth["ours"] / size, detail | {"file_mib": round(size / 2**20, 1)}


def rows() -> list[Row]:
    shape = f"BERT-base, {BATCH} × {LENGTH}"
    return [
        Row("forward", f"forward / torch, {shape}", 0.85, forward),
        Row("train", f"training step / torch, {shape}", 0.85, train),
        Row(
            "load/time",
            "time to load / transformers, read into memory",
            1.0,
            functools.partial(load_time, "seconds"),
        ),
        Row(
            "load/process",
            "time of a process that imports and loads / transformers, read into memory",
            1.0,
            functools.partial(load_time, "process"),
        ),
        Row("load/memory", "growth of anonymous memory / size of the file", 1.2, load_memory),
    ]


_INTRO = """# Benchmarks of BERT-base

Made by `python scripts/bench_bert.py` from `results/bench_bert.jsonl`: the same random weights in
both libraries, float32, all cores, masked-LM head on every token, dropout 0.1 in training. Ratios
of times that were taken in turn, medians over rounds.
"""


def main() -> int:
    options = arguments(
        __doc__,
        results=ROOT / "results" / "bench_bert.jsonl",
        page=ROOT / "docs" / "benchmarks_bert.md",
    )
    return run(rows(), options, lambda known: page(_INTRO, rows(), known))


if __name__ == "__main__":
    sys.exit(main())
