"""Placements that ask for norms and scales inside F."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import conftest as models
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.attention import Scope
from zoo.models.stack import Stack
from zoo.variants.placement import Multiplier, NormSlot, Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.variant import Architecture

IDS = jax.random.randint(jax.random.key(2), (2, models.LENGTH), 0, models.VOCAB, jnp.int32)


def tiny(variant: str, **changes: Any) -> models.Tiny:
    return models._tiny(dataclasses.replace(models.BASE, variant=variant, **changes))


def layers(
    spec: str, architecture: Architecture = "decoder", stack: str = "decoder"
) -> tuple[tuple[Site, ...], ...]:
    placement = get_variant(spec).resolve(
        architecture, num_encoder_layers=3, num_decoder_layers=3, d_model=8
    )
    return placement.stack(stack).layers


def without_additions(site: Site) -> Site:
    return dataclasses.replace(site, norm_branch=None, inner_norm=None, head_scale=False)


def test_norm_former_without_its_additions_is_pre_norm() -> None:
    for ours, theirs in zip(layers("norm_former"), layers("pre_norm"), strict=True):
        attention, mlp = ours
        assert attention.norm_branch == mlp.inner_norm == NormSlot()
        assert attention.head_scale
        assert (attention.inner_norm, mlp.norm_branch) == (None, None)
        assert tuple(map(without_additions, ours)) == theirs


def test_norm_former_leaves_cross_attention_alone() -> None:
    ours = layers("norm_former", "encoder_decoder")[0]
    assert ours[1] == layers("pre_norm", "encoder_decoder")[0][1]
    assert layers("norm_former", "encoder_decoder", "encoder")[0][0].head_scale


def test_norm_former_norms_linear_attention_as_the_other_kind() -> None:
    placement = get_variant("norm_former").resolve(
        "decoder", num_decoder_layers=2, d_model=8, attention_pattern="SL"
    )
    (full, _), (linear, _) = placement.stack("decoder").layers
    assert linear == dataclasses.replace(full, sublayer="linear_attention", head_scale=False)


def test_res_scale_is_a_vector_on_the_skip_of_the_mlp_alone() -> None:
    attention, mlp = layers("norm_former(res_scale=True)")[0]
    assert attention.skip == Multiplier()
    assert mlp.skip == Multiplier(1.0, learned="vector")


def test_a_head_scale_of_zero_removes_its_head() -> None:
    case = tiny("norm_former")
    half = case.config.d_model // 2

    def change(role: str, values: jax.Array) -> Any:
        return weight.map_weights(
            lambda w, a: a * values if w.role == role and w.kind != "bias" else a,
            case.weights,
            case.params,
        )

    silent = change("head_scale", jnp.asarray([0.0, 1.0]))
    # The rows of o that read the first head.
    cut = change("o", jnp.concatenate([jnp.zeros(half), jnp.ones(half)])[:, None])
    np.testing.assert_allclose(case.run(silent, IDS)[0], case.run(cut, IDS)[0], atol=2e-6)
    assert np.abs(case.run(silent, IDS)[0] - case.run(case.params, IDS)[0]).max() > 1e-2


def test_hybrid_norm_is_a_pre_norm_mlp_whose_skip_is_normed() -> None:
    # n = N(y), x' = n + F(n): the norm may stand at the end of attention or before the MLP.
    case = tiny("hybrid_norm")
    params, config = case.params["stack"], case.config
    shifted = tuple(
        (
            dataclasses.replace(attention, norm_out=None),
            dataclasses.replace(mlp, norm_in=NormSlot(), skip_normed=True),
        )
        for attention, mlp in layers("hybrid_norm")
    )
    moved = jax.tree.map(lambda a: a, params)
    attention, mlp = (moved["blocks"]["0"]["layers"]["0"]["sublayers"][i] for i in "01")
    mlp["residual"] = {"norm_in": attention.pop("residual")["norm_out"]}
    x = jax.random.normal(jax.random.key(5), (2, 6, 8))

    def run(placement: StackPlacement, params: Any) -> jax.Array:
        stack = Stack(placement, config, name="decoder")
        scope = Scope(causal=True)
        return weight.bind(stack, params)(x, scope, placement=placement, config=config)[0]

    want = run(case.model.placement.stack("decoder"), params)
    np.testing.assert_allclose(run(StackPlacement(shifted), moved), want, rtol=1e-6)


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_hybrid_norm_normalises_queries_keys_and_values(architecture: Architecture) -> None:
    count = len(layers("pre_norm", architecture)[0])
    for *attention, mlp in layers("hybrid_norm", architecture):
        assert mlp.slots() == {}
        assert dict(mlp.init_gains)["w2"] == pytest.approx((3 * count) ** -0.5)
        for site in attention:
            assert (site.qk_norm, site.v_norm, list(site.slots())) == (True, True, ["norm_out"])


def test_the_first_layer_may_be_pre_norm_and_the_others_stay() -> None:
    star, plain = layers("hybrid_norm(first_layer_pre=True)"), layers("hybrid_norm")
    assert star[1:] == plain[1:]
    attention, mlp = star[0]
    assert list(attention.slots()) == list(mlp.slots()) == ["norm_in"]
    assert (attention.qk_norm, attention.v_norm) == (True, True)


@pytest.mark.parametrize("name", ["norm_former", "hybrid_norm", "deep_scale_lm"])
def test_one_sublayer_for_attention_and_mlp_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(VariantError, match=r"layout = parallel: .*use layout = sequential, or"):
        get_variant(name).resolve("decoder", num_decoder_layers=3, layout="parallel")
