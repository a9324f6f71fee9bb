"""Norms against float64 numpy and against the identities of their Jacobians."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.norms import Norm, NormKind, NormSpec

pytestmark = pytest.mark.optimized

SIZE = 16
KINDS: tuple[NormKind, ...] = ("layer_norm", "rms_norm")


def make(spec: NormSpec, gain: Any = 1.0, bias: Any = 0.0, size: int = SIZE) -> Norm:
    norm = Norm(size, spec, role="norm_in")
    params = {"gain": jnp.broadcast_to(jnp.asarray(gain, jnp.float32), size)}
    if spec.bias and spec.kind == "layer_norm":
        params["bias"] = jnp.broadcast_to(jnp.asarray(bias, jnp.float32), size)
    return weight.bind(norm, params)


def by_hand(x: np.ndarray, kind: NormKind, eps: float, gain: Any, bias: Any) -> np.ndarray:
    x = x.astype(np.float64)
    if kind == "layer_norm":
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(
            x.var(-1, keepdims=True) + eps
        ) * gain + bias
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps", [1e-5, 1e-1])
def test_norm_is_the_textbook_formula(kind: NormKind, eps: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(1.0, 2.0, (3, 5, SIZE)).astype(np.float32)
    gain, bias = rng.normal(size=(2, SIZE)).astype(np.float32)
    got = make(NormSpec(kind, eps), gain, bias)(jnp.asarray(x))
    np.testing.assert_allclose(got, by_hand(x, kind, eps, gain, bias), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_goes_in_and_out_but_statistics_are_float32(kind: NormKind) -> None:
    # bfloat16 keeps 8 bits: a mean near 256 taken in it is off by as much as x varies.
    x = jnp.asarray(256 + 2 * np.random.default_rng(0).integers(0, 8, (4, SIZE)), jnp.bfloat16)
    got = make(NormSpec(kind))(x)
    assert got.dtype == jnp.bfloat16
    want = by_hand(np.asarray(x, np.float64), kind, 1e-5, 1.0, 0.0)
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=2**-8, atol=1e-6)


def test_layer_norm_jacobian_annihilates_mean_scale_and_output() -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(0.5, 3.0, SIZE), jnp.float32)
    norm = make(NormSpec("layer_norm", eps=1e-12))
    jacobian = np.asarray(jax.jacfwd(norm)(x), np.float64)
    centred = np.asarray(x - x.mean(), np.float64)
    np.testing.assert_allclose(jacobian @ np.ones(SIZE), 0.0, atol=1e-6)
    np.testing.assert_allclose(jacobian @ centred, 0.0, atol=2e-6)
    np.testing.assert_allclose(np.asarray(norm(x)) @ jacobian, 0.0, atol=2e-6)
    # A projection onto d - 2 directions, divided by the standard deviation.
    assert (jacobian**2).sum() * centred.var() == pytest.approx(SIZE - 2, rel=1e-5)


def test_rms_norm_jacobian_annihilates_scale_and_output() -> None:
    x = jnp.asarray(np.random.default_rng(2).normal(0.5, 3.0, SIZE), jnp.float32)
    norm = make(NormSpec("rms_norm", eps=1e-12))
    jacobian = np.asarray(jax.jacfwd(norm)(x), np.float64)
    np.testing.assert_allclose(jacobian @ np.asarray(x), 0.0, atol=3e-6)
    np.testing.assert_allclose(np.asarray(norm(x)) @ jacobian, 0.0, atol=3e-6)
    assert (jacobian**2).sum() * float((x * x).mean()) == pytest.approx(SIZE - 1, rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (NormSpec("layer_norm"), {"gain", "bias"}),
        (NormSpec("layer_norm", bias=False), {"gain"}),
        (NormSpec("rms_norm"), {"gain"}),
    ],
)
def test_only_layer_norms_have_a_shift(spec: NormSpec, names: set[str]) -> None:
    _, weights = weight.split(Norm(SIZE, spec, role="norm_out"))
    assert set(weights) == names
    assert all((w.kind, w.role) == (name, "norm_out") for name, w in weights.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_of_zeros_stays_finite(kind: NormKind) -> None:
    norm = make(NormSpec(kind))
    value, gradient = jax.value_and_grad(lambda x: norm(x).sum())(jnp.zeros(SIZE))
    assert value == 0.0
    assert np.isfinite(gradient).all()
