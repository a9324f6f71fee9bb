"""Attention over depth: full and in blocks."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.variants.by_hand import IDS, Array, Case, Tree, assert_same, case, norm, run_by_hand
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants.placement import Site
from zoo.variants.registry import get_variant
from zoo.variants.streams.attention_residuals import DepthAttention

# Of three layers: every sublayer a block; blocks of two layers and one; one block.
FULL, BLOCKS, ONE = (f"attention_residuals(blocks={blocks})" for blocks in (6, 2, 1))
# Sublayers that open a block, counted by hand.
OPENING = {FULL: {0, 1, 2, 3, 4, 5}, BLOCKS: {0, 4}, ONE: {0}}


def attend(sources: list[Array], own: Tree, eps: float) -> Array:
    logits = []
    for v in sources:
        key = v / np.sqrt((v**2).mean(-1, keepdims=True) + eps) * own["gain"]
        logits.append(key @ own["query"])
    weights = np.exp(logits) / np.exp(logits).sum(0)
    return sum(w[..., None] * v for w, v in zip(weights, sources, strict=True))


def by_hand(made: Case, params: Tree, opening: set[int]) -> Array:
    """The report's pseudocode: finished blocks in a list, and the block in progress."""
    index = itertools.count()
    eps = made.config.norm_eps

    def sublayer(state: Any, site: Site, own: Tree, branch: Any) -> Any:
        finished, partial = state
        sources = finished if partial is None else [*finished, partial]
        f = branch(norm(attend(sources, own["depth"], eps), own["norm_in"], made.config))
        if next(index) in opening:
            return sources, f
        return finished, partial + f

    return run_by_hand(
        made,
        params,
        open=lambda x: ([x], None),
        sublayer=sublayer,
        close=lambda state, ends: attend([*state[0], state[1]], ends["depth"], eps),
    )


@pytest.mark.parametrize("spec", [FULL, BLOCKS])
def test_model_is_the_loop_over_a_growing_list(spec: str) -> None:
    made = case(spec)
    assert_same(made, by_hand(made, made.moved, OPENING[spec]))


@pytest.mark.parametrize("spec", [FULL, BLOCKS, ONE])
def test_the_start_is_pre_norm(spec: str) -> None:
    # The norms take away 1 / count, but for their eps.
    made, plain = case(spec, norm_eps=1e-12), case("pre_norm", norm_eps=1e-12)
    hidden, _, taps = made.run(made.start, IDS)
    want, _, want_taps = plain.run(plain.start, IDS)
    np.testing.assert_allclose(hidden, want, atol=1e-5)
    np.testing.assert_allclose(taps["stream"], want_taps["stream"], atol=1e-5)


def test_as_many_blocks_as_sublayers_are_the_full_form() -> None:
    def stacks(blocks: int) -> Any:
        variant = get_variant(f"attention_residuals(blocks={blocks})")
        return variant.resolve("decoder", num_decoder_layers=3).stacks

    assert stacks(6) == stacks(99) != stacks(5)


def test_blocks_are_whole_layers_and_the_last_may_be_shorter() -> None:
    stacks = get_variant("attention_residuals(blocks=3)").resolve(
        "encoder_decoder", num_encoder_layers=7, num_decoder_layers=5
    )
    for name, slots in (
        ("encoder", [1, 1, 1, 2, 2, 2, 3]),
        ("decoder", [1, 1, 2, 2, 3]),
    ):
        stack = stacks.stack(name)
        assert stack.option("slots") == 4
        for layer, slot in zip(stack.layers, slots, strict=True):
            assert {dict(site.constants)["slot"] for site in layer} == {slot}


def test_weights_sum_to_one_over_the_sources_alone() -> None:
    read = DepthAttention("", 5, NormSpec())
    rng = np.random.default_rng(0)
    shapes, _ = weight.split(read)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), shapes)
    x = jnp.asarray(rng.normal(size=(1, 2, 5)), jnp.float32)
    # Equal sources: any weights that sum to one give them back; what is absent does not count.
    blocks = jnp.stack([x, x, x, 1e3 * x])
    np.testing.assert_allclose(weight.bind(read, params)(blocks, 3), x, rtol=1e-5)


def test_gradients_are_finite_in_bfloat16() -> None:
    made = case("attention_residuals", dtype="bfloat16", num_layers=2)

    def loss(params: Tree) -> jax.Array:
        model = weight.bind(made.model, params)
        return jnp.mean(jax.nn.log_softmax(model(IDS))[..., 0])

    value, gradient = jax.jit(jax.value_and_grad(loss))(made.moved)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_no_block_is_refused() -> None:
    with pytest.raises(VariantError, match="at least 1"):
        get_variant("attention_residuals(blocks=0)")
