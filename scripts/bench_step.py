"""What a train step costs, against a step by hand, another library and the machine itself.

    python scripts/bench_step.py                     # every row that is missing, then the table
    python scripts/bench_step.py --rows plain_jax    # rows whose name contains a word
    python scripts/bench_step.py --rows variants     # every placement over pre_norm
    python scripts/bench_step.py --again             # measure anew
    python scripts/bench_step.py --table             # docs/benchmarks.md from what is there

About twenty minutes on 2 cores, half of them for the variants. All figures are ratios of two
sides that ran in one process, or in two in turn, alternating. A line a row goes to
results/bench_step.jsonl, and the table shows the newest of each. The x-transformers rows need
torch and x-transformers, in this environment or in the one whose interpreter `--parity-python`
names.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _plain_jax as plain
import jax
import jax.numpy as jnp
from _bench import Known, Measured, Row, arguments, page, run
from _races import (
    Ours,
    Peer,
    Plain,
    Side,
    core,
    lowered,
    milliseconds,
    race,
    ratio,
    rounds_for,
)

from zoo.checkpoints import Checkpoints
from zoo.layers import weight
from zoo.variants.registry import list_variants

ROOT = Path(__file__).resolve().parent.parent
_OVER = "variants/"  # rows of a variant's step over pre_norm's


def against_plain(shape: plain.Shape, options: argparse.Namespace) -> Measured:
    """The step over the fastest form of the hand-written one, chosen in a race of its own."""
    ours = Ours(shape)
    forms = {name: Plain(shape, form) for name, form in plain.FORMS.items()}
    heats = race(forms, rounds=rounds_for(ours, seconds=4.0, least=4, most=20), warm_up=2)
    best = min(heats, key=lambda name: statistics.median(heats[name]))
    sides: dict[str, Side] = {"ours": ours, "plain": forms[best]}
    seconds = race(sides, rounds=rounds_for(ours, seconds=options.seconds))
    detail = {"form": best, **{f"{name}_ms": milliseconds(s) for name, s in seconds.items()}}
    return ratio(seconds, "ours", "plain"), detail | {"rounds": len(seconds["ours"])}


@functools.cache
def pre_norm() -> Ours:
    """The step that all variants' steps are put beside, compiled once."""
    return Ours(_VARIANTS)


def against_pre_norm(variant: str, _: argparse.Namespace) -> Measured:
    """A variant's step over pre_norm's, alternating."""
    shape = dataclasses.replace(_VARIANTS, variant=variant)
    sides: dict[str, Side] = {"step": Ours(shape), "pre_norm": pre_norm()}
    rounds = rounds_for(sides["step"], seconds=1.5, least=8, most=20)
    seconds = race(sides, rounds=rounds, warm_up=2)
    detail: dict[str, Any] = {f"{name}_ms": milliseconds(s) for name, s in seconds.items()}
    return ratio(seconds, "step", "pre_norm"), detail | {"rounds": rounds}


def against_x_transformers(shape: plain.Shape, options: argparse.Namespace) -> Measured:
    """The step over the faster of x-transformers' two forms of attention."""
    sizes = (shape.d_model, shape.num_layers, shape.num_heads, shape.batch, shape.length)
    ours, theirs = Ours(shape), Peer(options.parity_python, "_x_transformers.py", *sizes)
    sides: dict[str, Side] = {"ours": ours}
    sides |= {form: theirs.side(form) for form in ("plain", "flash")}
    rounds = rounds_for(sides["flash"], seconds=options.seconds / 4)
    seconds = race(sides, rounds=rounds, warm_up=2, goes=7)
    theirs.close()
    faster = min(("plain", "flash"), key=lambda form: statistics.median(seconds[form]))
    detail = {"form": faster, **{f"{name}_ms": milliseconds(s) for name, s in seconds.items()}}
    return ratio(seconds, "ours", faster), detail | {"versions": theirs.versions}


def compile_time(_: argparse.Namespace) -> Measured:
    """Tracing, lowering and compiling the step of 1000 layers over that of 12."""
    seconds: dict[str, list[float]] = {}
    for _round in range(3):
        for layers in (1000, 12):
            shape = plain.Shape("deep_norm", 64, layers, 4, 4, 128)
            jax.clear_caches()
            start = time.perf_counter()
            lowered(core(shape), shape).compile()
            seconds.setdefault(f"{layers}", []).append(time.perf_counter() - start)
    deep, shallow = statistics.median(seconds["1000"]), statistics.median(seconds["12"])
    detail = {"deep_s": round(deep, 2), "shallow_s": round(shallow, 2)}
    return deep / shallow, detail


def memory(_: argparse.Namespace) -> Measured:
    """Temporary memory of the step of 1000 layers with remat = full over that with none."""
    shape = plain.Shape("deep_norm", 64, 1000, 4, 4, 128)
    sizes = {
        remat: lowered(core(shape, remat=remat), shape)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for remat in ("full", "selective", "none")
    }
    detail = {f"{remat}_mib": round(size / 2**20, 1) for remat, size in sizes.items()}
    return sizes["full"] / sizes["none"], detail


_VARIANTS = plain.Shape("pre_norm", 128, 12, 4, 4, 128)
_BASE = plain.Shape("post_norm", 768, 12, 12, 8, 128)


def base_flops() -> float:
    """Floating-point operations of a forward pass: products with weights, scores and head.

    All scores are counted, as all are computed at this length.
    """
    tokens, d = _BASE.batch * _BASE.length, _BASE.d_model
    layer = 2 * 12 * d * d + 2 * 2 * _BASE.length * d
    return float(tokens * (_BASE.num_layers * layer + 2 * d * _BASE.vocab_size))


def peak_sides() -> dict[str, Side]:
    """Plain products: a large square one, and the model's own shapes."""
    sides = {}
    for m, k, n in ((2048, 2048, 2048), (1024, 768, 3072), (1024, 3072, 768)):
        a, b = jnp.full((m, k), 0.5), jnp.full((k, n), 0.5)
        product = jax.jit(jnp.matmul)

        def go(a: jax.Array = a, b: jax.Array = b, product: Any = product) -> float:
            start = time.perf_counter()
            for _ in range(4):
                last = product(a, b)
            jax.block_until_ready(last)
            flops = 8.0 * a.shape[0] * a.shape[1] * b.shape[1]
            return (time.perf_counter() - start) / flops  # seconds a floating-point operation

        sides[f"{m}x{k}x{n}"] = go
    return sides


def against_peak(side: Side, flops: float, options: argparse.Namespace) -> Measured:
    """FLOP/s of a side over those of JAX's fastest plain product, in the same rounds."""
    products = peak_sides()
    rounds = rounds_for(side, seconds=options.seconds, least=6)
    seconds = race(products | {"model": side}, rounds=rounds)
    best = min(products, key=lambda name: statistics.median(seconds[name]))
    seconds["model"] = [taken / flops for taken in seconds["model"]]
    rates = {name: statistics.median(seconds[name]) for name in (best, "model")}
    detail = {
        "peak": best,
        "peak_gflops": round(1e-9 / rates[best], 1),
        "model_gflops": round(1e-9 / rates["model"], 1),
    }
    return ratio(seconds, best, "model"), detail


def forward_peak(options: argparse.Namespace) -> Measured:
    step = Ours(_BASE)
    ids = step.batch["inputs"]
    model = core(_BASE).model
    forward = jax.jit(lambda params: weight.bind(model, params)(ids))

    def go() -> float:
        start = time.perf_counter()
        jax.block_until_ready(forward(step.state["params"]))
        return time.perf_counter() - start

    return against_peak(go, base_flops(), options)


def train_peak(options: argparse.Namespace) -> Measured:
    return against_peak(Ours(_BASE), 3 * base_flops(), options)


def saves(_: argparse.Namespace) -> Measured:
    """Blocks of 10 steps with one asynchronous save each, over blocks without."""
    side = Ours(plain.Shape("deep_norm", 128, 6, 4, 16, 256))
    with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
        step = 0

        def block(saving: bool) -> float:
            nonlocal step
            start = time.perf_counter()
            if saving:
                step += 1
                checkpoints.save(step, side.state, {"step": step})
            for _ in range(10):
                side()
            return time.perf_counter() - start

        sides: dict[str, Side] = {"on": lambda: block(True), "off": lambda: block(False)}
        seconds = race(sides, rounds=7, warm_up=1)
    detail = {f"{name}_ms": milliseconds([s / 10 for s in seconds[name]]) for name in seconds}
    return ratio(seconds, "on", "off"), detail


def rows() -> list[Row]:
    made = []
    first = ("deep_norm", "pre_norm", "post_norm")
    for d, layers, size, length in ((64, 12, 4, 128), (128, 6, 16, 256), (256, 12, 4, 128)):
        for variant in plain.SUBLAYERS if d == 256 else first:
            shape = plain.Shape(variant, d, layers, 4, size, length)
            what = f"step / plain JAX, {variant}, d {d}, {layers} layers, {size} × {length}"
            name = f"plain_jax/{variant}/d{d}"
            made.append(Row(name, what, 1.05, lambda o, shape=shape: against_plain(shape, o)))
    for d in (64, 128, 256):
        shape = plain.Shape("pre_norm", d, 12, 4, 4, 128)
        what = f"step / x-transformers, pre_norm, d {d}, 12 layers, 4 × 128"
        made.append(
            Row(
                f"x_transformers/d{d}",
                what,
                0.75,
                lambda o, shape=shape: against_x_transformers(shape, o),
            )
        )
    base = "d 768, 12 layers, 8 × 128"
    variants = [
        Row(f"{_OVER}{name}", name, None, lambda o, name=name: against_pre_norm(name, o))
        for name in list_variants()
    ]
    return [
        *made,
        Row("compile", "compile time, 1000 layers / 12 layers, d 64", 1.25, compile_time),
        Row("memory", "temporary memory, remat full / none, 1000 layers, d 64", 0.1, memory),
        Row("peak/forward", f"forward FLOP/s / matmul peak, {base}", 0.8, forward_peak, True),
        Row("peak/train", f"train FLOP/s / matmul peak, {base}", 0.7, train_peak, True),
        Row("saves", "step with an asynchronous save every 10 steps / without", 1.05, saves),
        *variants,
    ]


_INTRO = """# Benchmarks of the train step

Made by `python scripts/bench_step.py` from `results/bench_step.jsonl`; see there for what each
side is. Ratios of times that were taken in turn, medians over rounds; float32, all cores.
"""


def _over(known: Known) -> str:
    """The table of the variants' steps, quickest first."""
    names = [name for name in list_variants() if f"{_OVER}{name}" in known]
    if not names:
        return ""
    lines = {name: known[f"{_OVER}{name}"] for name in names}
    shape = _VARIANTS
    head = f"""
## Step time of every variant over pre_norm's

Options as they are by default; d {shape.d_model}, {shape.num_layers} layers, \
{shape.batch} × {shape.length}. Each in turn with pre_norm, in one process.

| variant | step / pre_norm's | ms | pre_norm's ms | rounds |
|---|---|---|---|---|
"""
    return head + "".join(
        f"| {name} | {value:.2f} | {own['step_ms']} | {own['pre_norm_ms']} | {own['rounds']} |\n"
        for value, name, own in sorted(
            (line["value"], name, line["detail"]) for name, line in lines.items()
        )
    )


def main() -> int:
    options = arguments(
        __doc__, results=ROOT / "results" / "bench_step.jsonl", page=ROOT / "docs" / "benchmarks.md"
    )
    return run(rows(), options, lambda known: page(_INTRO, rows(), known, after=_over(known)))


if __name__ == "__main__":
    sys.exit(main())
