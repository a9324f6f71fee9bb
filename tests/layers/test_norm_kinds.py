"""Every kind of norm against its formula in numpy, its start, and what it promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.norms import KINDS, Norm, NormKind, NormSpec

SIZE, EPS = 6, 1e-3
Array = np.ndarray
Own = dict[str, Any]


def rms(x: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)


def layer(x: Array) -> Array:
    return rms(x - x.mean(-1, keepdims=True))


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


def centred(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) * SIZE / (SIZE - 1)


FORMULAS: dict[NormKind, Callable[[Array, Own], Array]] = {
    "layer_norm": lambda x, p: p["gain"] * layer(x) + p["bias"],
    "rms_norm": lambda x, p: p["gain"] * rms(x),
    "offset_rms_norm": lambda x, p: (1.0 + p["gain"]) * rms(x),
    "center_norm": lambda x, p: p["gain"] * centred(x) + p["bias"],
    "unit_norm": lambda x, p: x / np.sqrt((x * x).sum(-1, keepdims=True) + EPS),
    "scale_norm": lambda x, p: p["gain"] * rms(x),
    "dyt": lambda x, p: p["gain"] * np.tanh(p["alpha"] * x) + p["bias"],
    "derf": lambda x, p: p["gain"] * erf(p["alpha"] * x + p["shift"]) + p["bias"],
    "bhyt": lambda x, p: p["gain"] * np.tanh(p["alpha"] * 0.1 * rms(x)),
    "seed_norm": lambda x, p: (
        (np.tanh(x @ p["direction"])[..., None] * p["alpha"] + p["gamma"]) * rms(x)
    ),
    "gated_rms_norm": lambda x, p: (
        p["gain"] * rms(x) * sigmoid((p["gain"] * rms(x)) @ p["gate_down"] @ p["gate_up"])
    ),
}


def drawn(kind: NormKind) -> tuple[Norm, Own]:
    """A norm with random weights, and the weights in float64."""
    norm = Norm(SIZE, NormSpec(kind, EPS), role="norm_in")
    shapes, _ = weight.split(norm)
    rng = np.random.default_rng(1)
    params = {name: rng.normal(size=array.shape) for name, array in shapes.items()}
    single = {name: jnp.asarray(array, jnp.float32) for name, array in params.items()}
    return weight.bind(norm, single), params


def test_every_kind_has_a_formula_here() -> None:
    assert set(FORMULAS) == set(KINDS) == set(get_args(NormKind))


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_norm_is_its_formula(kind: NormKind) -> None:
    norm, params = drawn(kind)
    x = np.random.default_rng(2).normal(0.5, 2.0, (2, 3, SIZE))
    want = FORMULAS[kind](x, params)
    # Single precision of a few operations on numbers of this size.
    np.testing.assert_allclose(norm(jnp.asarray(x, jnp.float32)), want, atol=1e-5)


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_norm_without_weights_of_its_own_has_neither_gain_nor_shift(kind: NormKind) -> None:
    norm = Norm(SIZE, NormSpec(kind, EPS, affine=False), role="norm_in")
    assert not {"gain", "bias"} & set(weight.split(norm)[0])


# The values that the papers start from; every gain starts at 1 and every shift at 0.
STARTS: dict[NormKind, dict[str, float]] = {
    "offset_rms_norm": {"gain": 0.0},
    "dyt": {"alpha": 0.5},
    "derf": {"alpha": 0.5, "shift": 0.0},
    "bhyt": {"alpha": 2.0},
    "seed_norm": {"direction": 0.0, "alpha": 1.0, "gamma": 1.0},
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_norm_starts_where_its_paper_says(kind: NormKind) -> None:
    _, weights = weight.split(Norm(SIZE, NormSpec(kind), role="norm_in"))
    usual = {"gain": 1.0, "bias": 0.0}
    for name, own in weights.items():
        if own.kind != "matrix":
            assert own.start == (usual | STARTS.get(kind, {}))[name], name


def test_seed_norm_starts_as_rms_norm() -> None:
    norm = Norm(SIZE, NormSpec("seed_norm", EPS), role="norm_in")
    shapes, weights = weight.split(norm)
    start = weight.map_weights(lambda w, a: jnp.full_like(a, w.start), weights, shapes)
    x = np.random.default_rng(3).normal(size=(4, SIZE))
    np.testing.assert_allclose(
        weight.bind(norm, start)(jnp.asarray(x, jnp.float32)), rms(x), atol=1e-6
    )


def test_center_norm_is_linear_with_its_largest_singular_value() -> None:
    norm = Norm(SIZE, NormSpec("center_norm", affine=False), role="norm_in")
    jacobian = np.asarray(jax.jacobian(norm)(jnp.ones(SIZE)))
    np.testing.assert_allclose(jacobian @ np.ones(SIZE), 0.0, atol=1e-6)
    assert np.linalg.norm(jacobian, 2) == pytest.approx(SIZE / (SIZE - 1), rel=1e-5)
    x = jax.random.normal(jax.random.key(0), (SIZE,))
    np.testing.assert_allclose(norm(3.0 * x), 3.0 * norm(x), rtol=1e-5)


@pytest.mark.parametrize("kind", ["dyt", "derf", "bhyt"])
def test_point_functions_are_bounded_by_gain_and_shift(kind: NormKind) -> None:
    norm, params = drawn(kind)
    x = jnp.asarray(np.random.default_rng(4).normal(0.0, 1e4, (64, SIZE)), jnp.float32)
    bound = np.abs(params["gain"]) + np.abs(params.get("bias", 0.0))
    assert (np.abs(np.asarray(norm(x))) <= bound + 1e-5).all()
