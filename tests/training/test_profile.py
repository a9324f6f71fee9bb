"""Skips set from one batch: what they are, and that a run does it once, when it begins afresh."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.training.conftest import Configure
from zoo.checkpoints import Checkpoints
from zoo.checkpoints.pretrained import load_pretrained
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, build
from zoo.training import resume
from zoo.training.loop import train
from zoo.training.setup import prepare

Array = np.ndarray
KEY = jax.random.key(7)
CONFIG = ModelConfig(
    variant="admin",
    vocab_size=23,
    d_model=8,
    num_layers=3,
    num_heads=2,
    d_ff=12,
    max_length=12,
    dropout=0.2,
    norm_eps=1e-12,
)
IDS = jax.random.randint(jax.random.key(2), (4, 12), 0, 23, jnp.int32)


def skips(model: Transformer) -> dict[str, Array]:
    """By stack, [sublayers of the whole stack, d_model], in the order in which they run."""
    params, weights = weight.split(model)
    found: dict[str, dict[tuple[int, str], Array]] = {}

    def look(declared: weight.Weight, array: jax.Array) -> None:
        if declared.role == "skip":
            for step, layer in enumerate(declared.layers or ()):
                own = found.setdefault(declared.stack or "", {})
                own[layer, declared.sublayer or ""] = np.asarray(array[step], np.float64)

    weight.map_weights(look, weights, params)
    order = {
        name: [(at, site.sublayer) for at, sites in enumerate(stack.layers) for site in sites]
        for name, stack in model.placement.stacks
    }
    return {name: np.stack([own[place] for place in order[name]]) for name, own in found.items()}


def measured(model: Transformer, **arguments: Any) -> dict[str, dict[str, Array]]:
    """Stream and branches of a run in training mode: [sublayers, batch, length, d_model]."""
    run = jax.jit(lambda model: model.measure(**arguments, dropout_key=KEY, taps="arrays")[1])
    return {
        stack: {
            name: np.asarray(taps[name], np.float64).reshape(-1, *taps[name].shape[2:])
            for name in ("stream", "branch")
        }
        for stack, taps in run(model).items()
    }


def assert_profile(own: Array, taps: dict[str, Array], first: float) -> None:
    """omega_1 = 1, omega_2^2 = Var x_0 + Var F_1, omega_(i+1)^2 - omega_i^2 = Var F_i."""
    np.testing.assert_array_equal(own, own[:, :1] * np.ones_like(own))
    squares, branches = own[:, 0] ** 2, taps["branch"].var(axis=(1, 2, 3))
    assert squares[0] == 1.0
    assert squares[1] == pytest.approx(first + branches[0], rel=1e-4)
    # A normed stream has unit variance up to rounding.
    np.testing.assert_allclose(np.diff(squares)[1:], branches[1:-1], rtol=2e-4)
    assert np.all(np.diff(squares) >= 0.0)


def test_skips_add_up_the_variance_of_every_branch_that_the_same_run_shows() -> None:
    fresh = build(CONFIG, jax.random.key(0))
    model = zoo.profile(fresh, IDS, key=KEY)
    # What enters the stack: there is neither a norm nor dropout on the embedding.
    x = np.asarray(fresh.embedding(IDS, jnp.arange(12)[None]), np.float64)
    taps = measured(model, input_ids=IDS)["decoder"]
    assert_profile(skips(model)["decoder"], taps, first=x.var())
    # Nothing else has moved, and dropout was on: without it the variances are others.
    before, weights = weight.split(fresh)
    after, _ = weight.split(model)
    same = weight.map_weights(
        lambda w, a, b: w.role == "skip" or bool(jnp.all(a == b)), weights, before, after
    )
    assert all(jax.tree.leaves(same))
    still = dataclasses.replace(CONFIG, dropout=0.0)
    quiet = zoo.profile(build(still, jax.random.key(0)), {"input_ids": IDS}, key=KEY)
    assert np.all(skips(quiet)["decoder"][1:] < skips(model)["decoder"][1:])


def test_encoder_and_decoder_are_profiled_each_by_itself() -> None:
    # With every kind of dropout in the branches.
    rates = {"attention_dropout": 0.1, "stochastic_depth": 0.3}
    config = dataclasses.replace(CONFIG, architecture="encoder_decoder", num_layers=2, **rates)
    batch = {"input_ids": IDS, "decoder_input_ids": IDS[:, :7]}
    model = zoo.profile(build(config, jax.random.key(0)), batch, key=KEY)
    taps, own = measured(model, **batch), skips(model)
    assert {stack: len(each) for stack, each in own.items()} == {"encoder": 4, "decoder": 6}
    places = jnp.arange(12)[None]
    first = {
        "encoder": np.asarray(model.embedding(IDS, places)).var(),
        "decoder": np.asarray(model.decoder_embedding(IDS[:, :7], places[:, :7])).var(),
    }
    for stack, each in own.items():
        assert_profile(each, taps[stack], first=first[stack])


def test_a_variant_with_nothing_to_profile_is_refused_with_one_that_has() -> None:
    model = build(dataclasses.replace(CONFIG, variant="post_norm"), jax.random.key(0))
    with pytest.raises(VariantError, match=r"post_norm sets nothing from a batch; use .*admin"):
        zoo.profile(model, IDS)


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The batches that runs are profiled with."""
    seen: list[Any] = []
    real = resume.profiled

    def counted(model: Any, params: Any, batch: Any, key: Any) -> Any:
        seen.append(jax.device_get(batch))
        return real(model, params, batch, key)

    monkeypatch.setattr(resume, "profiled", counted)
    return seen


ADMIN = {"model.variant": "admin", "model.dropout": 0.1, "optim.freeze": ("skip",)}


@pytest.mark.live
def test_a_run_is_profiled_once_on_its_first_batch_and_never_when_it_goes_on(
    configure: Configure, tmp_path: Path, profiles: list[Any]
) -> None:
    # With the skips frozen, those of the end are those of the profile.
    config = configure(ADMIN, steps=4)
    assert train(config)["status"] == "finished"
    (batch,) = profiles
    run = prepare(config)
    rows = run.task.batch(run.data.train_batch(0), run.data.spec)
    np.testing.assert_array_equal(batch["input_ids"], rows["inputs"])
    fresh = weight.bind(run.model, run.initial_state()["params"])
    want = zoo.profile(fresh, run.task.inputs(rows), key=config.seed)
    trained = load_pretrained(tmp_path / "run")
    np.testing.assert_allclose(skips(trained)["decoder"], skips(want)["decoder"], rtol=1e-6)
    assert np.all(skips(want)["decoder"][1:] != skips(fresh)["decoder"][1:])

    # Resumed, the skips come from the checkpoint.
    train(configure(ADMIN, steps=6))
    resumed = load_pretrained(tmp_path / "run")
    assert len(profiles) == 1
    np.testing.assert_array_equal(skips(resumed)["decoder"], skips(trained)["decoder"])

    # Begun from other weights, from those.
    other = tmp_path / "other"
    train(configure(ADMIN | {"init_from": str(tmp_path / "run"), "workdir": str(other)}, steps=2))
    assert len(profiles) == 1
    np.testing.assert_array_equal(
        skips(load_pretrained(other))["decoder"], skips(trained)["decoder"]
    )


@pytest.mark.live
def test_an_interrupted_run_ends_like_one_that_was_not(
    configure: Configure, tmp_path: Path, profiles: list[Any]
) -> None:
    moving = {"model.variant": "admin", "optim.ema": 0.5, "checkpoint.every": 2}
    train(configure(moving, steps=4))
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        run = prepare(configure(moving, steps=4))
        whole = checkpoints.restore(4, run.template)
    half = {**moving, "workdir": str(tmp_path / "half")}
    train(configure(half, steps=2))
    train(configure(half, steps=4))
    assert len(profiles) == 2
    with Checkpoints(tmp_path / "half" / "checkpoints") as checkpoints:
        again = checkpoints.restore(4, run.template)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
