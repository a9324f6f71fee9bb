"""What all variants get equally: tokens, FLOPs, time or parameters."""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import time
from pathlib import Path

import jax
from filelock import FileLock

from zoo.compare.config import CompareConfig
from zoo.compare.plan import Cell, base_run
from zoo.errors import ConfigError
from zoo.files import write_json
from zoo.training.config import TrainConfig
from zoo.training.dry_run import cost
from zoo.training.identity import identity
from zoo.training.setup import prepare

# Steps that a timing takes, after those that compile.
_TIMED, _UNTIMED = 10, 3


class Matcher:
    """Runs of cells, matched to the first variant of their task, depth and width.

    Costs are looked up once; timings are kept in the comparison's folder, so that every process,
    and the same command again, plans the same runs.
    """

    def __init__(self, config: CompareConfig) -> None:
        self.config = config
        self._runs: dict[Cell, TrainConfig] = {}

    def run(self, cell: Cell) -> TrainConfig:
        """The run of a cell, before tuning.

        Raises:
            ConfigError: when it cannot work, or cannot be matched.
        """
        if cell not in self._runs:
            self._runs[cell] = self._matched(cell)
        return self._runs[cell]

    def _matched(self, cell: Cell) -> TrainConfig:
        run = base_run(self.config, cell)
        first = dataclasses.replace(cell, variant=self.config.variants[0])
        if self.config.match == "tokens" or cell == first:
            return run
        reference = self.run(first)
        if self.config.match == "params":
            return _as_many_parameters(run, cost(reference).parameters, cell)
        if self.config.match == "flops":
            ratio = cost(reference).flops_per_step / cost(run).flops_per_step
        else:
            ratio = self._seconds(reference) / self._seconds(run)
        return dataclasses.replace(run, steps=max(1, round(reference.steps * ratio)))

    def _seconds(self, run: TrainConfig) -> float:
        """Of a step, measured once for the comparison; a plan that has no folder leaves none."""
        path = self.config.workdir / "timings.json"
        if not path.parent.exists():
            return seconds_per_step(run)
        key = identity(run)
        with FileLock(path.with_suffix(".lock")):
            known = _read(path)
            if key not in known:
                known[key] = seconds_per_step(run)
                write_json(path, known)
        return known[key]


def _read(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    try:
        return {key: float(value) for key, value in json.loads(path.read_bytes()).items()}
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged ({error}); delete it to measure again") from error


@functools.cache
def seconds_per_step(run: TrainConfig) -> float:
    """Seconds of a step, the median of some after compilation."""
    made = prepare(run)
    state = made.initial_state()
    seconds = []
    for step in range(_UNTIMED + _TIMED):
        batch = made.batch(made.data.train_batch(step))
        start = time.perf_counter()
        state, figures = made.step(state, batch, made.inputs)
        jax.block_until_ready(figures)
        if step >= _UNTIMED:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _as_many_parameters(run: TrainConfig, wanted: int, cell: Cell) -> TrainConfig:
    """The run with the d_ff whose count of parameters comes nearest to `wanted`."""
    size = run.model.sizes().d_ff

    def with_width(d_ff: int) -> TrainConfig:
        return dataclasses.replace(run, model=dataclasses.replace(run.model, d_ff=d_ff))

    counts = {d_ff: cost(with_width(d_ff)).parameters for d_ff in (size, size + 1)}
    each = counts[size + 1] - counts[size]
    if each <= 0:
        raise ConfigError(f"match = 'params': d_ff changes nothing in {cell.variant}")
    d_ff = size + round((wanted - counts[size]) / each)
    if d_ff < 1:
        raise ConfigError(
            f"match = 'params': {cell.variant} has more parameters than "
            "the first variant without any MLP; compare at equal tokens or FLOPs"
        )
    return with_width(d_ff)
