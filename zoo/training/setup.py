"""Everything a run needs before its first step, made after all refusals."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from zoo.data.base import Data
from zoo.data.loader import open_data
from zoo.layers import weight
from zoo.models.resolve import place
from zoo.models.transformer import Transformer, declare, initialiser
from zoo.tasks import TASKS, Batch, Task
from zoo.training.config import TrainConfig, begin_of, resolve_run
from zoo.training.fit import ends
from zoo.training.optimizer import make_optimizer
from zoo.training.schedules import schedule
from zoo.training.sharding import (
    batch_sharding,
    check_batch,
    like_params,
    make_mesh,
    param_shardings,
    put_batch,
    replicated,
)
from zoo.training.step import Evaluator, Figures, Inputs, State, Step, make_evaluator
from zoo.variants.placement import Placement

RunStep = Callable[[State, Batch, Inputs], tuple[State, Figures]]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to start.

    Attributes:
        config: resolved.
        data, task, model: of the run; the model is declared, without values.
        template: shapes and shardings of the state.
        step: the compiled step, in the chosen mode.
        evaluator: the compiled loss without dropout and auxiliary losses.
        core: what the compiled step is made of.
        inputs: learning rate, decay and seed.
        place, spread: host batch to device batch, of a step and of an evaluation.
    """

    config: TrainConfig
    data: Data
    task: Task
    model: Transformer
    core: Step
    template: State
    step: RunStep
    evaluator: Evaluator
    inputs: Inputs
    place: Callable[[dict[str, np.ndarray]], Batch]
    spread: Callable[[dict[str, np.ndarray]], Batch]

    def batch(self, rows: dict[str, np.ndarray]) -> Batch:
        """Rows of the data room as a device batch."""
        return self.place(self.task.batch(rows, self.data.spec))

    def initial_state(self) -> State:
        """A fresh state, placed."""
        key = jax.random.key(self.config.seed)
        start = initialiser(self.model)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.template)
        if all(sharding.is_fully_replicated for sharding in jax.tree.leaves(shardings)):
            # Drawn one by one: a draw compiles once per shape, for all models of the process.
            return jax.device_put(self.core.init(start(key)), shardings)
        state: State = jax.jit(lambda key: self.core.init(start(key)), out_shardings=shardings)(key)
        return state


def open_run_data(config: TrainConfig) -> Data:
    """The rows of a run, as its task and its model need them; raises as `zoo.data.open_data`."""
    task = TASKS[config.task]
    return open_data(
        config.data,
        seed=config.seed if config.data_seed is None else config.data_seed,
        needs=task.special(config.data),
        kind=task.rows,
        begin=begin_of(config),
        token_types=config.model.type_vocab_size or 1,
    )


def prepare(config: TrainConfig) -> Run:
    """Resolve, open the text, declare the model; nothing is compiled or written to the workdir.

    Raises:
        ZooError: on whatever cannot work.
    """
    config.validate()
    devices = len(jax.devices())
    check_batch(config.data.batch_size, config.optim.accumulate, devices)
    mesh = make_mesh(config.mesh)
    task = TASKS[config.task]
    data = open_run_data(config)
    config = resolve_run(config, **ends(data.spec))
    optim = config.optim
    pmapped = config.parallel == "pmap"
    built = _built(_structure(config), place(config.model))
    split = batch_sharding(mesh)

    def spread(batch: dict[str, np.ndarray]) -> Batch:
        return put_batch(batch, split)

    assert optim.lr is not None  # filled by resolve_run, like the decay
    assert optim.weight_decay is not None
    inputs = Inputs(
        lr=np.float32(optim.lr),
        weight_decay=np.float32(optim.weight_decay),
        seed=np.uint32(config.seed),
    )
    return Run(
        config=config,
        data=data,
        task=task,
        model=built.core.model,
        core=built.core,
        template=built.template,
        step=built.step,
        evaluator=built.evaluator,
        inputs=inputs,
        place=_by_device if pmapped else spread,
        # Evaluation is jitted in both modes; under pmap the parameters stay on one device each.
        spread=dict if pmapped else spread,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Built:
    """The part of a run that others of its structure share, compiled programs included."""

    core: Step
    template: State
    step: RunStep
    evaluator: Evaluator


def _structure(config: TrainConfig) -> TrainConfig:
    """The resolved config with what no compiled program depends on at one value for all."""
    return TrainConfig(
        task=config.task,
        steps=config.steps,  # of the schedule
        parallel=config.parallel,
        model=config.model,
        optim=dataclasses.replace(config.optim, lr=1.0, weight_decay=0.0),
        mesh=config.mesh,
    )


@functools.lru_cache(maxsize=4)
def _built(config: TrainConfig, placement: Placement) -> _Built:
    """What runs of one structure share: they differ in data, seeds, rate and decay.

    Args:
        config: from `_structure`.
        placement: part of the key: a name may be registered anew.
    """
    mesh = make_mesh(config.mesh)
    model = declare(config.model, placement)
    shapes, weights = weight.split(model)
    pmapped = config.parallel == "pmap"
    core = Step(
        model=model,
        task=TASKS[config.task],
        optimizer=make_optimizer(config.optim, weights, model.placement),
        schedule=schedule(config.optim, config.steps),
        config=config.optim,
        axis_name="devices" if pmapped else None,
    )
    state = jax.eval_shape(core.init, shapes)
    placed = param_shardings(mesh, weights, shapes)
    shardings = like_params(mesh, state, shapes, placed)
    template = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        shardings,
    )
    return _Built(
        core=core,
        template=template,
        step=_pmapped(core) if pmapped else _jitted(core, shardings, replicated(mesh)),
        evaluator=make_evaluator(model, core.task),
    )


def _jitted(core: Step, shardings: Any, whole: Any) -> RunStep:
    step: RunStep = jax.jit(core, donate_argnums=0, out_shardings=(shardings, whole))
    return step


def _pmapped(core: Step) -> RunStep:
    """The same step under `jax.pmap`: state in and out as under jit, copied for each device."""
    mapped = jax.pmap(
        core, axis_name=core.axis_name, in_axes=(None, 0, None), out_axes=(None, None)
    )
    step: RunStep = mapped
    return step


def _by_device(batch: dict[str, np.ndarray]) -> Batch:
    devices = jax.local_device_count()
    return {name: array.reshape(devices, -1, *array.shape[1:]) for name, array in batch.items()}
