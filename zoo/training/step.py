"""The train step: a pure function of (state, batch, inputs)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zoo.layers import weight
from zoo.models.transformer import Transformer
from zoo.tasks import Batch, Loss, Task
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import Optimizer, ema_update
from zoo.training.schedules import Schedule

State = dict[str, Any]
Figures = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What may differ between runs that share one compilation; all traced.

    Attributes:
        lr: peak learning rate.
        weight_decay: decoupled decay.
        seed: of dropout.
    """

    lr: Any
    weight_decay: Any
    seed: Any


jax.tree_util.register_dataclass(Inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """Everything a step is made of.

    Attributes:
        model: declared, without values; parameters are bound in the step.
        schedule: factor of the peak learning rate by step.
        axis_name: of `jax.pmap`; None under jit, where sums are global by themselves.
    """

    model: Transformer
    task: Task
    optimizer: Optimizer
    schedule: Schedule
    config: OptimConfig
    axis_name: str | None = None

    def init(self, params: dict[str, Any]) -> State:
        """The state before the first step; `failed_at` is the step of a non-finite figure."""
        state: State = {
            "params": params,
            "opt_state": self.optimizer.init(params),
            "step": jnp.zeros((), jnp.int32),
            "failed_at": jnp.full((), -1, jnp.int32),
        }
        if self.config.ema is not None:
            state["ema"] = jax.tree.map(jnp.copy, params)
        return state

    def __call__(self, state: State, batch: Batch, inputs: Inputs) -> tuple[State, Figures]:
        """One optimizer step.

        A step whose loss, gradient or rate is not finite changes nothing but `failed_at`, nor
        does any step after it: the state stays the one to look for the cause in.

        Returns:
            The new state, and figures: `loss` (nats a token), `tokens`, `learning_rate`,
            `grad_norm`, `clipped`.
        """
        step = state["step"]
        key = jax.random.fold_in(jax.random.key(inputs.seed), step)
        if self.axis_name is not None:
            # Each device draws for its own rows; under jit one draw covers the whole batch.
            key = jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))
        loss, grads = self._gradient(state["params"], batch, key, step)
        loss, grads = self._reduce(loss), self._reduce(grads)
        tokens = jnp.maximum(loss.tokens, 1.0)
        lr, weight_decay = inputs.lr * self.schedule(step), inputs.weight_decay
        # One factor does the work of dividing by the tokens and of clipping: a pass over the
        # weights costs as much as some layers where tokens are few.
        factor, figures = self.optimizer.factor(grads, scale=1.0 / tokens)
        watched = (loss.objective, figures["grad_norm"], lr, jnp.asarray(weight_decay))
        finite = jnp.all(jnp.isfinite(jnp.stack(watched)))

        def advance(held: State) -> State:
            params, opt_state = self.optimizer.apply(
                grads,
                held["opt_state"],
                held["params"],
                lr=lr,
                weight_decay=weight_decay,
                factor=factor,
            )
            new = {"params": params, "opt_state": opt_state}
            if self.config.ema is not None:
                new["ema"] = ema_update(held["ema"], params, self.config.ema)
            return new

        # A branch is taken in place; choosing between old and new values, array by array, takes
        # three times as long and a copy of the state.
        held = {name: state[name] for name in ("params", "opt_state", "ema") if name in state}
        sound = finite & (state["failed_at"] < 0)
        kept = jax.lax.cond(sound, advance, lambda held: held, held)
        failed = jnp.where(finite | (state["failed_at"] >= 0), state["failed_at"], step)
        figures |= {"loss": loss.nats / tokens, "tokens": loss.tokens, "learning_rate": lr}
        return kept | {"step": step + 1, "failed_at": failed}, figures

    def _gradient(
        self, params: dict[str, Any], batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[Loss, dict[str, Any]]:
        """Sums over the batch, in micro-batches: dividing once keeps unequal padding exact."""

        def objective(
            params: dict[str, Any], part: Batch, part_key: jax.Array
        ) -> tuple[jax.Array, Loss]:
            loss = self.loss(params, part, part_key, step)
            return loss.objective, loss

        gradient = jax.grad(objective, has_aux=True)
        parts = self.config.accumulate
        if parts == 1:
            grads, loss = gradient(params, batch, key)
            return loss, grads

        # Row i goes to micro-batch i % parts, so that every device keeps its own rows.
        split = {
            name: array.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)
            for name, array in batch.items()
        }

        def accumulate(total: Any, micro: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            part, index = micro
            grads, loss = gradient(params, part, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, total, (loss, grads)), None

        zero = jnp.zeros((), jnp.float32)
        start = (
            Loss(zero, zero, zero, dict.fromkeys(self.task.hits, zero)),
            jax.tree.map(jnp.zeros_like, params),
        )
        (loss, grads), _ = jax.lax.scan(accumulate, start, (split, jnp.arange(parts)))
        return loss, grads

    def loss(
        self,
        params: dict[str, Any],
        batch: Batch,
        key: jax.Array | None,
        step: jax.Array | None = None,
    ) -> Loss:
        """The task's sums with these parameters; dropout only where the model asks for some."""
        return self.task.loss(
            weight.bind(self.model, params),
            batch,
            z_loss=self.config.z_loss,
            label_smoothing=self.config.label_smoothing,
            dropout_key=key if self.model.config.is_random() else None,
            step=step,
        )

    def _reduce(self, tree: Any) -> Any:
        return tree if self.axis_name is None else jax.lax.psum(tree, self.axis_name)


Evaluator = Callable[[dict[str, Any], Batch, Any], Loss]


def make_evaluator(model: Transformer, task: Task) -> Evaluator:
    """A jitted `(params, batch, step) -> Loss`, without dropout and auxiliary losses.

    The step is where schedules stand: a model half-way is judged as it is. None: at their end.
    """
    return jax.jit(
        lambda params, batch, step: task.loss(weight.bind(model, params), batch, step=step)
    )


def first_failure(
    model: Transformer, params: dict[str, Any], inputs: dict[str, Any], step: int | None = None
) -> str:
    """Where a forward pass first stops being finite, from the taps, in words.

    Args:
        inputs: arguments of the call, as `Task.inputs` gives them.
        step: of the optimizer, for scheduled multipliers; None: the end of their schedules.
    """
    at = None if step is None else jnp.asarray(step)

    def finite(params: dict[str, Any], inputs: dict[str, Any]) -> dict[str, jax.Array]:
        _, taps = weight.bind(model, params).measure(**inputs, step=at)
        return {stack: measured["finite"] for stack, measured in taps.items()}

    flags = jax.device_get(jax.jit(finite)(params, inputs))
    for stack, rows in flags.items():
        sites = model.placement.stack(stack).layers
        where = f"{stack} layer" if len(flags) > 1 else "layer"
        for layer, row in enumerate(rows):
            for index, ok in enumerate(row):
                if not ok:
                    return f"first in {where} {layer}, {sites[layer][index].sublayer}"
    return "in the loss, the gradient or the update; the output of every layer was finite"
