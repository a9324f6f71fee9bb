"""The figures of every sublayer and weight: one forward pass, one gradient, one step.

Nothing here knows a path: what belongs together is read off the `Weight` beside each array, and
what belongs to a layer off its leading axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.diagnosis.report import Diagnosis, SublayerFigures, WeightFigures, ratio
from zoo.errors import ConfigError, choices, near_matches
from zoo.layers import weight
from zoo.layers.weight import ROLES, Weight
from zoo.models.transformer import Transformer
from zoo.tasks import TASKS, Batch, Loss, Task
from zoo.training.config import resolve_optim
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import make_optimizer
from zoo.training.schedules import schedule
from zoo.training.setup import Run
from zoo.training.step import State, Step
from zoo.variants.registry import get_variant, is_known
from zoo.variants.variant import Recipe

# The run that a recipe's warm-up is cut to when there is no run; the peak rate is shown.
_STEPS = 1000

Norms = tuple[Any, Any, Any]  # of weights, gradient and update, trees of [layers] or scalars


def diagnose(
    model: Transformer,
    batch: Batch | jax.Array | np.ndarray | Sequence[Batch],
    *,
    task: str | None = None,
    optim: OptimConfig | None = None,
    opt_state: Any = None,
    step: int | None = None,
    attention: bool = False,
) -> Diagnosis:
    """What flows through every sublayer of a model, and what one optimizer step does to it.

    Dropout is off. The update is what the optimizer would do next: at its peak learning rate,
    clipping and weight decay included, from `opt_state` or, without one, the first of a run.

    Args:
        batch: what `Task.batch` of the task makes, a dict of arrays; several of them, whose
            figures are taken together; or tokens, int [batch, length], each of which predicts
            the next.
        task: see `zoo list tasks`; default: the first there that the architecture can learn.
        optim: default: AdamW with the recipe of the variant.
        opt_state: of this optimizer, as the state of a run holds it.
        step: of the optimizer, for scheduled multipliers; None: the end of their schedules.
        attention: also the entropy of the attention weights, which takes a second forward pass
            that holds all of them, [layers, batch, heads, length, length] float32.

    Raises:
        ConfigError: on a batch or task that does not go with the model.
    """
    chosen = _task(model, task)
    batches = [_batch(model, chosen, each) for each in _several(batch)]
    known = is_known(model.placement.variant)
    recipe = get_variant(model.placement.variant).recipe if known else Recipe()
    config, _ = resolve_optim(OptimConfig() if optim is None else optim, recipe, _STEPS)
    params, weights = weight.split(model)
    core = Step(
        model=model,
        task=chosen,
        optimizer=make_optimizer(config, weights, model.placement),
        schedule=schedule(config, _STEPS),
        config=config,
    )
    assert config.lr is not None  # filled by resolve_optim, like the decay
    assert config.weight_decay is not None
    return _diagnosis(
        core,
        params,
        batches,
        lr=config.lr,
        weight_decay=config.weight_decay,
        opt_state=opt_state,
        step=step,
        attention=attention,
    )


def diagnose_run(
    run: Run, state: State, batches: Sequence[Batch], *, attention: bool = False
) -> Diagnosis:
    """`diagnose` with the weights, optimizer state and step of a run.

    The learning rate is that of the run's next step.

    Args:
        batches: as `Run.batch` makes them.
        attention: as for `diagnose`.
    """
    done = int(state["step"])
    lr = float(run.inputs.lr) * float(jax.jit(run.core.schedule)(done))
    return _diagnosis(
        run.core,
        state["params"],
        batches,
        lr=lr,
        weight_decay=float(run.inputs.weight_decay),
        opt_state=state["opt_state"],
        step=done,
        attention=attention,
    )


def _diagnosis(
    core: Step,
    params: dict[str, Any],
    batches: Sequence[Batch],
    *,
    lr: float,
    weight_decay: float,
    opt_state: Any,
    step: int | None,
    attention: bool,
) -> Diagnosis:
    at = None if step is None else jnp.asarray(step)
    _, weights = weight.split(core.model)

    @_jit_once
    def observe(params: dict[str, Any], batch: Batch) -> tuple[Loss, Any, Any]:
        batch = _Arrays(batch)

        def objective(params: dict[str, Any]) -> tuple[jax.Array, Loss]:
            loss = core.loss(params, batch, None, at)
            return loss.objective, loss

        grads, loss = jax.grad(objective, has_aux=True)(params)
        bound = weight.bind(core.model, params)
        _, taps = bound.measure(**core.task.inputs(batch), step=at)
        maps: dict[str, Any] = {}
        if attention:
            _, maps = bound.measure(**core.task.inputs(batch), step=at, taps="attention")
        return loss, grads, (taps, jax.tree.map(_entropy, maps))

    @_jit_once
    def move(params: dict[str, Any], grads: Any, held: Any, tokens: Any) -> tuple[Any, Norms]:
        factor, figures = core.optimizer.factor(grads, scale=1.0 / tokens)
        moved, _ = core.optimizer.apply(
            grads, held, params, lr=lr, weight_decay=weight_decay, factor=factor
        )
        mean = jax.tree.map(lambda g: g / tokens, grads)
        update = jax.tree.map(jnp.subtract, moved, params)
        norms = tuple(weight.map_weights(_norm, weights, tree) for tree in (params, mean, update))
        return figures["grad_norm"], norms

    seen = [observe(params, batch) for batch in batches]
    loss, grads = reduce(
        lambda total, each: jax.tree.map(jnp.add, total, each), [each[:2] for each in seen]
    )
    tokens = max(float(loss.tokens), 1.0)
    held = core.optimizer.init(params) if opt_state is None else opt_state
    grad_norm, norms = jax.device_get(move(params, grads, held, tokens))
    found = tuple(_weights(weights, norms))
    measured = jax.device_get([each[2] for each in seen])
    taps, entropy = jax.tree.map(lambda *parts: np.stack(parts), *measured)
    return Diagnosis(
        variant=core.model.placement.variant,
        task=core.task.name,
        loss=float(loss.nats) / tokens,
        tokens=round(tokens),
        grad_norm=float(grad_norm),
        learning_rate=lr,
        sublayers=tuple(_sublayers(core.model, taps, entropy, found)),
        weights=found,
    )


def _jit_once(function: Callable[..., Any]) -> Any:
    """jit of a program that runs a few times at most.

    On CPU it is compiled without optimisation: at 12 layers of width 64 nearly all of a diagnosis
    is compiling, and at the size of GPT-2 small, where products rule, both take equally long.
    """
    plain = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    return jax.jit(function, compiler_options=plain if jax.default_backend() == "cpu" else None)


def _entropy(weights: jax.Array) -> jax.Array:
    """[layers] mean of -sum p log p in nats, of [layers, batch, heads, length, source length]."""
    each = jnp.sum(jax.scipy.special.entr(weights), axis=-1)
    return jnp.mean(each, axis=tuple(range(1, each.ndim)))


def _norm(own: Weight, array: jax.Array) -> jax.Array:
    """[layers] or a scalar: Euclidean norm of each layer's weight."""
    axes = tuple(range(1 if own.stacked else 0, array.ndim))
    return jnp.sqrt(jnp.sum(jnp.square(array.astype(jnp.float32)), axis=axes))


def _weights(weights: dict[str, Any], norms: Norms) -> list[WeightFigures]:
    """Norms by place and role."""
    squares: dict[tuple[Any, ...], np.ndarray] = {}
    leaves = zip(jax.tree.leaves(weights), *map(jax.tree.leaves, norms), strict=True)
    for own, *values in leaves:
        columns = np.square(np.asarray(values, np.float64)).reshape(len(values), -1)
        for layer, column in zip(own.layers or (None,), columns.T, strict=True):
            place = (own.stack, layer, own.sublayer, own.role, own.kind)
            squares[place] = squares.get(place, 0.0) + column
    ordered = sorted(squares, key=_order)
    return [WeightFigures(*place, *map(float, np.sqrt(squares[place]))) for place in ordered]


def _order(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Stacks, their layers before their ends, roles as declared."""
    stack, layer, _, role, _ = place
    known = ROLES.index(role) if role in ROLES else len(ROLES)
    return (stack or "", layer is None, layer or 0, known, role)


def _sublayers(
    model: Transformer,
    taps: Mapping[str, Mapping[str, np.ndarray]],
    entropy: Mapping[str, Mapping[str, np.ndarray]],
    found: Sequence[WeightFigures],
) -> list[SublayerFigures]:
    """One entry a sublayer.

    Args:
        taps: [batches, layers, sublayers] by stack and name.
        entropy: [batches, layers] by stack and kind of sublayer, or empty.
        found: the weights' norms.
    """
    by_place: dict[tuple[Any, ...], list[WeightFigures]] = {}
    for each in found:
        by_place.setdefault((each.stack, each.layer, each.sublayer), []).append(each)
    made = []
    for stack, placement in model.placement.stacks:
        own = taps[stack]
        root = {
            name: np.sqrt(np.mean(np.square(own[name].astype(np.float64)), axis=0))
            for name in ("stream_rms", "branch_rms", "branch_skip_ratio")
        }
        for layer, sites in enumerate(placement.layers):
            for index, site in enumerate(sites):
                here = by_place.get((stack, layer, site.sublayer), [])
                spread = entropy.get(stack, {}).get(site.sublayer)
                matrices = [w for w in here if w.kind == "matrix"]
                made.append(
                    SublayerFigures(
                        stack=stack,
                        layer=layer,
                        sublayer=site.sublayer,
                        stream_rms=float(root["stream_rms"][layer, index]),
                        branch_rms=float(root["branch_rms"][layer, index]),
                        branch_skip_ratio=float(root["branch_skip_ratio"][layer, index]),
                        finite=bool(np.all(own["finite"][:, layer, index])),
                        grad_norm=math.hypot(*(w.grad_norm for w in here)),
                        update_ratio=ratio(
                            math.hypot(*(w.update_norm for w in matrices)),
                            math.hypot(*(w.norm for w in matrices)),
                        ),
                        attention_entropy=(
                            None if spread is None else float(np.mean(spread[:, layer]))
                        ),
                    )
                )
    return made


class _Arrays(dict[str, Any]):
    """A batch whose missing array is the caller's mistake."""

    def __missing__(self, name: str) -> Any:
        raise ConfigError(f"batch lacks {name!r}, which the task reads; it has {choices(self)}")


def _several(batch: Any) -> list[Any]:
    batches = list(batch) if isinstance(batch, list | tuple) else [batch]
    if not batches:
        raise ConfigError("batch is an empty list; give one batch or more")
    return batches


def _batch(model: Transformer, task: Task, batch: Any) -> Batch:
    """The task's batch; of tokens [batch, length] the one in which each predicts the next."""
    if isinstance(batch, Mapping):
        return {name: jnp.asarray(array) for name, array in batch.items()}
    tokens = jnp.asarray(batch)
    if not task.continues_text or tokens.ndim != 2 or tokens.shape[1] < 2:
        raise ConfigError(
            f"batch of shape {tokens.shape}: {task.name} takes a dict of arrays"
            + (", or tokens [batch, length] of 2 or more" if task.continues_text else "")
        )
    return {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "mask": jnp.ones(tokens[:, 1:].shape, bool),
    }


def _task(model: Transformer, name: str | None) -> Task:
    architecture, head = model.config.architecture, model.config.head
    fitting = [task for task in TASKS.values() if (architecture, head) in task.models]
    if name is None and fitting:
        return fitting[0]
    if name is not None and name not in TASKS:
        hint = near_matches(name, TASKS)
        raise ConfigError(f"task = {name!r} is not known{hint}; tasks: {choices(TASKS)}")
    if name is None or TASKS[name] not in fitting:
        raise ConfigError(
            f"task = {name!r} does not go with a model of architecture = {architecture!r} and "
            f"head = {head!r}; use {choices(task.name for task in fitting)}"
        )
    return TASKS[name]
