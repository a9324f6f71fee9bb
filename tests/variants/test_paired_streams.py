"""Streams of two vectors, and of a skip over a layer: formulas in numpy, and identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.variants.streams_by_hand import (
    Array,
    Flow,
    Formula,
    Step,
    Tree,
    assert_formula,
    float64,
    norm_by_hand,
    run,
)
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.variants.registry import get_variant

Steps = Sequence[Sequence[Step]]
Norm = Callable[..., Array]


def residual_dual(c: float, kappa: float) -> Formula:
    def formula(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
        p, r, seen = x, c * x, []
        for layer in steps:
            for step in layer:
                f = step.f(p)
                r = r + c * f
                p = n(p + f, step.own["plain"]["norm_out"])
                seen.append(p)
        return kappa * p + n(r, ends["norm_end"], eps=1e-7), seen

    return formula


def b2t(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
    seen = []
    for *inner, last in steps:
        a = x
        for step in inner:
            a = n(a + step.f(a), step.own["plain"]["norm_out"])
            seen.append(a)
        x = n(x + a + last.f(a), last.own["plain"]["norm_out"])
        seen.append(x)
    return x, seen


def span_norm(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
    seen = []
    for index, (*inner, last) in enumerate(steps):
        a = x
        for place, step in enumerate(inner):
            own = step.own["plain"]
            read = n(a, own["norm_in"]) if index == place == 0 else a
            a = n(a + step.f(read), own["norm_out"])
            seen.append(a)
        x = n(x + last.f(a), last.own["plain"]["norm_out"])
        seen.append(x)
    return x, seen


def siamese_norm(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
    y, seen = x, []
    for index, layer in enumerate(steps):
        for step in layer:
            x = n(x, step.own["norm_x"])
            z = step.f(n(x + n(y, step.own["norm_y"]), step.own["norm_in"]))
            x, y = x + z / np.sqrt(2 * (index + 1)), y + z
            seen.append(y)
    return n(x, ends["norm_x"]) + n(y, ends["norm_y"]), seen


def x0_skip(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
    x0, seen = x, []
    for layer in steps:
        x = layer[0].own["lambda_x"] * x + layer[0].own["lambda_x0"] * x0
        for step in layer:
            x = x + step.f(n(x, step.own["plain"]["norm_in"]))
            seen.append(x)
    return x, seen


FORMULAE: dict[str, Formula] = {
    "residual_dual": residual_dual(1.0, 1.0),
    "b2t": b2t,
    "span_norm": span_norm,
    "siamese_norm": siamese_norm,
    "x0_skip": x0_skip,
}


@pytest.mark.parametrize("spec", FORMULAE)
def test_model_is_the_formula_of_its_paper(spec: str) -> None:
    assert_formula(spec, FORMULAE[spec])


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("spec", "formula"),
    [
        *FORMULAE.items(),
        ("residual_dual(input_scale=0.05)", residual_dual(0.05, 1.0)),
        ("residual_dual(input_scale=2, kappa=0.5)", residual_dual(2.0, 0.5)),
    ],
)
def test_each_stack_of_an_encoder_decoder_has_a_stream_of_its_own(
    spec: str, formula: Formula, stack: str
) -> None:
    flow = Flow(spec, stack, "encoder_decoder")
    assert len(flow.placement.layers[0]) == (3 if stack == "decoder" else 2)
    want, _ = flow.by_hand(formula)
    np.testing.assert_allclose(flow(), want, atol=2e-5 * np.abs(want).max())


def plain(params: Tree) -> Tree:
    """Parameters of a model whose sites hold a plain one, as those of the plain variant."""
    if isinstance(params, dict):
        return {
            key: plain(value["plain"] if key == "residual" else value)
            for key, value in params.items()
            if key != "ends"
        }
    return params


def test_residual_dual_feeds_its_branches_what_post_norm_would() -> None:
    dual = run("residual_dual")
    post = run("post_norm", plain(dual.params))
    np.testing.assert_array_equal(dual.taps["stream"][-1, -1], post.output)
    np.testing.assert_array_equal(dual.taps["branch"], post.taps["branch"])


def test_the_sum_of_residual_dual_is_all_that_was_written() -> None:
    flow = Flow("residual_dual(input_scale=0.3)")
    flow()
    _, r = flow.carry
    np.testing.assert_allclose(r, 0.3 * (flow.x + sum(flow.branches)), rtol=1e-5, atol=1e-5)


def test_without_its_post_norm_stream_residual_dual_forgets_the_scale_of_the_sum() -> None:
    # kappa = 0 leaves N_end(r), and c only scales r; eps 1e-7 beside c^2 = 0.01 is 1e-5.
    full, tenth = (Flow(f"residual_dual(kappa=0, input_scale={c})")() for c in (1.0, 0.1))
    np.testing.assert_allclose(tenth, full, atol=1e-4)
    assert np.abs(Flow("residual_dual")() - full).max() > 0.1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("residual_dual(input_scale=0)", "must be above 0"),
        ("residual_dual(kappa=-1)", "must not be below 0"),
    ],
)
def test_residual_dual_refuses_scales_without_sense(spec: str, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        get_variant(spec)


@pytest.mark.parametrize("spec", ["b2t", "span_norm"])
def test_a_skip_over_a_layer_needs_more_than_one_sublayer(spec: str) -> None:
    with pytest.raises(VariantError, match="use layout = sequential, or post_norm"):
        get_variant(spec).resolve("decoder", num_decoder_layers=2, layout="parallel")


def test_b2t_without_its_skip_over_the_layer_is_post_norm() -> None:
    flow, post = Flow("b2t"), Flow("post_norm")
    for layer in flow.sites:
        for access in layer:
            access.last = False
    # The same draws: both have one norm a site and nothing else.
    np.testing.assert_array_equal(flow(), post())


def test_span_norm_is_b2t_without_the_middle_of_the_last_sum() -> None:
    ours, span = Flow("b2t"), Flow("span_norm")
    for layer, theirs in zip(ours.sites, span.sites, strict=True):
        for a, b in zip(layer, theirs, strict=True):
            a.plain = b.plain  # with it the norm that the first layer reads through
            a.spanning = a.last
    np.testing.assert_array_equal(ours(), span())


def test_b2t_with_silent_branches_is_the_norm_of_x_and_its_norm() -> None:
    flow = Flow("b2t", depth=1)
    flow.mix[:] = 0.0
    first, last = flow.sites[0]
    want = norm_by_hand(flow.x, gains(first))
    want = norm_by_hand(flow.x + want, gains(last))
    np.testing.assert_allclose(flow(), want, atol=1e-5)


def gains(access: Any) -> Tree:
    """Of its norm after the add."""
    own: Tree = float64(weight.split(access)[0])["plain"]["norm_out"]
    return own


@pytest.mark.parametrize("depth", [2, 9])
def test_b2t_scales_every_matrix_by_the_root_of_its_own_stack(depth: int) -> None:
    placement = get_variant("b2t").resolve(
        "encoder_decoder", num_encoder_layers=depth, num_decoder_layers=16
    )
    for stack, layers in (("encoder", depth), ("decoder", 16)):
        for sites in placement.stack(stack).layers:
            gains = {role for site in sites for role, _ in site.init_gains}
            assert {"q", "k", "v", "o", "w1", "w2", "xq", "xk", "xv", "xo"} == gains
            assert {g for site in sites for _, g in site.init_gains} == {layers**-0.5}


def test_siamese_norm_damps_its_normed_stream_by_layers_not_sublayers() -> None:
    # The authors' code: c = sqrt(2 (l + 1)) with l the layer from 0, for both sublayers.
    layers = get_variant("siamese_norm").resolve("vision", num_encoder_layers=8).stacks[0][1].layers
    damping = [[1 / site.branch.value for site in sites] for sites in layers]
    np.testing.assert_allclose(damping, [[(2 * (i + 1)) ** 0.5] * 2 for i in range(8)])
    assert damping[0][0] == pytest.approx(2**0.5)
    assert damping[7][1] == pytest.approx(4.0)


def test_the_raw_stream_of_siamese_norm_is_all_that_was_written() -> None:
    got = run("siamese_norm")
    total = got.embedding() + np.cumsum(
        got.taps["branch"].reshape(-1, *got.output.shape), axis=0, dtype=np.float64
    )
    np.testing.assert_allclose(got.taps["stream"].reshape(total.shape), total, atol=1e-5)


def test_siamese_norm_with_its_normed_stream_and_the_norms_around_it_out_is_pre_norm() -> None:
    flow, pre = Flow("siamese_norm"), Flow("pre_norm")
    for ours, theirs in zip(flow.sites, pre.sites, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            a.norm_x, a.norm_y = (lambda x: 0.0 * x), (lambda y: y)
            a.norm_in = b.norm_in
    flow.ends.norm_x, flow.ends.norm_y = (lambda x: 0.0 * x), (lambda y: y)
    np.testing.assert_array_equal(flow(), pre())


def test_x0_skip_starts_as_pre_norm_after_an_embedding_norm() -> None:
    starts = Flow("x0_skip", moved=0.0)
    np.testing.assert_array_equal(starts(), Flow("pre_norm", moved=0.0)())
    for placement in (starts.placement, get_variant("pre_norm").resolve("decoder").stacks[0][1]):
        assert placement.final_norm == "required"
    assert starts.placement.embedding_norm == "required"
