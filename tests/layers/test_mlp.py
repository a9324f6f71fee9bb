"""Activations and the feed-forward sublayer."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.mlp import MLP, Activation, activate
from zoo.layers.norms import NormSpec

CLOSED_FORMS = {
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
}
GRID = np.linspace(-6, 6, 41)


@pytest.mark.parametrize("activation", CLOSED_FORMS)
def test_activation_is_its_closed_form(activation: Activation) -> None:
    got = activate(jnp.asarray(GRID, jnp.float32), activation)
    want = [CLOSED_FORMS[activation](float(x)) for x in GRID]
    np.testing.assert_allclose(got, want, atol=1e-6, rtol=1e-5)


def test_the_two_gelus_are_told_apart() -> None:
    x = jnp.asarray(GRID, jnp.float32)
    difference = np.abs(activate(x, "gelu") - activate(x, "gelu_tanh")).max()
    assert 1e-4 < difference < 1e-3


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("into", "out"), [(None, False), (None, True), (False, True)])
@pytest.mark.parametrize("inner_norm", [None, NormSpec("layer_norm", eps=1e-3)])
def test_mlp_is_its_closed_form(
    gated: bool, into: bool | None, out: bool, inner_norm: NormSpec | None
) -> None:
    mlp = MLP(
        6, 10, activation="relu", gated=gated, bias=out, input_bias=into, inner_norm=inner_norm
    )
    shapes, weights = weight.split(mlp)
    biased = {"w1": out if into is None else into, "w2": out}
    biased |= {"gate": biased["w1"]} if gated else {}
    assert {name: "bias" in weights[name] for name in biased} == biased
    rng = np.random.default_rng(0)
    p = jax.tree.map(lambda a: rng.normal(size=a.shape), shapes)
    x = rng.normal(size=(2, 3, 6))

    def linear(name: str, y: np.ndarray) -> np.ndarray:
        return y @ p[name]["kernel"] + (p[name]["bias"] if biased[name] else 0.0)

    hidden = linear("w1", x)
    gate = linear("gate", x) if gated else hidden
    hidden = np.maximum(gate, 0) * (hidden if gated else 1.0)
    if inner_norm is not None:
        centred = hidden - hidden.mean(-1, keepdims=True)
        hidden = centred / np.sqrt(hidden.var(-1, keepdims=True) + inner_norm.eps)
        hidden = hidden * p["inner_norm"]["gain"] + p["inner_norm"]["bias"]
    bound = weight.bind(mlp, jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), p))
    np.testing.assert_allclose(
        bound(jnp.asarray(x, jnp.float32)), linear("w2", hidden), rtol=1e-4, atol=1e-4
    )
    reading = {"w1", "gate"} if gated else {"w1"}
    assert {weights[name]["kernel"].role for name in reading} == {"w1"}
    assert weights["w2"]["kernel"].role == "w2"
