"""The matrix product, dropout and the declaration of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from zoo.layers import weight
from zoo.layers.linear import Linear, dropout, fold
from zoo.layers.weight import Weight


@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_the_product_in_the_dtype_of_its_input(bias: bool) -> None:
    linear = Linear(5, 7, role="o", axes=("heads", "embed"), bias=bias)
    rng = np.random.default_rng(0)
    shapes, _ = weight.split(linear)
    params = {k: jnp.asarray(rng.normal(size=a.shape), jnp.float32) for k, a in shapes.items()}
    linear = weight.bind(linear, params)
    x = rng.normal(size=(2, 3, 5))
    want = x @ np.asarray(params["kernel"]) + np.asarray(params.get("bias", 0.0))
    np.testing.assert_allclose(linear(jnp.asarray(x, jnp.float32)), want, atol=1e-5)
    half = linear(jnp.asarray(x, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), want, atol=0.1)


def test_dropout_keeps_the_expectation_and_scales_what_is_left() -> None:
    rate, size = 0.2, 40_000
    y = np.asarray(dropout(jnp.ones(size), rate, jax.random.key(0)))
    np.testing.assert_allclose(np.unique(y), [0.0, 1.25])
    assert abs(y.mean() - 1.0) < 5 * np.sqrt(rate / (1 - rate) / size)


def test_dropout_without_a_key_or_a_rate_is_the_identity() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 4))
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x
    assert fold(None, 3) is None


def test_split_and_bind_are_inverse_and_declarations_stay() -> None:
    linear = Linear(2, 3, role="w1", axes=("embed", "mlp"), bias=True)
    params, weights = weight.split(linear)
    assert weights == {
        "kernel": Weight("w1", "matrix", ("embed", "mlp"), 2, 3),
        "bias": Weight("w1", "bias", ("mlp",)),
    }
    filled = jax.tree.map(lambda a: jnp.full_like(a, 2.0), params)
    again, declared = weight.split(weight.bind(linear, filled))
    assert declared == weights
    np.testing.assert_array_equal(again["kernel"], filled["kernel"])
    np.testing.assert_array_equal(params["kernel"], 0.0)  # the first module is as it was


def test_keys_of_parameters_are_strings_even_inside_lists() -> None:
    class Pair(nnx.Module):
        def __init__(self) -> None:
            self.parts = nnx.List([Linear(2, 2, role="o", axes=("a", "b"), bias=False)] * 1)

    params, _ = weight.split(Pair())
    assert list(params["parts"]) == ["0"]
    rebound, _ = weight.split(weight.bind(Pair(), params))
    assert jax.tree.structure(rebound) == jax.tree.structure(params)
