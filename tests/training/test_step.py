"""The train step against NumPy, closed forms and itself under other settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.tasks import Batch, Loss
from zoo.training.config import TrainConfig
from zoo.training.setup import Run, prepare
from zoo.training.step import Figures, State, first_failure

Configure = Callable[..., TrainConfig]
# Plain gradient descent: a difference of parameters is a gradient, with nothing that amplifies.
DESCENT = {"optim.name": "sgd", "optim.beta1": 0.0, "optim.lr": 0.5, "optim.clip_norm": 0.0}


def walk(run: Run, steps: int, **inputs: Any) -> tuple[list[State], list[Figures]]:
    """The states before and after each step, and the figures of each, on the host."""
    step = jax.jit(run.core)
    given = dataclasses.replace(run.inputs, **inputs)
    states, figures = [run.initial_state()], []
    for index in range(steps):
        batch = run.batch(run.data.train_batch(index))
        state, measured = step(states[-1], batch, given)
        states.append(state)
        figures.append(jax.device_get(measured))
    return jax.device_get(states), figures


def logits_of(run: Run, params: Any, batch: Batch) -> np.ndarray:
    def call(params: Any, batch: Batch) -> jax.Array:
        return weight.bind(run.model, params)(
            batch["inputs"],
            segment_ids=batch.get("segment_ids"),
            positions=batch.get("positions"),
        )

    logits = jax.jit(call)(params, batch)
    return np.asarray(logits, np.float64)


def oracle(logits: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-likelihood and log-normaliser of each real token."""
    highest = logits.max(-1)
    normaliser = highest + np.log(np.exp(logits - highest[..., None]).sum(-1))
    target = np.take_along_axis(logits, np.asarray(batch["targets"])[..., None], -1)[..., 0]
    mask = np.asarray(batch["mask"])
    return (normaliser - target)[mask], normaliser[mask]


def assert_close(ours: Any, theirs: Any, *, rtol: float, atol: float = 0.0) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, theirs)


def differs(ours: Any, theirs: Any) -> Any:
    return jax.tree.map(lambda a, b: not np.array_equal(a, b), ours, theirs)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_loss_is_the_mean_over_real_tokens(
    configure: Configure, padded: dict[str, Any], accumulate: int
) -> None:
    run = prepare(configure(padded | {"data.batch_size": 8, "optim.accumulate": accumulate}))
    states, (figures,) = walk(run, 1)
    batch = run.batch(run.data.train_batch(0))
    counts = np.asarray(batch["mask"]).sum(1)
    assert len(set(counts.tolist())) > 1, "every row has as many real tokens: nothing is tested"
    nats, _ = oracle(logits_of(run, states[0]["params"], batch), batch)
    assert figures["tokens"] == len(nats) == counts.sum()
    np.testing.assert_allclose(figures["loss"], nats.mean(), rtol=1e-6)


def test_micro_batches_with_unequal_padding_equal_one_batch(
    configure: Configure, padded: dict[str, Any]
) -> None:
    settings = padded | DESCENT | {"data.batch_size": 8}
    whole, (one,) = walk(prepare(configure(settings)), 1)
    split, (four,) = walk(prepare(configure(settings | {"optim.accumulate": 4})), 1)
    # One step of at most 0.5 * 0.5 (warm-up) times a gradient below 1; floats of 1e-7.
    assert_close(split[1]["params"], whole[1]["params"], rtol=1e-5, atol=1e-6)
    for name in ("loss", "grad_norm", "tokens"):
        np.testing.assert_allclose(four[name], one[name], rtol=1e-5)


def test_z_loss_adds_the_squared_normaliser_to_the_objective_alone(configure: Configure) -> None:
    run = prepare(configure({"optim.z_loss": 0.25}))
    params = run.initial_state()["params"]
    batch = run.batch(run.data.train_batch(0))
    loss = jax.jit(lambda params: run.core.loss(params, batch, None))(params)
    nats, normaliser = oracle(logits_of(run, params, batch), batch)
    np.testing.assert_allclose(loss.nats, nats.sum(), rtol=1e-5)
    np.testing.assert_allclose(loss.objective, (nats + 0.25 * normaliser**2).sum(), rtol=1e-5)


def test_average_follows_its_closed_form(configure: Configure) -> None:
    states, _ = walk(prepare(configure({"optim.ema": 0.75})), 4)
    weights = [0.75**4] + [0.25 * 0.75 ** (4 - index) for index in range(1, 5)]
    expected = jax.tree.map(
        lambda *values: sum(w * np.float64(v) for w, v in zip(weights, values, strict=True)),
        *(state["params"] for state in states),
    )
    assert_close(states[4]["ema"], expected, rtol=1e-5, atol=1e-7)
    assert any(jax.tree.leaves(differs(states[4]["ema"], states[4]["params"])))


def test_frozen_weights_stay_and_the_others_move(configure: Configure) -> None:
    run = prepare(configure({"optim.freeze": ("emb", "w1@0"), "optim.weight_decay": 0.1}))
    states, _ = walk(run, 3)
    _, weights = weight.split(run.model)
    before, after = states[0]["params"], states[-1]["params"]

    def check(own: weight.Weight, start: np.ndarray, end: np.ndarray) -> None:
        if own.role == "emb":
            np.testing.assert_array_equal(start, end)
        elif own.role == "w1":
            np.testing.assert_array_equal(start[0], end[0])
            assert not np.array_equal(start[1], end[1])
        elif own.kind == "matrix":
            assert not np.array_equal(start, end)

    weight.map_weights(check, weights, before, after)


def test_learning_rate_of_every_step_follows_the_schedule(configure: Configure) -> None:
    run = prepare(configure(steps=6, **{"optim.schedule": "linear", "optim.warmup": 2}))
    _, figures = walk(run, 6)
    # Up in halves, then down to a tenth at the last step.
    expected = 1e-3 * np.array([0.5, 1.0, 0.775, 0.55, 0.325, 0.1])
    np.testing.assert_allclose([row["learning_rate"] for row in figures], expected, rtol=1e-5)


def test_rate_decay_and_seed_share_one_compilation(configure: Configure) -> None:
    run = prepare(configure({"model.dropout": 0.1}))
    traces = []

    def counted(*args: Any, **more: Any) -> Loss:
        traces.append(args)
        return run.task.loss(*args, **more)

    core = dataclasses.replace(run.core, task=dataclasses.replace(run.task, loss=counted))
    step = jax.jit(core)
    state, batch = run.initial_state(), run.batch(run.data.train_batch(0))
    first, base = step(state, batch, run.inputs)
    before = len(traces)
    for name, value in (("lr", 0.1), ("weight_decay", 5.0), ("seed", 7)):
        kind = type(getattr(run.inputs, name))
        changed, _ = step(state, batch, dataclasses.replace(run.inputs, **{name: kind(value)}))
        assert any(jax.tree.leaves(differs(changed["params"], first["params"]))), name
    assert len(traces) == before
    assert np.isfinite(base["loss"])


def test_dropout_changes_with_the_step_and_not_with_the_call(configure: Configure) -> None:
    run = prepare(configure({"model.dropout": 0.2, "model.stochastic_depth": 0.2}))
    step, state = jax.jit(run.core), run.initial_state()
    batch = run.batch(run.data.train_batch(0))
    _, first = step(state, batch, run.inputs)
    _, again = step(state, batch, run.inputs)
    _, later = step(state | {"step": jnp.int32(5)}, batch, run.inputs)
    assert first["loss"] == again["loss"] != later["loss"]


def test_evaluation_draws_nothing(configure: Configure) -> None:
    plain, random = prepare(configure()), prepare(configure({"model.dropout": 0.3}))
    params, batch = plain.initial_state()["params"], plain.batch(plain.data.train_batch(0))
    losses = [run.task.loss(weight.bind(run.model, params), batch) for run in (plain, random)]
    np.testing.assert_allclose(losses[0].nats, losses[1].nats, rtol=1e-6)


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize(("role", "sublayer"), [("q", "self_attention"), ("w2", "mlp")])
def test_first_layer_that_is_not_finite_is_named(
    configure: Configure, layer: int, role: str, sublayer: str
) -> None:
    run = prepare(configure({"model.num_layers": 3}))
    state = run.initial_state()
    _, weights = weight.split(run.model)

    def poison(own: weight.Weight, value: jax.Array) -> jax.Array:
        return value.at[layer].set(jnp.nan) if own.role == role else value

    state["params"] = weight.map_weights(poison, weights, state["params"])
    batch = run.batch(run.data.train_batch(0))
    new, _ = jax.jit(run.core)(state, batch, run.inputs)
    assert new["failed_at"] == 0
    assert (
        first_failure(run.model, new["params"], run.task.inputs(batch))
        == f"first in layer {layer}, {sublayer}"
    )


def test_step_that_is_not_finite_changes_no_weight_nor_does_any_after_it(
    configure: Configure,
) -> None:
    run = prepare(configure({"optim.ema": 0.5}))
    step = jax.jit(run.core)
    batch = run.batch(run.data.train_batch(0))
    start, _ = step(run.initial_state(), batch, run.inputs)
    broken, _ = step(start, batch, dataclasses.replace(run.inputs, lr=np.float32(np.inf)))
    assert broken["failed_at"] == 1
    after, _ = step(broken, batch, run.inputs)
    for name in ("params", "opt_state", "ema"):
        assert not any(jax.tree.leaves(differs(after[name], start[name]))), name
    assert after["failed_at"] == 1
    assert after["step"] == 3
