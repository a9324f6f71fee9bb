"""The numbers of the variants against those printed in their papers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from zoo.errors import VariantError
from zoo.variants.placement import Placement, Site
from zoo.variants.registry import get_variant
from zoo.variants.residual import init_gain
from zoo.variants.variant import Architecture

# The papers print five significant digits.
ROUNDED = 5e-5
BRANCH_ROLES = ("v", "o", "w1", "w2")


def resolve(spec: str, architecture: Architecture, *, n: int = 0, m: int = 0) -> Placement:
    return get_variant(spec).resolve(architecture, num_encoder_layers=n, num_decoder_layers=m)


def only(placement: Placement, stack: str) -> dict[str, Site]:
    """The sites of a stack whose layers are all equal, by sublayer."""
    layers = placement.stack(stack).layers
    assert len(set(layers)) == 1
    return {site.sublayer: site for site in layers[0]}


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("depth", "alpha", "beta"),
    [
        (6, 1.8612, 0.37992),
        (12, 2.2134, 0.31947),
        (24, 2.6321, 0.26864),
        (100, 3.7606, 0.18803),
        (1000, 6.6874, 0.10574),
    ],
)
def test_deep_norm_has_the_constants_of_its_paper(
    architecture: Architecture, depth: int, alpha: float, beta: float
) -> None:
    placement = resolve("deep_norm", architecture, n=depth, m=depth)
    for site in only(placement, architecture).values():
        assert site.skip.value == pytest.approx(alpha, rel=ROUNDED)
        assert site.branch.value == 1.0
        assert (site.skip.learned, site.branch.learned) == (None, None)
        assert [site.init_gain(role) for role in BRANCH_ROLES] == pytest.approx(
            [beta] * 4, rel=ROUNDED
        )
        assert (site.init_gain("q"), site.init_gain("k")) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("depth", "alpha_e", "beta_e", "alpha_d", "beta_d"),
    [
        (6, 1.4179, 0.49699, 2.0598, 0.34329),
        (100, 3.4157, 0.20631, 4.1618, 0.16990),
        (500, 5.6482, 0.12476, 6.2233, 0.11362),
    ],
)
def test_deep_norm_has_the_encoder_decoder_constants_of_its_paper(
    depth: int, alpha_e: float, beta_e: float, alpha_d: float, beta_d: float
) -> None:
    placement = resolve("deep_norm", "encoder_decoder", n=depth, m=depth)
    encoder, decoder = only(placement, "encoder"), only(placement, "decoder")
    assert set(decoder) == {"self_attention", "cross_attention", "mlp"}
    for site in encoder.values():
        assert site.skip.value == pytest.approx(alpha_e, rel=ROUNDED)
        assert site.init_gain("w1") == pytest.approx(beta_e, rel=ROUNDED)
    for site in decoder.values():
        assert site.skip.value == pytest.approx(alpha_d, rel=ROUNDED)
    cross = decoder["cross_attention"]
    assert [cross.init_gain(r) for r in ("xv", "xo")] == pytest.approx([beta_d] * 2, rel=ROUNDED)
    assert (cross.init_gain("xq"), cross.init_gain("xk")) == (1.0, 1.0)


def test_deep_norm_tells_the_depths_of_both_stacks_apart() -> None:
    n, m = 12, 3
    placement = resolve("deep_norm", "encoder_decoder", n=n, m=m)
    assert len(placement.stack("encoder").layers) == n
    assert len(placement.stack("decoder").layers) == m
    encoder, decoder = (only(placement, stack)["mlp"] for stack in ("encoder", "decoder"))
    assert encoder.skip.value == pytest.approx(0.81 * (n**4 * m) ** (1 / 16))
    assert encoder.init_gain("w2") == pytest.approx(0.87 * (n**4 * m) ** (-1 / 16))
    assert decoder.skip.value == pytest.approx((3 * m) ** 0.25)
    assert decoder.init_gain("w2") == pytest.approx((12 * m) ** -0.25)


@pytest.mark.parametrize("depth", [1, 7, 96])
@pytest.mark.parametrize(
    ("architecture", "stack", "sublayers"),
    [("encoder", "encoder", 2), ("decoder", "decoder", 2), ("encoder_decoder", "decoder", 3)],
)
def test_deep_norm_sublayers_share_one_update(
    architecture: Architecture, stack: str, sublayers: int, depth: int
) -> None:
    # S 2 beta^2 / alpha^2 = 1: the sum behind the paper's depth-free bound.
    site = only(resolve("deep_norm", architecture, n=depth, m=depth), stack)["mlp"]
    share = 2 * site.init_gain("w2") ** 2 / site.skip.value**2
    assert sublayers * depth * share == pytest.approx(1.0, rel=1e-12)


def test_half_as_exponent_squares_the_constants() -> None:
    # DeepLoop (2607.13491): alpha = (2N)^(1/2), beta = (8N)^(-1/2).
    site = only(resolve("deep_norm(p=0.5)", "decoder", m=9), "decoder")["mlp"]
    assert site.skip.value == pytest.approx(math.sqrt(18))
    assert site.init_gain("v") == pytest.approx(1 / math.sqrt(72))


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
@pytest.mark.parametrize(("depth", "gamma"), [(12, 1.7827), (24, 1.9675), (100, 2.3018)])
def test_sub_ln_has_the_gains_of_its_paper(
    architecture: Architecture, depth: int, gamma: float
) -> None:
    sites = only(resolve("sub_ln", architecture, n=depth, m=depth), architecture)
    for site in sites.values():
        assert [site.init_gain(role) for role in BRANCH_ROLES] == pytest.approx(
            [gamma] * 4, rel=ROUNDED
        )
        assert (site.init_gain("q"), site.init_gain("k")) == (1.0, 1.0)
        assert site.inner_norm is not None


def test_sub_ln_leaves_cross_attention_alone() -> None:
    n, m = 12, 6
    placement = resolve("sub_ln", "encoder_decoder", n=n, m=m)
    encoder, decoder = only(placement, "encoder"), only(placement, "decoder")
    want = math.sqrt(math.log(3 * m) * math.log(2 * n) / 3)
    assert encoder["mlp"].init_gain("w1") == pytest.approx(want)
    assert decoder["mlp"].init_gain("w1") == pytest.approx(math.sqrt(math.log(3 * m)))
    cross = decoder["cross_attention"]
    assert cross.inner_norm is None
    assert cross.norm_in is not None
    assert {cross.init_gain(role) for role in ("xq", "xk", "xv", "xo")} == {1.0}


@pytest.mark.parametrize(
    ("architecture", "stack", "sublayers"),
    [("decoder", "decoder", 2), ("encoder_decoder", "decoder", 3)],
)
def test_scaled_init_counts_sublayers_and_touches_output_matrices(
    architecture: Architecture, stack: str, sublayers: int
) -> None:
    depth = 12
    placement = resolve("pre_norm(scaled_init=True)", architecture, n=depth, m=depth)
    for site in only(placement, stack).values():
        outputs = {"self_attention": "o", "cross_attention": "xo", "mlp": "w2"}
        want = 1 / math.sqrt(sublayers * depth)
        assert site.init_gain(outputs[site.sublayer]) == pytest.approx(want)
        assert {site.init_gain(role) for role in ("q", "k", "v", "w1", "xv")} == {1.0}
    assert only(resolve("pre_norm", architecture, n=depth, m=depth), stack)["mlp"].init_gains == ()


@pytest.mark.parametrize(
    ("fraction", "depth", "post"),
    [
        (0.25, 12, 3),
        (0.25, 7, 1),
        (0.25, 3, 0),
        (0.0, 5, 0),
        (1.0, 5, 5),
        (0.29, 100, 29),  # 0.29 * 100 is a little under 29 in floating point
    ],
)
def test_mix_norm_turns_at_the_floor_of_its_fraction(
    fraction: float, depth: int, post: int
) -> None:
    stack = resolve(f"mix_norm(fraction={fraction})", "decoder", m=depth).stack("decoder")
    for layer, sites in enumerate(stack.layers):
        for site in sites:
            assert (site.norm_out is not None) == (layer < post)
            assert (site.norm_in is None) == (layer < post)
    assert stack.final_norm == "required"


CASES: list[dict[str, Any]] = [
    {"variant": "deep_norm", "role": "w2", "num_layers": 24, "want": 0.26864},
    {"variant": "deep_norm", "role": "q", "num_layers": 24, "want": 1.0},
    {"variant": "deep_norm", "role": "emb", "num_layers": 24, "want": 1.0},
    {
        "variant": "deep_norm",
        "role": "xv",
        "num_layers": 100,
        "architecture": "encoder_decoder",
        "want": 0.16990,
    },
    {
        "variant": "deep_norm",
        "role": "v",
        "num_layers": 100,
        "architecture": "encoder_decoder",
        "stack": "encoder",
        "want": 0.20631,
    },
    {
        "variant": "deep_norm",
        "role": "v",
        "num_layers": 3,
        "num_encoder_layers": 12,
        "architecture": "encoder_decoder",
        "stack": "encoder",
        "want": 0.87 * (12**4 * 3) ** (-1 / 16),
    },
    {"variant": "sub_ln", "role": "o", "num_layers": 12, "architecture": "encoder", "want": 1.7827},
    {"variant": "post_norm", "role": "w1", "num_layers": 12, "want": 1.0},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_init_gain_gives_the_same_numbers(case: dict[str, Any]) -> None:
    want = case["want"]
    arguments = {key: value for key, value in case.items() if key not in ("want", "variant")}
    assert init_gain(case["variant"], **arguments) == pytest.approx(want, rel=ROUNDED)


@pytest.mark.parametrize(
    "spec",
    ["deep_norm(p=0.0)", "deep_norm(p=1.5)", "mix_norm(fraction=-0.1)", "mix_norm(fraction=2)"],
)
def test_options_out_of_their_range_are_refused(spec: str) -> None:
    with pytest.raises(VariantError, match=r"lies in"):
        get_variant(spec)


def test_deep_norm_counts_the_branches_of_a_parallel_layer_once() -> None:
    parallel = get_variant("deep_norm").resolve("decoder", num_decoder_layers=24, layout="parallel")
    half = get_variant("deep_norm").resolve("decoder", num_decoder_layers=12)
    (fused,), (attention, _) = (
        placement.stack("decoder").layers[0] for placement in (parallel, half)
    )
    assert fused.skip == attention.skip
    assert fused.init_gains == attention.init_gains
