"""Skips that are learned: profiled ones, gates, and multipliers that share a unit of variance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import conftest as models
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.variants.registry import get_variant
from zoo.variants.residual import Residual

Array = np.ndarray
IDS = jax.random.randint(jax.random.key(2), (2, models.LENGTH), 0, models.VOCAB, jnp.int32)
WIDTH, LAYERS = 6, 8
MIX = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(2, 3, WIDTH)).astype(np.float32)


def tiny(variant: str, **changes: Any) -> models.Tiny:
    return models._tiny(dataclasses.replace(models.BASE, variant=variant, **changes))


def branch(x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ MIX)


def residual(spec: str, layer: int | None = None, **params: Any) -> Residual:
    """One MLP's place of 8 layers, its learned multipliers as given, its norms at their start."""
    made = Residual(spec, num_layers=LAYERS, d_model=WIDTH, layer=layer, eps=1e-12)
    own, _ = weight.split(made.access)
    filled = {name: jnp.full(own[name].shape, value) for name, value in params.items()}
    made.access = weight.bind(made.access, own | filled)
    return made


def layer_norm(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def silu(x: float) -> float:
    return x / (1.0 + math.exp(-x))


@pytest.mark.parametrize(("layers", "start"), [(6, 2.01701), (18, 3.04084)])
def test_admin_without_a_profile_starts_from_the_closed_form_of_its_authors(
    layers: int, start: float
) -> None:
    # sqrt(13 / ln 13 - 1) and sqrt(37 / ln 37 - 1), worked out by hand.
    stack = get_variant("admin").resolve("decoder", num_decoder_layers=layers).stack("decoder")
    (value,) = {site.skip.value for sites in stack.layers for site in sites}
    assert value == pytest.approx(start, abs=5e-6)
    assert {site.skip.learned for sites in stack.layers for site in sites} == {"vector"}


def test_admin_counts_the_sublayers_of_each_stack() -> None:
    placement = get_variant("admin").resolve(
        "encoder_decoder", num_encoder_layers=6, num_decoder_layers=12
    )
    skips = {name: stack.layers[0][0].skip.value for name, stack in placement.stacks}
    assert skips == pytest.approx({"encoder": 2.01701, "decoder": 3.04084}, abs=5e-6)
    assert placement.hooks == ("profile",)


def test_admin_with_skips_of_one_is_post_norm() -> None:
    admin, post = tiny("admin"), tiny("post_norm")
    ones = weight.map_weights(
        lambda w, a: jnp.ones_like(a) if w.role == "skip" else a, admin.weights, admin.params
    )
    same = weight.bind(post.model, ones)  # post-norm leaves the skips where they are
    for got, want in zip(
        admin.run(ones, IDS)[:2], post.run(weight.split(same)[0], IDS)[:2], strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_admin_folds_an_even_skip_into_the_output_matrices() -> None:
    # N(w x + F) = N(x + F / w) where eps does not count.
    admin, post = tiny("admin", norm_eps=1e-12), tiny("post_norm", norm_eps=1e-12)
    start, _ = weight.split(admin.model)
    skip = admin.model.placement.stack("decoder").layers[0][0].skip.value
    folded = weight.map_weights(
        lambda w, a: a / skip if w.role in ("o", "w2") else a, admin.weights, start
    )
    got = post.run(weight.split(weight.bind(post.model, folded))[0], IDS)[0]
    np.testing.assert_allclose(got, admin.run(start, IDS)[0], atol=1e-5)


BASES = ["pre_norm", "sandwich_norm", "post_norm", "deep_norm", "layer_norm_scaling", "rezero"]


@pytest.mark.parametrize("base", BASES)
def test_a_closed_gate_leaves_the_base(base: str) -> None:
    start = residual(f"gpas(base={base!r})", layer=1)(X, branch)
    np.testing.assert_array_equal(start, residual(base, layer=1)(X, branch))


FORMULAE: dict[str, Callable[[Array, float], Array]] = {
    "pre_norm": lambda f, g: (1 - silu(g)) * (X + f),
    "sandwich_norm": lambda f, g: (1 - silu(g)) * (X + layer_norm(f)),
    "post_norm": lambda f, g: layer_norm((1 - silu(g)) * X + f),
    "deep_norm(p=0.5)": lambda f, g: layer_norm(4.0 * (1 - silu(g)) * X + f),
}


@pytest.mark.parametrize("g", [-1.3, 0.7])
@pytest.mark.parametrize("base", FORMULAE)
def test_a_gate_scales_the_sum_of_bases_that_end_in_it_and_the_skip_of_others(
    base: str, g: float
) -> None:
    reads = X if "post" in base or "deep" in base else layer_norm(X)
    want = FORMULAE[base](np.tanh(reads @ MIX), g)
    got = residual(f"gpas(base={base!r})", gate=g)(X, branch)
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("g", [-1.278, 0.0, 2.0])
def test_a_gate_has_the_identity_as_its_jacobian_and_its_own_gradient(g: float) -> None:
    gated = residual("gpas(base='rezero')", gate=g, branch=0.0)
    flow = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
    out, pull = jax.vjp(lambda x: gated(x, branch), X)
    np.testing.assert_array_equal(pull(jnp.asarray(flow))[0], flow)
    np.testing.assert_allclose(out, (1 - silu(g)) * X, rtol=2e-6)

    def run(gate: jax.Array) -> jax.Array:
        params, _ = weight.split(gated.access)
        access: Any = weight.bind(gated.access, params | {"gate": gate})
        return jnp.vdot(flow, access.write(X, branch(X), gated.site.numbers()))

    sigmoid = 1 / (1 + math.exp(-g))
    slope = sigmoid * (1 + g * (1 - sigmoid))
    got = jax.grad(run)(jnp.asarray(g))
    assert got == pytest.approx(-slope * float(np.vdot(flow, X)), rel=1e-4, abs=1e-5)


def test_a_gate_amplifies_by_less_than_1_279() -> None:
    # The least value of SiLU is -0.27846.
    gates = np.linspace(-6, 6, 2001)
    assert 1.278 < max(1 - silu(g) for g in gates) < 1.279


@pytest.mark.parametrize("base", ["peri_norm", "post_norm", "mix_norm(fraction=0.5)"])
def test_gpas_has_the_ends_and_the_layers_of_its_base(base: str) -> None:
    wrapped, own = (
        get_variant(spec).resolve("encoder_decoder", num_encoder_layers=4, num_decoder_layers=2)
        for spec in (f"gpas(base={base!r})", base)
    )
    for (_, ours), (_, theirs) in zip(wrapped.stacks, own.stacks, strict=True):
        assert (ours.embedding_norm, ours.final_norm) == (theirs.embedding_norm, theirs.final_norm)
        for sites, bare in zip(ours.layers, theirs.layers, strict=True):
            for site, without in zip(sites, bare, strict=True):
                assert site.gate is not None
                assert site.gate.on == ("sum" if without.norm_out is None else "skip")
                assert (site.norm_in, site.norm_out) == (without.norm_in, without.norm_out)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpas(base='pots_norm')", "did you mean post_norm"),
        ("gpas(base='mhc')", "is not known"),
        ("gpas(base='gpas')", "is not known"),
        ("gpas(base='admin')", "is not known"),
        ("gpas(base='deep_norm(p=2.0)')", "lies in"),
        ("variance_gate(temperature=0.0)", "above 0"),
    ],
)
def test_a_base_or_option_that_cannot_work_is_refused(spec: str, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        get_variant(spec)


@pytest.mark.parametrize("w", [-0.5, 0.0, 0.4])
def test_a_variance_gate_weighs_skip_and_branch_by_squares_that_add_up_to_one(w: float) -> None:
    b = 1 / (1 + math.exp(-w / 0.3))
    want = math.sqrt(1 - b * b) * X + b * layer_norm(np.tanh(layer_norm(X) @ MIX))
    np.testing.assert_allclose(residual("variance_gate", gate=w)(X, branch), want, atol=1e-5)


def test_a_variance_gate_starts_at_one_half_and_keeps_the_variance() -> None:
    # b = 0.5 and a = 0.866 are those of the published model's gates at 0.
    gate = residual("variance_gate")
    on = gate(jnp.zeros_like(X) + X, lambda y: jnp.zeros_like(y))
    np.testing.assert_allclose(on / X, math.sqrt(0.75), rtol=1e-5)
    width, count = 64, 4096
    wide = Residual("variance_gate", num_layers=2, d_model=width)
    x = jax.random.normal(jax.random.key(0), (1, count, width))
    other = jax.random.normal(jax.random.key(1), x.shape)
    # Two independent unit variances; five standard errors of a variance of that many numbers.
    assert float(jnp.var(wide(x, lambda y: other))) == pytest.approx(
        1.0, abs=5 * math.sqrt(2 / (width * count))
    )


@pytest.mark.parametrize("w", [-50.0, 50.0])
def test_a_variance_gate_that_is_all_open_or_shut_has_a_finite_gradient(w: float) -> None:
    gated = residual("variance_gate", gate=w)
    params, _ = weight.split(gated.access)

    def run(gate: jax.Array) -> jax.Array:
        access: Any = weight.bind(gated.access, params | {"gate": gate})
        return jnp.sum(access.write(X, branch(X), gated.site.numbers()))

    value, slope = jax.value_and_grad(run)(params["gate"])
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))


def test_a_variance_gate_has_weightless_norms_on_branch_and_embedding() -> None:
    model = tiny("variance_gate").model
    _, weights = weight.split(model)
    roles = {(w.role, w.kind) for w in jax.tree.leaves(weights) if w.kind != "matrix"}
    assert ("norm_in", "gain") in roles
    assert ("final_norm", "gain") in roles
    assert {role for role, _ in roles} & {"norm_branch", "embedding_norm"} == set()
    assert model.config.embedding_norm
