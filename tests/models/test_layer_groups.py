"""Layers that share their weights compute what layers with equal weights of their own do."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.models.matrix import BASE
from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.models.tower import Transformer
from zoo.models.transformer import declare

DEPTH, GROUPS = 4, 2


def models(variant: str, **changes: Any) -> tuple[Transformer, Transformer]:
    """One whose layers share weights by pairs, and one with each weight twice."""
    config = dataclasses.replace(
        BASE, variant=variant, architecture="decoder", num_layers=DEPTH, **changes
    )
    shared = declare(dataclasses.replace(config, layer_groups=GROUPS))
    rng = np.random.default_rng(0)
    shapes, weights = weight.split(shared)
    drawn = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 4, shapes)
    twice = weight.map_weights(
        lambda own, leaf: np.repeat(leaf, own.shared, axis=0) if own.stacked else leaf,
        weights,
        drawn,
    )
    drawn, twice = jax.tree.map(jnp.asarray, (drawn, twice))
    return weight.bind(shared, drawn), weight.bind(declare(config), twice)


# Plain, with numbers that differ from layer to layer, with weights on a stream, with two streams.
@pytest.mark.parametrize(
    ("variant", "unroll"),
    [
        ("post_norm", False),
        ("pro_res", False),
        ("pro_res", True),
        ("layer_scale", False),
        ("residual_dual", False),
    ],
)
def test_sharing_is_the_same_weights_twice(variant: str, unroll: bool) -> None:
    shared, twice = models(variant, unroll=unroll)
    tokens = jnp.arange(16, dtype=jnp.int32).reshape(2, 8)
    np.testing.assert_allclose(shared(tokens), twice(tokens), atol=1e-5)
    measured, other = (model.measure(tokens)[1]["decoder"] for model in (shared, twice))
    for name, figures in measured.items():
        np.testing.assert_allclose(figures, other[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_layers() -> None:
    shared, twice = models("deep_norm")
    tokens = jnp.arange(16, dtype=jnp.int32).reshape(2, 8)

    def gradient(model: Transformer) -> dict[str, Any]:
        def loss(params: dict[str, Any]) -> jax.Array:
            return jnp.mean(jnp.square(weight.bind(model, params)(tokens)))

        return jax.grad(loss)(weight.split(model)[0])

    def summed(own: weight.Weight, one: jax.Array, two: jax.Array) -> None:
        if own.stacked:
            two = two.reshape(GROUPS, -1, *two.shape[1:]).sum(1)
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)

    weight.map_weights(summed, weight.split(shared)[1], gradient(shared), gradient(twice))


def test_text_goes_on_with_shared_weights() -> None:
    shared, twice = models("deep_norm")
    prompt = jnp.arange(8, dtype=jnp.int32).reshape(2, 4)
    tokens = zoo.generate(shared, prompt, max_new_tokens=4)
    np.testing.assert_array_equal(tokens, zoo.generate(twice, prompt, max_new_tokens=4))


def test_layers_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match="layer_groups = 2: the layers of this variant"):
        models("keel")
    with pytest.raises(ConfigError, match="layer_groups = 2 does not divide num_layers = 3"):
        declare(dataclasses.replace(BASE, num_layers=3, layer_groups=2))
