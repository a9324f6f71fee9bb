"""Placements with constants by depth, and those that start small: numbers, wiring, identities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import declare
from zoo.variants.placement import Placement, Site
from zoo.variants.registry import get_variant
from zoo.variants.residual import Residual
from zoo.variants.variant import Architecture, Layout

WIDTH, LAYERS, EPS = 6, 8, 1e-3
MIX = np.random.default_rng(0).normal(size=(WIDTH, WIDTH))

Array = np.ndarray
Function = Callable[[Array], Array]
# Of x, the branch f, the norms n["norm_in"] ... and the learned multipliers m["branch"] ...
Formula = Callable[[Array, Function, dict[str, Function], dict[str, Array]], Array]

# By variant, layer from 0 and sublayer, at eight layers.
FORMULAE: dict[tuple[str, int, str], Formula] = {
    ("glm_deep_norm", 3, "mlp"): lambda x, f, n, m: n["norm_out"](4 * x + f(x)),
    ("minimax_post_norm(attention=(3.0, 0.5), mlp=(2.0, 0.25))", 0, "self_attention"): (
        lambda x, f, n, m: 3 * n["norm_in"](x) + 0.5 * f(n["norm_in"](x))
    ),
    ("minimax_post_norm(attention=(3.0, 0.5), mlp=(2.0, 0.25))", 0, "mlp"): (
        lambda x, f, n, m: 2 * n["norm_in"](x) + 0.25 * f(n["norm_in"](x))
    ),
    ("dssn", 5, "mlp"): lambda x, f, n, m: x + n["norm_branch"](f(n["norm_in"](x))),
    ("layer_norm_scaling", 0, "mlp"): lambda x, f, n, m: x + f(n["norm_in"](x)),
    ("layer_norm_scaling", 3, "mlp"): lambda x, f, n, m: x + f(n["norm_in"](x) / 2),
    ("layer_norm_scaling", 3, "self_attention"): lambda x, f, n, m: x + f(n["norm_in"](x) / 2),
    ("keel", 0, "self_attention"): lambda x, f, n, m: x + f(n["norm_in"](x)),
    ("keel", 0, "mlp"): lambda x, f, n, m: n["norm_out"](x + f(n["norm_in"](x))),
    ("keel", 1, "self_attention"): lambda x, f, n, m: n["norm_out"](16 * x + f(n["norm_in"](x))),
    ("keel", 7, "mlp"): lambda x, f, n, m: n["norm_out"](16 * x + f(n["norm_in"](x))),
    ("scaled_residual", 2, "mlp"): lambda x, f, n, m: x + 0.22 * f(n["norm_in"](x)),
    ("scaled_residual(multiplier=1.4, by_depth=True)", 2, "mlp"): (
        lambda x, f, n, m: x + 1.4 / math.sqrt(8) * f(n["norm_in"](x))
    ),
    ("beam_norm", 0, "self_attention"): (
        lambda x, f, n, m: math.sqrt(1 / 2) * (x + n["norm_branch"](f(n["norm_in"](x))))
    ),
    ("beam_norm", 0, "mlp"): (
        lambda x, f, n, m: (math.sqrt(2) * x + n["norm_branch"](f(n["norm_in"](x)))) / math.sqrt(3)
    ),
    ("beam_norm", 7, "self_attention"): (
        lambda x, f, n, m: math.sqrt(15 / 16) * x + n["norm_branch"](f(n["norm_in"](x))) / 4
    ),
    ("ds_init", 2, "mlp"): lambda x, f, n, m: n["norm_out"](x + f(x)),
    ("swin_v2_norm", 2, "mlp"): lambda x, f, n, m: x + n["norm_branch"](f(x)),
    ("layer_scale", 2, "mlp"): lambda x, f, n, m: x + m["branch"] * f(n["norm_in"](x)),
    ("skip_init", 2, "mlp"): lambda x, f, n, m: x + m["branch"] * f(x),
}


def branch(x: Array) -> Array:
    return np.tanh(x @ MIX)


def jax_branch(x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ jnp.asarray(MIX, x.dtype))


def norm_by_hand(params: dict[str, Array]) -> Function:
    def norm(x: Array) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
        return x * params["gain"] + params.get("bias", 0.0)

    return norm


@pytest.mark.parametrize(("spec", "layer", "sublayer"), FORMULAE)
def test_sublayer_is_its_formula(spec: str, layer: int, sublayer: str) -> None:
    residual = Residual(
        spec, num_layers=LAYERS, d_model=WIDTH, layer=layer, sublayer=sublayer, eps=EPS
    )
    # Every gain, bias and learned multiplier gets a value of its own.
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda a: rng.normal(1.0, 0.3, a.shape), weight.split(residual.access)[0])
    single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    residual.access = weight.bind(residual.access, single)
    norms = {k: norm_by_hand(v) for k, v in params.items() if isinstance(v, dict)}
    learned = {k: v for k, v in params.items() if not isinstance(v, dict)}
    x = rng.normal(size=(2, 3, WIDTH))
    want = FORMULAE[spec, layer, sublayer](x, branch, norms, learned)
    # Sums of up to 16 x: a few units in the last place of float32.
    np.testing.assert_allclose(
        residual(jnp.asarray(x, jnp.float32), jax_branch), want, rtol=1e-5, atol=1e-5
    )


def test_norms_of_keel_have_no_shift_whatever_the_architecture_says() -> None:
    params, weights = weight.split(
        Residual("keel", num_layers=2, d_model=WIDTH, layer=1, norm_bias=True).access
    )
    assert {role: set(own) for role, own in params.items()} == {
        "norm_in": {"gain"},
        "norm_out": {"gain"},
    }
    assert {declared.kind for declared in jax.tree.leaves(weights)} == {"gain"}


def resolve(
    spec: str, architecture: Architecture = "decoder", depth: int = LAYERS, **more: Any
) -> Placement:
    return get_variant(spec).resolve(
        architecture, num_encoder_layers=depth, num_decoder_layers=depth, **more
    )


def sites(
    spec: str, stack: str = "decoder", architecture: Architecture = "decoder", **more: Any
) -> list[Site]:
    layers = resolve(spec, architecture, **more).stack(stack).layers
    return [site for layer in layers for site in layer]


def test_glm_deep_norm_has_the_constants_of_its_paper() -> None:
    # GLM-130B: 70 layers, alpha = (2N)^(1/2), weights scaled by (2N)^(-1/2).
    for site in sites("glm_deep_norm", depth=70):
        assert site.skip.value == pytest.approx(11.8322, rel=5e-6)
        gains = [site.init_gain(role) for role in ("v", "o", "w1", "w2")]
        assert gains == pytest.approx([0.0845154] * 4, rel=5e-6)
        assert (site.init_gain("q"), site.init_gain("k")) == (1.0, 1.0)
    assert resolve("glm_deep_norm").stack("decoder").embedding_gradient == 0.1


@pytest.mark.parametrize(("spec", "power"), [("glm_deep_norm", 0.5), ("keel", 1.0)])
@pytest.mark.parametrize(
    ("architecture", "stack", "layout", "count"),
    [
        ("encoder", "encoder", "sequential", 2),
        ("vision", "encoder", "sequential", 2),
        ("encoder_decoder", "decoder", "sequential", 3),
        ("decoder", "decoder", "parallel", 1),
    ],
)
def test_skips_that_follow_the_depth_count_the_sublayers_of_their_stack(
    spec: str, power: float, architecture: Architecture, stack: str, layout: Layout, count: int
) -> None:
    last = sites(spec, stack, architecture, layout=layout)[-1]
    assert last.skip.value == pytest.approx((count * LAYERS) ** power)


def test_keel_treats_the_first_sublayer_alone_as_pre_norm() -> None:
    decoder = sites("keel", "decoder", "encoder_decoder")
    assert [site.norm_out is None for site in decoder] == [True] + [False] * (3 * LAYERS - 1)
    assert [site.skip.value for site in decoder] == [1.0] * 3 + [3.0 * LAYERS] * 3 * (LAYERS - 1)


def test_keel_carries_the_stream_to_any_depth() -> None:
    # The paper's argument: each norm divides what came along the skip by sqrt(alpha^2 + 1), and
    # (1 + 1 / S^2)^(-S / 2) > exp(-1 / 2S), where post-norm's product is 2^(-S / 2).
    for depth in (4, 100, 1000):
        kept = [s.skip.value / math.hypot(s.skip.value, 1.0) for s in sites("keel", depth=depth)]
        assert math.prod(kept[2:]) > math.exp(-1 / (4 * depth))


def test_dssn_spends_its_constants_over_the_depth() -> None:
    for depth in (1, 6, 94):
        for spec, added in [
            ("dssn", 0.283**2 + 0.432**2),
            ("dssn(c_attention=1.0, c_mlp=1.0)", 2.0),
        ]:
            for layout in ("sequential", "parallel"):
                slots = [s.norm_branch for s in sites(spec, depth=depth, layout=layout)]
                total = sum(slot.gain**2 for slot in slots if slot is not None)
                assert total == pytest.approx(added)
    # Pangu Ultra: 94 layers.
    gains = [s.norm_branch.gain for s in sites("dssn", depth=94)[:2] if s.norm_branch]
    assert gains == pytest.approx([0.0291892, 0.0445574], rel=1e-5)


def test_layer_norm_scaling_counts_layers_and_leaves_gains_at_one() -> None:
    slots = [site.norm_in for site in sites("layer_norm_scaling")]
    want = [1 / math.sqrt(layer) for layer in range(1, 9) for _ in range(2)]
    assert [slot.scale for slot in slots if slot is not None] == pytest.approx(want)
    assert {slot.gain for slot in slots if slot is not None} == {1.0}


def test_beam_weights_are_those_of_a_running_average() -> None:
    # Unrolled, x_S = S^(-1/2) (x_0 + u_1 + ...): every term has the weight of every other.
    for stack, count in (("encoder", 2), ("decoder", 3)):
        weights = [1.0]
        for site in sites("beam_norm", stack, "encoder_decoder"):
            a, b = site.skip.value, site.branch.value
            assert a * a + b * b == pytest.approx(1.0)
            weights = [a * each for each in weights] + [b]
        terms = count * LAYERS + 1
        assert weights == pytest.approx([terms**-0.5] * terms)


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_ds_init_draws_every_matrix_smaller_by_the_root_of_its_layer(
    architecture: Architecture,
) -> None:
    roles = {
        "self_attention": ("q", "k", "v", "o"),
        "cross_attention": ("xq", "xk", "xv", "xo"),
        "mlp": ("w1", "w2"),
    }
    for layer, own in enumerate(resolve("ds_init", architecture).stack("decoder").layers):
        for site in own:
            gains = [site.init_gain(role) for role in roles[site.sublayer]]
            assert gains == pytest.approx([1 / math.sqrt(layer + 1)] * len(gains))


@pytest.mark.parametrize(
    ("depth", "start"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6), (48, 1e-6)]
)
def test_layer_scale_starts_where_cait_does_or_where_told(depth: int, start: float) -> None:
    assert {site.branch.value for site in sites("layer_scale", depth=depth)} == {start}
    told = sites("layer_scale(start=0.5)", depth=depth)
    assert {(site.branch.value, site.branch.learned) for site in told} == {(0.5, "vector")}


def test_scaled_residual_has_the_numbers_of_granite_and_minicpm() -> None:
    (granite,) = set(map(branch_value, sites("granite", depth=40)))
    assert granite == 0.22
    (minicpm,) = set(map(branch_value, sites("minicpm(multiplier=1.4, by_depth=True)", depth=40)))
    assert minicpm == pytest.approx(1.4 / math.sqrt(40))
    spec = "scaled_residual(embedding_multiplier=12, logit_multiplier=0.0625)"
    stack = resolve(spec).stack("decoder")
    assert (stack.embedding_multiplier, stack.logit_scale.value) == (12.0, 0.0625)
    neutral = resolve("scaled_residual").stack("decoder")
    assert (neutral.embedding_multiplier, neutral.logit_scale.value) == (1.0, 1.0)
    encoder, decoder = (resolve(spec, "encoder_decoder").stack(s) for s in ("encoder", "decoder"))
    assert (encoder.logit_scale.value, decoder.logit_scale.value) == (1.0, 0.0625)
    assert encoder.embedding_multiplier == 12.0


def branch_value(site: Site) -> float:
    return site.branch.value


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ("skip_init", "rezero"),
        ("scaled_residual(multiplier=1.0)", "pre_norm"),
        ("scaled_residual(multiplier=4.0, by_depth=True)", "scaled_residual(multiplier=1.0)"),
    ],
)
def test_a_placement_is_another_one(spec: str, same: str) -> None:
    wanted = resolve(same, depth=16).stack("decoder").layers
    assert resolve(spec, depth=16).stack("decoder").layers == wanted


@pytest.mark.parametrize(
    ("spec", "layout", "message"),
    [
        ("dssn(c_mlp=0)", "sequential", r"dssn\(c_mlp=0.0\).*above 0"),
        ("layer_scale(start=-1)", "sequential", r"start=-1.0.*above 0"),
        ("minimax_post_norm(mlp=(2.0, 1.0))", "parallel", "layout = sequential"),
        ("minimax_post_norm(mlp=(1.0, 0.0))", "sequential", r"mlp=\(1.0, 0.0\).*above 0"),
        ("minimax_post_norm(attention=(-1, 1))", "sequential", "attention=.*not be below 0"),
        ("scaled_residual(multiplier=0)", "sequential", "multiplier=0.0.*above 0"),
        ("scaled_residual(logit_multiplier=-1)", "sequential", "logit_multiplier=-1.0.*above 0"),
        ("minimax_post_norm(mlp=2.0)", "sequential", "mlp takes 2 finite numbers"),
    ],
)
def test_options_that_make_no_sense_are_refused(spec: str, layout: Layout, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        resolve(spec, layout=layout)


def test_one_pair_serves_a_parallel_layer() -> None:
    spec = "minimax_post_norm(attention=(2.0, 0.5), mlp=(2.0, 0.5))"
    for site in sites(spec, layout="parallel"):
        assert (site.skip.value, site.branch.value) == (2.0, 0.5)


@pytest.mark.parametrize("spec", ["swin_v2_norm", "skip_init"])
def test_blocks_that_start_at_zero_are_the_identity(spec: str) -> None:
    residual = Residual(spec, num_layers=3, d_model=WIDTH)
    x = jax.random.normal(jax.random.key(0), (1, 2, WIDTH))
    np.testing.assert_array_equal(residual(x, jax_branch), x)


def test_swin_v2_starts_gains_and_shifts_at_zero() -> None:
    params, _ = weight.split(Residual("swin_v2_norm", num_layers=3, d_model=WIDTH).access)
    assert set(params["norm_branch"]) == {"gain", "bias"}
    np.testing.assert_array_equal(jax.tree.leaves(params), 0.0)


@pytest.mark.parametrize(("spec", "start"), [("dssn", 0.432 / 2**0.5), ("swin_v2_norm", 0.0)])
def test_a_start_of_the_gain_holds_for_kinds_that_keep_it_elsewhere(
    spec: str, start: float
) -> None:
    """SeeDNorm's gain stands inside its bracket, and x . 0 leaves only that at the start."""
    kind: dict[str, Any] = {"norm": "seed_norm", "d_model": 8}
    residual = Residual(spec, num_layers=2, layer=0, sublayer="mlp", **kind)
    x = np.random.default_rng(0).normal(size=(1, 3, 8)).astype(np.float32)
    f = np.random.default_rng(1).normal(size=(1, 3, 8)).astype(np.float32)
    size = np.sqrt(np.mean(f.astype(np.float64) ** 2, axis=-1, keepdims=True) + 1e-5)
    # float32 against float64
    np.testing.assert_allclose(residual(x, lambda _: f), x + start * f / size, atol=1e-5)


@pytest.mark.parametrize("spec", ["dssn", "swin_v2_norm"])
def test_a_start_of_the_gain_refuses_kinds_without_a_gain(spec: str) -> None:
    config = ModelConfig(variant=spec, norm="unit_norm", d_model=8, num_layers=2, num_heads=2)
    with pytest.raises(VariantError, match=r"norm = 'unit_norm' has no gain.*rms_norm"):
        declare(config)
