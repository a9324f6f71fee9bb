"""Streams with a buffer of past layers: formulas in numpy, and what they are at the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.variants.streams_by_hand import (
    Array,
    Flow,
    Formula,
    Step,
    Tree,
    assert_formula,
    norm_by_hand,
    run,
    start,
)
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.variants import depth
from zoo.variants.registry import get_variant

Steps = Sequence[Sequence[Step]]
Norm = Callable[..., Array]


def dense_former(dilation: int, period: int) -> Formula:
    def formula(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
        outputs, seen = [x], []
        for index, layer in enumerate(steps, start=1):
            for step in layer:
                x = x + step.f(n(x, step.own["plain"]["norm_in"]))
                seen.append(x)
            outputs.append(x)
            if index % period == 0:
                alpha = layer[-1].own["weights"]
                x = sum(alpha[j] * outputs[j] for j in range(index % dilation, index + 1, dilation))
        return x, seen

    return formula


def dlcl(form: str) -> Formula:
    def formula(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
        history, seen = [x], []
        x = ends["first"] * x
        for index, layer in enumerate(steps, start=1):
            for step in layer:
                own = step.own["plain"]
                if form == "pre":
                    x = x + step.f(n(x, own["norm_in"]))
                else:
                    x = n(x + step.f(x), own["norm_out"])
                seen.append(x)
            own = layer[-1].own
            history.append(n(x, own["norm_history"]) if form == "pre" else x)
            x = sum(own["weights"][k] * history[k] for k in range(index + 1))
            if form == "post":
                x = n(x, own["norm_history"])
        return x, seen

    return formula


FORMULAE: dict[str, Formula] = {
    "dense_former": dense_former(1, 1),
    "dense_former(dilation=2, period=2)": dense_former(2, 2),
    "dlcl": dlcl("pre"),
    "dlcl(form='post')": dlcl("post"),
}


@pytest.mark.parametrize("spec", FORMULAE)
def test_model_is_the_formula_of_its_paper(spec: str) -> None:
    assert_formula(spec, FORMULAE[spec])


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("spec", "formula"),
    [
        *FORMULAE.items(),
        ("dense_former(dilation=3)", dense_former(3, 1)),
        ("dense_former(period=4)", dense_former(1, 4)),
    ],
)
def test_each_stack_of_an_encoder_decoder_has_a_stream_of_its_own(
    spec: str, formula: Formula, stack: str
) -> None:
    flow = Flow(spec, stack, "encoder_decoder", depth=5)
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


@pytest.mark.parametrize("spec", ["dense_former", "dense_former(dilation=2, period=2)"])
def test_dense_former_starts_as_pre_norm(spec: str) -> None:
    # Two blocks where layers differ in wiring, one in pre-norm: a stream alone has neither.
    np.testing.assert_array_equal(Flow(spec, moved=0.0)(), Flow("pre_norm", moved=0.0)())


def test_dense_former_starts_as_pre_norm_in_a_compiled_model() -> None:
    params = start("dense_former")
    np.testing.assert_array_equal(
        run("dense_former", params).output, run("pre_norm", plain(params)).output
    )


def newest(flow: Flow) -> Flow:
    """With weights that read the newest output alone."""
    for layer, sites in enumerate(flow.sites):
        own, _ = weight.split(sites[-1])
        one = jnp.zeros_like(own["weights"]).at[layer + 1].set(1.0)
        sites[-1] = weight.bind(sites[-1], own | {"weights": one})
    return flow


def test_post_norm_dlcl_that_reads_the_newest_alone_is_post_norm() -> None:
    flow = newest(Flow("dlcl(form='post')", moved=0.0))
    # A norm of what a norm of gain 1 gave changes nothing but eps = 1e-5, once a layer.
    np.testing.assert_allclose(flow(), Flow("post_norm", moved=0.0)(), atol=1e-4)


def test_pre_norm_dlcl_of_one_layer_that_reads_the_newest_alone_is_pre_norm() -> None:
    # One layer: the norm that follows is the final one's own.
    flow, pre = newest(Flow("dlcl", moved=0.0, depth=1)), Flow("pre_norm", moved=0.0, depth=1)
    want = norm_by_hand(pre(), {"gain": 1.0, "bias": 0.0})
    np.testing.assert_allclose(flow(), want, atol=1e-5)


def test_dlcl_starts_from_the_mean_of_what_is_there() -> None:
    layers = get_variant("dlcl").resolve("decoder", num_decoder_layers=3).stacks[0][1].layers
    assert [dict(sites[-1].starts)["depth_weights"] for sites in layers] == [
        (1 / 2, 1 / 2, 0.0, 0.0),
        (1 / 3, 1 / 3, 1 / 3, 0.0),
        (1 / 4, 1 / 4, 1 / 4, 1 / 4),
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dense_former(dilation=0)", "must be at least 1"),
        ("dense_former(period=-1)", "must be at least 1"),
        ("dlcl(form='both')", "use 'pre' or 'post'"),
    ],
)
def test_an_option_without_sense_is_refused(spec: str, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        get_variant(spec)


@pytest.mark.parametrize("slot", [2, 2.0, jnp.float32(2.0)])
def test_a_buffer_is_written_at_a_number_of_any_kind(slot: Any) -> None:
    buffer = depth.stored(depth.opened(jnp.ones((3, 2)), 4), slot, jnp.full((3, 2), 5.0))
    np.testing.assert_array_equal(buffer[:, 0, 0], [1.0, 0.0, 5.0, 0.0])
    np.testing.assert_array_equal(
        depth.blended(jnp.asarray([2.0, 7.0, 0.5, 9.0]), buffer), np.full((3, 2), 4.5)
    )


def test_an_average_that_takes_the_newest_alone_is_exact_in_bfloat16() -> None:
    x = jnp.asarray([[0.1, 1e20, -3.0]], jnp.bfloat16)
    buffer = depth.stored(depth.opened(x + 1, 3), 1, x)
    got = depth.blended(jnp.asarray([0.0, 1.0, 0.0]), buffer)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, x)
