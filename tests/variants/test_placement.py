"""Placements: what every entry of the registry resolves to, as values and as JSON."""

from __future__ import annotations

import json

import pytest

from zoo.errors import VariantError
from zoo.layers.weight import ROLES
from zoo.variants.placement import Multiplier, NormSlot, Placement, Ramp, Site, StackPlacement
from zoo.variants.registry import get_variant, list_variants
from zoo.variants.variant import SUBLAYERS, Architecture

ARCHITECTURES: tuple[Architecture, ...] = ("encoder", "decoder", "encoder_decoder")


def resolve(spec: str, architecture: Architecture = "decoder", depth: int = 8) -> Placement:
    return get_variant(spec).resolve(
        architecture,
        num_encoder_layers=depth,
        num_decoder_layers=depth,
        d_model=16,
        d_ff=64,
        num_heads=2,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", list_variants())
def test_placement_survives_json_and_is_equal_by_value(
    name: str, architecture: Architecture
) -> None:
    placement = resolve(name, architecture)
    again = Placement.from_json(json.loads(json.dumps(placement.to_json())))
    assert again == placement
    assert hash(again) == hash(placement)
    assert resolve(name, architecture) == placement


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", list_variants())
def test_placement_has_a_site_for_every_sublayer_in_order(
    name: str, architecture: Architecture
) -> None:
    placement = resolve(name, architecture)
    assert [stack for stack, _ in placement.stacks] == list(SUBLAYERS[architecture])
    for stack, resolved in placement.stacks:
        assert len(resolved.layers) == 8
        for sites in resolved.layers:
            assert tuple(site.sublayer for site in sites) == SUBLAYERS[architecture][stack]
            for site in sites:
                assert list(site.init_gains) == sorted(site.init_gains)
                # Another stream may have matrices of its own.
                if resolved.stream == "plain":
                    assert {role for role, _ in site.init_gains} <= set(ROLES)


def test_another_depth_or_option_is_another_placement() -> None:
    assert resolve("deep_norm", depth=8) != resolve("deep_norm", depth=9)
    assert resolve("deep_norm") != resolve("deep_norm(p=0.5)")
    assert resolve("post_norm").stacks != resolve("pre_norm").stacks


def test_equal_layers_are_counted_in_json() -> None:
    data = resolve("mix_norm(fraction=0.25)").to_json()["stacks"]["decoder"]
    assert [run["repeats"] for run in data["layers"]] == [2, 6]


def test_structure_ignores_numbers_and_nothing_else() -> None:
    site = Site("mlp", norm_out=NormSlot(), skip=Multiplier(2.0))
    same = Site("mlp", norm_out=NormSlot(0.5), skip=Multiplier(3.0), init_gains=(("w1", 0.1),))
    assert site.structure() == same.structure()
    others = [
        Site("self_attention", norm_out=NormSlot()),
        Site("mlp", norm_in=NormSlot()),
        Site("mlp", norm_out=NormSlot(), inner_norm=NormSlot()),
        Site("mlp", norm_out=NormSlot(), skip=Multiplier(2.0, "scalar")),
        Site("mlp", norm_out=NormSlot(), branch=Multiplier(1.0, "vector")),
        Site("mlp", norm_out=NormSlot(), qk_norm=True),
    ]
    assert site.structure() not in {other.structure() for other in others}


def test_json_keeps_every_field() -> None:
    site = Site(
        "self_attention",
        norm_in=NormSlot(0.5),
        norm_branch=NormSlot(0.25),
        norm_out=NormSlot(2.0),
        skip=Multiplier(1.5, "vector"),
        branch=Multiplier(0.1, "scalar"),
        inner_norm=NormSlot(),
        qk_norm=False,
        init_gains=(("o", 0.1), ("v", 1 / 3)),
    )
    stack = StackPlacement(
        ((site,), (Site("mlp"),)),
        stream="other",
        embedding_norm="required",
        final_norm="forbidden",
    )
    placement = Placement("mine(p=0.5)", (("encoder", stack),))
    assert Placement.from_json(json.loads(json.dumps(placement.to_json()))) == placement


def test_what_grows_from_nothing_has_no_schedule() -> None:
    """Where a schedule stands is kept as the quotient of two starts, which 0 has not."""
    for given in ({"ramp": Ramp(100.0)}, {"stored": 0.0}):
        with pytest.raises(VariantError, match="starts at 0"):
            Multiplier(0.0, learned="scalar", **given)
    assert Multiplier(0.5, learned="scalar", ramp=Ramp(100.0)).at(50).number == 0.5
