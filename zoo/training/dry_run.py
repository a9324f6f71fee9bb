"""What a run would be: every setting with its origin, sizes and costs; nothing is written."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from zoo.layers import weight
from zoo.layers.weight import Weight
from zoo.models.transformer import declare
from zoo.settings import flatten
from zoo.training.config import TrainConfig, origins
from zoo.training.fit import ends
from zoo.training.init_from import with_checkpoint
from zoo.training.progress import format_duration
from zoo.training.resume import as_begun
from zoo.training.schedules import schedule
from zoo.training.setup import Run, prepare

_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True)
class DryRun:
    """A run's plan.

    Attributes:
        settings: dotted field to (value, origin).
        parameters: number by role, biases and gains under their own names.
        flops_per_step: of the matrix products, forward and backward.
        memory_bytes: on each device: parameters, optimizer state, and what the forward pass
            keeps for the backward pass, before the compiler's own savings and scratch space.
        tokens: that the run predicts, or examples, as `unit` says; epochs: how often that
            reads the data.
        learning_rates: over the run, 60 points.
        peak_flops: FLOP/s that one large matrix product reaches here, over all devices.
    """

    settings: dict[str, tuple[Any, str]]
    parameters: dict[str, int]
    flops_per_step: float
    memory_bytes: dict[str, int]
    tokens: int
    epochs: float
    learning_rates: list[float]
    peak_flops: float = 0.0
    unit: str = "tokens"
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        fields["settings"] = {
            name: {"value": value, "origin": origin}
            for name, (value, origin) in self.settings.items()
        }
        return fields

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max(map(len, self.settings))
        for name, (value, origin) in self.settings.items():
            shown = "-" if value is None else str(value)
            yield f"{name:<{width}}  {shown:<28}  {origin}"
        yield ""
        total = sum(self.parameters.values())
        yield f"parameters  {total:,}"
        for role, count in sorted(self.parameters.items(), key=lambda item: -item[1]):
            yield f"  {role:<14} {count:>14,}  {count / total:6.1%}"
        yield f"compute     {self.flops_per_step:.3g} FLOP a step, {self._flops():.3g} in all"
        # Small models reach a third to a half of it; the progress bar knows better soon.
        yield (
            f"time        at least {format_duration(self._flops() / self.peak_flops)}, at the "
            f"{self.peak_flops / 1e9:,.0f} GFLOP/s of one large matrix product here"
        )
        for name, size in self.memory_bytes.items():
            yield f"memory      about {size / 2**20:,.1f} MiB {name} on each device"
        yield f"data        {self.tokens:,} {self.unit}, {self.epochs:.3g} epochs"
        yield f"lr          {_spark(self.learning_rates)}  peak {max(self.learning_rates):.2e}"
        yield from (f"note        {note}" for note in self.notes)
        yield "the workdir was not touched"

    def _flops(self) -> float:
        return self.flops_per_step * float(self.settings["steps"][0])


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run takes, counted rather than measured.

    Attributes:
        parameters: numbers in the model.
        flops_per_step: of the matrix products, forward and backward.
        memory: bytes on each device, the sum of `DryRun.memory_bytes`.
    """

    parameters: int
    flops_per_step: float
    memory: int


def cost(config: TrainConfig) -> Cost:
    """The cost of a run, counted once in a process for all that differ in seeds and rates only.

    Raises:
        ZooError: on whatever cannot work.
    """
    optim = dataclasses.replace(config.optim, lr=1.0)
    return _cost(dataclasses.replace(config, workdir="any", seed=0, data_seed=0, optim=optim))


@functools.lru_cache(maxsize=1024)
def _cost(config: TrainConfig) -> Cost:
    run = prepare(config)
    shapes, weights = weight.split(run.model)
    return Cost(
        parameters=sum(_parameters(weights, shapes).values()),
        flops_per_step=_flops(run),
        memory=sum(_memory(run).values()),
    )


def dry_run(config: TrainConfig, typed: Collection[str] = ()) -> DryRun:
    """The plan of a run; nothing is compiled for it or written to the workdir.

    Args:
        typed: dotted fields that were given as flags.

    Raises:
        ZooError: on whatever cannot work.
    """
    begun = as_begun(with_checkpoint(config, typed))
    run = prepare(begun)
    shapes, weights = weight.split(run.model)
    budget = run.data.budget(config.steps)
    factor = schedule(run.config.optim, config.steps)
    peak = run.config.optim.lr or 0.0
    points = np.linspace(0, config.steps - 1, num=min(60, config.steps)).round().astype(int)
    settings = origins(begun, typed=typed, **ends(run.data.spec))
    before = flatten(config)
    for name, value in flatten(begun).items():
        if before[name] != value:
            settings[name] = (settings[name][0], "init_from")
    return DryRun(
        settings=settings,
        parameters=_parameters(weights, shapes),
        flops_per_step=_flops(run),
        memory_bytes=_memory(run),
        tokens=budget.tokens_asked,
        epochs=budget.epochs,
        learning_rates=[peak * float(factor(int(step))) for step in points],
        peak_flops=_peak_flops(begun.model.dtype),
        unit=budget.unit,
        notes=tuple(note for note in (budget.warning,) if note),
    )


def _leaves(weights: dict[str, Any], shapes: dict[str, Any]) -> Iterator[tuple[Weight, int]]:
    declared, sizes = jax.tree.leaves(weights), jax.tree.leaves(shapes)
    for own, shape in zip(declared, sizes, strict=True):
        yield own, math.prod(shape.shape)


def _parameters(weights: dict[str, Any], shapes: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for own, size in _leaves(weights, shapes):
        name = {"gain": "norm gains", "bias": "biases"}.get(own.kind, own.role)
        counts[name] = counts.get(name, 0) + size
    return counts


def _flops(run: Run) -> float:
    """2 per multiply-add of the traced forward pass; the backward pass costs twice that
    (Kaplan et al. 2020)."""
    parts = run.config.optim.accumulate
    batch = run.task.batch(
        run.data.example_batch(run.config.data.batch_size // parts), run.data.spec
    )
    # A fused attention kernel hides its products.
    plain = dataclasses.replace(run.model.config, attention="reference")
    core = dataclasses.replace(run.core, model=declare(plain, run.model.placement))
    shapes, _ = weight.split(core.model)
    traced = jax.make_jaxpr(lambda params: core.loss(params, batch, None).objective)(shapes)
    return 3.0 * parts * _products(traced.jaxpr)


def _products(jaxpr: Jaxpr) -> float:
    """FLOP of the matrix products and convolutions, a scan's body once for every turn."""
    flops = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name in ("dot_general", "ragged_dot_general"):
            if name == "dot_general":
                (contracted, _), _ = params["dimension_numbers"]
            else:  # of a mixture: each row meets the matrix of one expert
                (contracted, _), _ = params["ragged_dot_dimension_numbers"].dot_dimension_numbers
            summed = math.prod(_shape(equation.invars[0])[axis] for axis in contracted)
            flops += 2.0 * math.prod(_shape(equation.outvars[0])) * summed
        elif name == "conv_general_dilated":
            kernel, numbers = _shape(equation.invars[1]), params["dimension_numbers"]
            each = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
            flops += 2.0 * math.prod(_shape(equation.outvars[0])) * each
        inner = [_products(each) for value in params.values() for each in _programs(value)]
        # Of a choice one branch runs.
        once = max(inner, default=0.0) if name == "cond" else sum(inner)
        flops += once * (params["length"] if name == "scan" else 1)
    return flops


def _shape(variable: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = variable.aval.shape
    return shape


def _programs(value: Any) -> list[Jaxpr]:
    if isinstance(value, (tuple, list)):
        return [program for each in value for program in _programs(each)]
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    return [value] if isinstance(value, Jaxpr) else []


def _peak_flops(dtype: str, size: int = 1536, repeats: int = 5) -> float:
    """Measured on one device, times their number."""
    square = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(square, square).block_until_ready()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(square, square).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times) * len(jax.devices())


def _memory(run: Run) -> dict[str, int]:
    def size(tree: Any) -> int:
        return sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )

    params = size(run.template["params"])
    return {
        "of parameters": params,
        "of optimizer state and averages": size(run.template) - params,
        "of activations kept for the backward pass": _activations(run),
    }


def _activations(run: Run) -> int:
    """Bytes that a micro-batch's forward pass keeps on each device, read off its trace.

    Tracing runs no compiler, so it cannot know what fusion saves or scratch space adds.
    """
    data, parts = run.config.data, run.config.optim.accumulate * len(jax.devices())
    batch = run.task.batch(run.data.example_batch(data.batch_size // parts), run.data.spec)

    def kept(params: Any, batch: Any) -> list[jax.Array]:
        _, backward = jax.vjp(
            lambda params: run.core.loss(params, batch, jax.random.key(0)).objective, params
        )
        given = {id(leaf) for leaf in jax.tree.leaves((params, batch))}
        return [leaf for leaf in jax.tree.leaves(backward) if id(leaf) not in given]

    shapes, _ = weight.split(run.model)
    residuals = jax.eval_shape(kept, shapes, batch)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in residuals)


def _spark(values: list[float]) -> str:
    top = max(values) or 1.0
    return "".join(_BLOCKS[round(value / top * (len(_BLOCKS) - 1))] for value in values)
