"""The benchmark's hand-written step does the work that it is compared for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scripts import _plain_jax as plain
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import declare
from zoo.tasks import TASKS
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import make_optimizer
from zoo.training.schedules import schedule
from zoo.training.step import Inputs, Step

LR, DECAY = 1e-2, 0.1


def ours_from_plain(params: plain.Params, variant: str) -> dict[str, Any]:
    """The hand-written parameters (queries, keys and values apart) as the package names them."""
    layers = params["layers"]
    slot = "norm_in" if variant in ("pre_norm", "layer_scale", "hyper_connections") else "norm_out"

    def linear(name: str) -> dict[str, jax.Array]:
        return {"kernel": layers[name], "bias": layers[f"{name}_bias"]}

    def sublayer(site: int, *names: str) -> dict[str, Any]:
        norm = f"norm_{site}"
        residual: dict[str, Any] = {slot: {"gain": layers[norm], "bias": layers[f"{norm}_bias"]}}
        if variant == "layer_scale":
            residual["branch"] = layers[f"scale_{site}"]
        if variant == "hyper_connections":
            residual["mixing"] = hyper(site)
        if variant == "residual_dual":
            residual = {"plain": residual}
        return {"branch": {name: linear(name) for name in names}, "residual": residual}

    def hyper(site: int) -> dict[str, Any]:
        own = {
            name: layers[f"hyper_{name}_{site}"]
            for name in ("norm", "norm_bias", "mixing", "static", "scale")
        }
        static = own["static"].reshape(-1, plain.STREAMS, plain.STREAMS + 2)
        return {
            "norm": {"gain": own["norm"], "bias": own["norm_bias"]},
            "into_alpha": own["mixing"][..., :-1],
            "into_beta": own["mixing"][..., -1:],
            "alpha_scale": own["scale"][:, 0],
            "beta_scale": own["scale"][:, 1],
            "read": static[..., :1],
            "carry": static[..., 1:-1],
            "write": static[..., -1],
        }

    sublayers = {"0": sublayer(1, *"qkvo"), "1": sublayer(2, "w1", "w2")}
    stack: dict[str, Any] = {"blocks": {"0": {"layers": {"0": {"sublayers": sublayers}}}}}
    tree: dict[str, Any] = {
        "embedding": {"tokens": params["tokens"], "table": params["positions"]},
        "stack": stack,
    }
    if "final" in params:
        final = {"gain": params["final"], "bias": params["final_bias"]}
        if variant == "residual_dual":
            stack["ends"] = {"norm_end": final}
        else:
            tree["final_norm"] = final
    return tree


@pytest.mark.parametrize("variant", sorted(plain.SUBLAYERS))
def test_steps_by_hand_are_the_steps_of_the_package(variant: str) -> None:
    shape = plain.Shape(variant, d_model=16, num_layers=3, num_heads=2, batch=2, length=8)
    params, opt_state, by_hand = plain.make_step(shape, plain.FORMS["separate, C"])
    config = ModelConfig(
        variant=variant,
        d_model=16,
        num_layers=3,
        num_heads=2,
        embedding_scale=True,
        tie_embeddings=True,
    )
    model = declare(config)
    optim = OptimConfig(
        lr=LR,
        weight_decay=DECAY,
        beta1=0.9,
        beta2=0.95,
        schedule="constant",
        warmup=0,
        clip_norm=1.0,
    )
    step = Step(
        model=model,
        task=TASKS["language_model"],
        optimizer=make_optimizer(optim, weight.split(model)[1]),
        schedule=schedule(optim, 10),
        config=optim,
    )
    state = step.init(jax.tree.map(jnp.copy, ours_from_plain(params, variant)))
    ids = jax.random.randint(jax.random.key(1), (2, 8), 0, 256)
    targets = jnp.roll(ids, -1, axis=1)
    batch = {"inputs": ids, "targets": targets, "mask": jnp.ones(ids.shape, bool)}
    ours = jax.jit(step)
    for _ in range(3):
        params, opt_state, loss = by_hand(params, opt_state, ids, targets, LR, DECAY)
        state, figures = ours(state, batch, Inputs(LR, DECAY, 0))
        assert float(figures["loss"]) == pytest.approx(float(loss), rel=1e-5)
    # Adam's first steps are signs of the gradient: where that is 0 but for rounding (the bias of
    # the keys) they differ, so weights are compared as a whole.
    moved = weight.split(weight.bind(model, ours_from_plain(params, variant)))[0]
    for (path, a), b in zip(
        jax.tree.leaves_with_path(moved), jax.tree.leaves(state["params"]), strict=True
    ):
        if "['k']['bias']" not in jax.tree_util.keystr(path):
            np.testing.assert_allclose(a, b, atol=1e-4, err_msg=jax.tree_util.keystr(path))


def test_forms_are_one_function() -> None:
    shape = plain.Shape("deep_norm", d_model=16, num_layers=2, num_heads=2, batch=2, length=8)
    ids = jax.random.randint(jax.random.key(1), (2, 8), 0, 256)
    apart, fused = plain.FORMS["separate, A"], plain.FORMS["fused, C"]
    params = plain.init(shape, apart, jax.random.key(0))
    layers = dict(params["layers"])
    for end in ("", "_bias"):
        layers[f"qkv{end}"] = jnp.concatenate([layers.pop(f"{name}{end}") for name in "qkv"], -1)
    together = params | {"layers": layers}
    np.testing.assert_allclose(
        jax.jit(lambda p: plain.hidden(shape, fused, p, ids))(together),
        jax.jit(lambda p: plain.hidden(shape, apart, p, ids))(params),
        atol=1e-5,
    )
