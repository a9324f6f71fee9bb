"""Sides of a race, raced in alternation."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import _plain_jax as plain
import jax
import jax.numpy as jnp
import numpy as np

from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import declare, initialiser
from zoo.tasks import TASKS
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import make_optimizer
from zoo.training.schedules import schedule
from zoo.training.step import Inputs, Step

Side = Callable[[], float]  # one go; returns its seconds
INPUTS = Inputs(lr=np.float32(1e-3), weight_decay=np.float32(0.1), seed=np.uint32(0))


def race(
    sides: Mapping[str, Side], *, rounds: int, warm_up: int = 4, goes: int = 1
) -> dict[str, list[float]]:
    """Seconds of each side, a turn each in alternation, so that a slow minute slows all of them.

    A turn of several `goes` counts as their median: between processes the first go after a
    change pays for cold caches and for the other's threads, which spin on for a while.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm_up + rounds):
        for name, side in sides.items():
            taken = statistics.median(side() for _ in range(goes))
            if number >= warm_up:
                seconds[name].append(taken)
    return seconds


def ratio(seconds: Mapping[str, list[float]], above: str, below: str) -> float:
    """Median over rounds of one side's time over the other's."""
    pairs = zip(seconds[above], seconds[below], strict=True)
    return statistics.median(a / b for a, b in pairs)


def rounds_for(side: Side, *, seconds: float, least: int = 8, most: int = 60) -> int:
    """How many goes of a side fit into some seconds; runs it twice."""
    side()
    return max(least, min(most, int(seconds / side())))


def milliseconds(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds), 2)


def batch(shape: plain.Shape) -> dict[str, jax.Array]:
    """Random tokens, all of them real."""
    ids = jax.random.randint(jax.random.key(1), (shape.batch, shape.length), 0, shape.vocab_size)
    return {
        "inputs": ids,
        "targets": jnp.roll(ids, -1, axis=1),
        "mask": jnp.ones(ids.shape, bool),
    }


def core(shape: plain.Shape, **model: Any) -> Step:
    """The train step of this package for a shape; `model` overrides fields of its config."""
    config = ModelConfig(
        variant=shape.variant,
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        max_length=512,
        tie_embeddings=True,
    )
    declared = declare(dataclasses.replace(config, **model))
    optim = OptimConfig(
        lr=1e-3,
        weight_decay=0.1,
        beta1=0.9,
        beta2=0.95,
        schedule="constant",
        warmup=0,
        clip_norm=1.0,
    )
    return Step(
        model=declared,
        task=TASKS["language_model"],
        optimizer=make_optimizer(optim, weight.split(declared)[1]),
        schedule=schedule(optim, 1000),
        config=optim,
    )


def lowered(step: Step, shape: plain.Shape) -> Any:
    """The step traced and lowered from shapes alone."""
    state = jax.eval_shape(step.init, weight.split(step.model)[0])
    return jax.jit(step, donate_argnums=0).lower(state, batch(shape), INPUTS)


class Ours:
    """The package's step; keeps its state."""

    def __init__(self, shape: plain.Shape, **model: Any) -> None:
        step = core(shape, **model)
        self.state = step.init(initialiser(step.model)(jax.random.key(0)))
        self.batch = batch(shape)
        self.step = jax.jit(step, donate_argnums=0)

    def __call__(self) -> float:
        start = time.perf_counter()
        self.state, figures = self.step(self.state, self.batch, INPUTS)
        jax.block_until_ready((self.state, figures))
        return time.perf_counter() - start


class Plain:
    """The hand-written step in one form; keeps its state."""

    def __init__(self, shape: plain.Shape, form: plain.Form) -> None:
        self.params, self.state, self.step = plain.make_step(shape, form)
        made = batch(shape)
        self.ids, self.targets = made["inputs"], made["targets"]

    def __call__(self) -> float:
        start = time.perf_counter()
        self.params, self.state, loss = self.step(
            self.params, self.state, self.ids, self.targets, INPUTS.lr, INPUTS.weight_decay
        )
        jax.block_until_ready((self.params, self.state, loss))
        return time.perf_counter() - start


class Peer:
    """Another library in a process of its own, perhaps of another environment.

    Its script prints `versions {...}`, then answers each line on standard input with the seconds
    that what it names took.
    """

    def __init__(self, python: str, script: str, *words: object) -> None:
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name(script)), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        first = self._line()
        if not first.startswith("versions "):
            self.close()
            sys.exit(
                f"{python} cannot run {script}; install the extra parity there, name another "
                "interpreter with --parity-python, or leave the row out with --rows"
            )
        self.versions: dict[str, str] = json.loads(first.removeprefix("versions "))

    def side(self, form: str) -> Side:
        def go() -> float:
            # Torch's threads spin for some milliseconds before they sleep.
            time.sleep(0.02)
            assert self.process.stdin is not None
            print(form, file=self.process.stdin, flush=True)
            taken = float(self._line())
            time.sleep(0.02)
            return taken

        return go

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()
