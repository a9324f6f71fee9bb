"""Identities between placements with constants: whole models, weights moved off their starts."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.variants.test_scaled import sites
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, build, declare

Array = np.ndarray
IDS = jax.random.randint(jax.random.key(2), (2, 9), 0, 23, jnp.int32)


@functools.cache
def model_of(spec: str, **changes: Any) -> Transformer:
    config = ModelConfig(
        variant=spec,
        vocab_size=23,
        d_model=8,
        num_layers=3,
        num_heads=2,
        d_ff=12,
        max_length=12,
        norm_eps=1e-9,
        **changes,
    )
    return build(config, jax.random.key(0))


def moved(model: Transformer) -> dict[str, Any]:
    """Its parameters, gains, biases and multipliers moved."""
    params, weights = weight.split(model)
    rng = np.random.default_rng(3)

    def move(declared: weight.Weight, array: jax.Array) -> jax.Array:
        still = declared.kind in ("matrix", "embedding")
        return array if still else array + 0.2 * rng.normal(size=array.shape)

    result: dict[str, Any] = weight.map_weights(move, weights, params)
    return result


def run(model: Transformer, params: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    hidden, taps = jax.jit(lambda own: weight.bind(model, own).measure(IDS))(params)
    return np.asarray(hidden), jax.tree.map(np.asarray, taps["decoder"])


def residuals(params: dict[str, Any]) -> list[dict[str, Any]]:
    """The stacked slots of both sublayers, for stacks of one block."""
    own = params["stack"]["blocks"]["0"]["layers"]["0"]["sublayers"]
    return [own[index]["residual"] for index in ("0", "1")]


def test_beam_is_sandwich_norm_on_a_stream_of_another_size() -> None:
    sandwich = model_of("sandwich_norm")
    params = moved(sandwich)
    want, taps = run(sandwich, params)
    got, own = run(model_of("beam_norm"), params)
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())
    terms = np.arange(2, 8).reshape(3, 2)
    np.testing.assert_allclose(taps["stream_rms"] / own["stream_rms"], np.sqrt(terms), rtol=1e-5)


def test_minimax_is_deep_norm_with_a_norm_on_the_embedding() -> None:
    alpha = 6**0.25
    minimax = model_of(f"minimax_post_norm(attention=({alpha}, 1.0), mlp=({alpha}, 1.0))")
    deep = model_of("deep_norm", embedding_norm=True)
    params = moved(minimax)
    attention, mlp = (slots["norm_in"] for slots in residuals(params))
    # Each norm stands one site earlier: the first on the embedding, the final one in the last site.
    shifted = jax.tree.map(lambda a: a, params)
    del shifted["final_norm"]
    shifted["embedding_norm"] = jax.tree.map(lambda a: a[0], attention)
    after = jax.tree.map(
        lambda a, last: jnp.concatenate([a[1:], last[None]]), attention, params["final_norm"]
    )
    for slots, norm in zip(residuals(shifted), (mlp, after), strict=True):
        del slots["norm_in"]
        slots["norm_out"] = norm
    want = run(deep, shifted)[0]
    np.testing.assert_allclose(run(minimax, params)[0], want, atol=2e-5 * np.abs(want).max())


def test_layer_norm_scaling_is_pre_norm_with_smaller_gains_and_shifts() -> None:
    scaling = model_of("layer_norm_scaling")
    params = moved(scaling)
    folded = jax.tree.map(lambda a: a, params)
    for slots in residuals(folded):
        factor = jnp.arange(1.0, 4.0)[:, None] ** -0.5
        slots["norm_in"] = jax.tree.map(lambda a, f=factor: a * f, slots["norm_in"])
    want = run(model_of("pre_norm"), folded)[0]
    np.testing.assert_allclose(run(scaling, params)[0], want, atol=2e-5 * np.abs(want).max())


def test_swin_v2_attends_by_cosine_with_a_factor_of_ten_and_at_most_a_hundred() -> None:
    for site in sites("swin_v2_norm"):
        assert (site.qk_unit, site.score_scale, site.attention_scale) == (True, True, 1.0)
    model = model_of("swin_v2_norm")
    params, weights = weight.split(model)
    (declared,) = [w for w in jax.tree.leaves(weights) if w.role == "score_scale"]
    assert math.exp(declared.start) == pytest.approx(10.0)
    # Branches on, so that attention shows; beyond ln 100 the factor grows no more.
    shown = weight.map_weights(
        lambda w, a: jnp.ones_like(a) if w.kind == "gain" else a, weights, params
    )

    def hidden(start: float) -> Array:
        set_to = weight.map_weights(
            lambda w, a: jnp.full_like(a, start) if w == declared else a, weights, shown
        )
        return run(model, set_to)[0]

    low, top, above = hidden(math.log(10.0)), hidden(math.log(100.0)), hidden(7.0)
    np.testing.assert_array_equal(top, above)
    assert np.abs(top - low).max() > 1e-3


def logits_of(model: Transformer, params: dict[str, Any]) -> Array:
    return np.asarray(jax.jit(lambda own: weight.bind(model, own)(IDS))(params))


def test_multipliers_of_embedding_and_logits_are_those_of_the_weights() -> None:
    plain = model_of("scaled_residual")
    params = moved(plain)
    both = "scaled_residual(embedding_multiplier=4.0, logit_multiplier=0.125)"
    got = logits_of(model_of(both), params)
    larger = params | {"embedding": jax.tree.map(lambda a: 4.0 * a, params["embedding"])}
    # Powers of two, so that all that differs is how XLA fuses the sums.
    np.testing.assert_allclose(got, 0.125 * logits_of(plain, larger), atol=1e-6)
    assert np.abs(got - 0.125 * logits_of(plain, params)).max() > 1e-3


def test_glm_shrinks_the_gradient_of_the_embedding_and_nothing_else() -> None:
    glm = model_of("glm_deep_norm")
    ((name, stack),) = glm.placement.stacks
    stack = dataclasses.replace(stack, embedding_gradient=1.0)
    whole = declare(glm.config, dataclasses.replace(glm.placement, stacks=((name, stack),)))
    params = moved(glm)

    def gradients(model: Transformer) -> tuple[jax.Array, dict[str, Any]]:
        def loss(own: dict[str, Any]) -> jax.Array:
            return jnp.sum(jax.nn.log_softmax(weight.bind(model, own)(IDS))[..., 0])

        return jax.jit(jax.value_and_grad(loss))(params)

    value, shrunk = gradients(glm)
    same, full = gradients(whole)
    np.testing.assert_allclose(value, same, rtol=1e-6)
    for got, want in zip(
        jax.tree.leaves(shrunk.pop("embedding")),
        jax.tree.leaves(full.pop("embedding")),
        strict=True,
    ):
        np.testing.assert_allclose(got, 0.1 * want, rtol=1e-4, atol=1e-6)
        assert np.abs(want).max() > 1e-2
    for got, want in zip(jax.tree.leaves(shrunk), jax.tree.leaves(full), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
