"""Identities between variants, and within one, that hold exactly or up to rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.attention import Scope
from zoo.models.resolve import resolve
from zoo.models.stack import Stack
from zoo.models.transformer import Transformer
from zoo.variants.placement import Multiplier, Site, StackPlacement
from zoo.variants.registry import get_variant, list_variants

DEPTH = 3
CAUSAL = Scope(causal=True)


def stack_of(name: str) -> StackPlacement:
    return (
        get_variant(name)
        .resolve("decoder", num_decoder_layers=DEPTH, d_model=8, d_ff=12)
        .stack("decoder")
    )


def sites(name: str) -> list[Site]:
    return [site for layer in stack_of(name).layers for site in layer]


PLAIN = [name for name in list_variants() if get_variant(name).stream == "plain"]


def constants(name: str) -> bool:
    """Whether no multiplier of the variant is learned."""
    return all(s.skip.learned is None and s.branch.learned is None for s in sites(name))


def with_ones(name: str) -> StackPlacement:
    """The placement with every constant multiplier and factor on a norm set to 1."""
    stack = stack_of(name)
    layers = tuple(tuple(map(without_constants, layer)) for layer in stack.layers)
    return dataclasses.replace(stack, layers=layers)


def without_constants(site: Site) -> Site:
    slots = {
        role: dataclasses.replace(slot, scale=1.0)
        for role, slot in site.slots().items()
        if role in ("norm_in", "norm_branch", "norm_out")
    }
    return dataclasses.replace(site, skip=Multiplier(), branch=Multiplier(), **slots)


def wired_as(name: str, model: str) -> bool:
    """Whether only constant numbers tell a variant's wiring from that of `model`."""
    same = [s.structure() for s in sites(name)] == [s.structure() for s in sites(model)]
    return same and constants(name)


def run_stack(
    model: Transformer, params: Any, x: jax.Array, placement: StackPlacement | None = None
) -> jax.Array:
    placement = placement or model.placement.stack("decoder")
    stack = Stack(placement, model.config, name="decoder")
    return weight.bind(stack, params)(x, CAUSAL, placement=placement, config=model.config)[0]


@pytest.fixture(scope="module")
def x() -> jax.Array:
    return jax.random.normal(jax.random.key(5), (2, 6, 8))


PAIRS = [
    (name, model)
    for model in ("post_norm", "pre_norm")
    for name in PLAIN
    if name != model and wired_as(name, model)
]


def test_deep_norm_differs_from_post_norm_by_numbers_alone() -> None:
    assert ("deep_norm", "post_norm") in PAIRS


@pytest.mark.parametrize(("name", "model"), PAIRS)
def test_multipliers_of_one_are_no_operation(
    name: str, model: str, tiny: Callable[..., Any], x: jax.Array
) -> None:
    case = tiny(model)
    params = case.params["stack"]
    want = run_stack(case.model, params, x)
    np.testing.assert_array_equal(run_stack(case.model, params, x, with_ones(name)), want)
    if with_ones(name).layers != stack_of(name).layers:
        assert np.any(run_stack(case.model, params, x, stack_of(name)) != want)


def without_branches(case: Any) -> Any:
    """The start of the model with every matrix that writes to the stream at zero."""
    params, weights = weight.split(case.model)
    return weight.map_weights(
        lambda w, a: jnp.zeros_like(a) if w.role in ("o", "w2") else a, weights, params
    )["stack"]


def skips_alone(name: str) -> bool:
    return all(
        s.norm_out is None
        and s.skip == Multiplier()
        and not s.skip_normed
        and (s.gate is None or s.gate.form == "straight_through")
        for s in sites(name)
    )


@pytest.mark.parametrize("name", [name for name in PLAIN if skips_alone(name)])
def test_a_stack_whose_branches_are_zero_is_the_identity(
    name: str, tiny: Callable[..., Any], x: jax.Array
) -> None:
    case = tiny(name)
    np.testing.assert_array_equal(run_stack(case.model, without_branches(case), x), x)


# All sums normed by the architecture's own norm.
POST = [n for n in PLAIN if all(s.norm_out and s.norm_out.kind is None for s in sites(n))]


@pytest.mark.parametrize("name", POST)
def test_a_post_norm_stack_whose_branches_are_zero_is_one_norm(
    name: str, tiny: Callable[..., Any], x: jax.Array
) -> None:
    case = tiny(name, norm_eps=1e-12)
    want = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(run_stack(case.model, without_branches(case), x), want, atol=1e-5)


def normed_branches(name: str) -> bool:
    # A gain that starts at 0 lets no gradient through at the start.
    return all(s.norm_branch is not None and s.norm_branch.gain != 0.0 for s in sites(name))


def inner_products(case: Any, ids: jax.Array) -> dict[str, float]:
    """Largest |<w, dL/dw>| / (|w| |dL/dw|) over layers, for o and w2."""
    start, weights = weight.split(case.model)  # biases 0: scaling w scales the branch

    @jax.jit
    def loss(params: Any) -> jax.Array:
        logits = jax.nn.log_softmax(weight.bind(case.model, params)(ids))
        return -jnp.take_along_axis(logits[:, :-1], ids[:, 1:, None], -1).mean()

    products: dict[str, float] = {}

    def measure(declared: weight.Weight, array: jax.Array, gradient: jax.Array) -> None:
        if declared.kind == "matrix" and declared.role in ("o", "w2"):
            flat, slope = (a.reshape(a.shape[0], -1) for a in (array, gradient))
            size = jnp.linalg.norm(flat, axis=1) * jnp.linalg.norm(slope, axis=1)
            cosine = float(jnp.max(jnp.abs(jnp.sum(flat * slope, axis=1)) / size))
            products[declared.role] = max(cosine, products.get(declared.role, 0.0))

    weight.map_weights(measure, weights, start, jax.grad(loss)(start))
    return products


@pytest.mark.parametrize("name", [name for name in PLAIN if normed_branches(name)])
def test_a_normed_branch_does_not_feel_the_size_of_its_matrix(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    products = inner_products(tiny(name, norm_eps=1e-12), ids)
    assert set(products) == {"o", "w2"}
    assert max(products.values()) < 1e-4


def test_a_branch_that_is_not_normed_feels_it(tiny: Callable[..., Any], ids: jax.Array) -> None:
    assert min(inner_products(tiny("pre_norm", norm_eps=1e-12), ids).values()) > 1e-3


@pytest.mark.parametrize("role", ["w1", "v"])
@pytest.mark.parametrize(("name", "invariant"), [("sub_ln", True), ("pre_norm", False)])
def test_an_inner_norm_forgets_the_size_of_the_matrix_before_it(
    role: str, name: str, invariant: bool, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case = tiny(name, norm_eps=1e-12, activation="relu")  # of degree 1, like v's path
    start, weights = weight.split(case.model)
    scaled = weight.map_weights(lambda w, a: 3.0 * a if w.role == role else a, weights, start)
    before, after = (np.asarray(case.run(params, ids)[0]) for params in (start, scaled))
    if invariant:
        np.testing.assert_allclose(after, before, atol=2e-4)
    else:
        assert np.abs(after - before).max() > 0.05


def test_rezero_moves_its_multipliers_first_by_the_product_with_each_branch(
    tiny: Callable[..., Any], x: jax.Array
) -> None:
    model = tiny("rezero").model
    whole, weights = weight.split(model)
    start, weights = whole["stack"], weights["stack"]
    direction = jax.random.normal(jax.random.key(6), x.shape)
    run = jax.jit(lambda params: run_stack(model, params, x))
    np.testing.assert_array_equal(run(start), x)

    gradients = jax.grad(lambda params: jnp.sum(direction * run(params)))(start)
    checked = 0
    pairs = weight.map_weights(lambda w, g: (w, g), weights, gradients)
    for declared, gradient in jax.tree.leaves(pairs, is_leaf=lambda p: isinstance(p, tuple)):
        if declared.kind != "multiplier":
            np.testing.assert_array_equal(gradient, 0.0)
            continue
        for step, layer in enumerate(declared.layers):
            # With one multiplier at 1 and the others at 0 the stack adds that branch alone.
            one = weight.map_weights(
                lambda w, a, own=declared, s=step: a.at[s].set(1.0) if w == own else a,
                weights,
                start,
            )
            want = jnp.sum(direction * (run(one) - x))
            np.testing.assert_allclose(gradient[step], want, rtol=1e-4, atol=1e-5)
            assert layer == step
            checked += 1
    assert checked == 2 * DEPTH


def test_mix_norm_without_post_layers_is_pre_norm(tiny: Callable[..., Any], ids: jax.Array) -> None:
    mixed, pre = tiny("mix_norm(fraction=0.0)"), tiny("pre_norm")
    for a, b in zip(mixed.run(pre.params, ids)[:2], pre.run(pre.params, ids)[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_mix_norm_of_post_layers_alone_is_post_norm_with_a_final_norm(
    tiny: Callable[..., Any], ids: jax.Array, x: jax.Array
) -> None:
    mixed, post = tiny("mix_norm(fraction=1.0)"), tiny("post_norm")
    params = post.params["stack"]
    np.testing.assert_array_equal(
        run_stack(mixed.model, params, x), run_stack(post.model, params, x)
    )
    final = {"gain": jnp.ones(8), "bias": jnp.zeros(8)}
    start, _ = weight.split(post.model)
    got = mixed.run(start | {"final_norm": final}, ids)[0]
    # A norm of what a norm of gain 1 gave changes nothing but eps.
    np.testing.assert_allclose(got, post.run(start, ids)[0], atol=1e-4)


def test_layers_after_the_boundary_of_mix_norm_start_from_unit_variance(
    tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case = tiny("mix_norm(fraction=0.5)", num_layers=4)
    start, _ = weight.split(case.model)
    size = np.asarray(case.run(start, ids)[2]["stream_rms"])
    np.testing.assert_allclose(size[:2], 1.0, atol=1e-3)
    assert np.all(size[2:] > 1.05)


@pytest.mark.parametrize("name", POST)
def test_post_norm_streams_have_unit_size_at_every_depth(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case = tiny(name)
    start, _ = weight.split(case.model)
    np.testing.assert_allclose(case.run(start, ids)[2]["stream_rms"], 1.0, atol=1e-3)


def test_half_as_exponent_is_another_placement_of_the_same_model(
    tiny: Callable[..., Any], ids: jax.Array
) -> None:
    quarter, half = tiny("deep_norm"), tiny("deep_norm(p=0.5)")
    assert jax.tree.structure(quarter.params) == jax.tree.structure(half.params)
    assert np.any(quarter.run(quarter.params, ids)[0] != half.run(quarter.params, ids)[0])
    assert resolve(half.config).variant == "deep_norm(p=0.5)"
