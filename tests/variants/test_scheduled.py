"""Branches that are turned up during training: schedules, wiring, identities."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.inputs import _numbers
from zoo.models.transformer import Transformer, build
from zoo.variants.placement import Multiplier, Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.variant import Architecture

LAYERS, STEPS = 5, 10
Array = np.ndarray


def stack_of(
    spec: str, architecture: Architecture = "decoder", depth: int = LAYERS, stack: str = "decoder"
) -> StackPlacement:
    return (
        get_variant(spec)
        .resolve(architecture, num_encoder_layers=depth, num_decoder_layers=depth, d_model=8)
        .stack(stack)
    )


def factors(stack: StackPlacement, step: float) -> Array:
    """[layers] of the number on the MLP's branch at a step."""
    column = [layer[-1] for layer in stack.layers]
    number = _numbers(column, jnp.asarray(step, jnp.float32))["branch"]
    return np.broadcast_to(np.asarray(number, np.float64), (len(column),))


def by_hand(schedule: str, step: float) -> Array:
    """The schedules of the authors' code, from the total W = T N and its `linspace` over layers."""
    total = STEPS * LAYERS
    ends = np.linspace(total // LAYERS, total, LAYERS)
    starts = np.concatenate([[0.0], ends[:-1]])
    layer = np.arange(1, LAYERS + 1)
    part = np.clip(step / ends, 0.0, 1.0)
    floors = {
        "stagewise_0": 0.0 * layer,
        "stagewise_L": 1.0 / LAYERS + 0.0 * layer,
        "stagewise_sqrt_L": LAYERS**-0.5 + 0.0 * layer,
        "stagewise_sqrt_l": layer**-0.5,
    }
    if schedule in floors:
        floor = floors[schedule]
        return np.clip(floor + (1 - floor) * (step - starts) / (ends - starts), floor, 1.0)
    return {
        "linear": part,
        "sqrt": np.sqrt(part),
        "square": part**2,
        "linear_equal": np.full(LAYERS, min(1.0, step / total)),
        "linear_reverse": np.clip(step / ends[::-1], 0.0, 1.0),
        "fix_L": np.full(LAYERS, 1 / LAYERS),
        "fix_sqrt_L": np.full(LAYERS, LAYERS**-0.5),
        "fix_sqrt_l": layer**-0.5,
    }[schedule]


SCHEDULES = [
    "linear",
    "sqrt",
    "square",
    "linear_equal",
    "linear_reverse",
    "stagewise_0",
    "stagewise_L",
    "stagewise_sqrt_L",
    "stagewise_sqrt_l",
    "fix_L",
    "fix_sqrt_L",
    "fix_sqrt_l",
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_pro_res_follows_the_schedule_of_the_authors(schedule: str) -> None:
    stack = stack_of(f"pro_res(steps={STEPS}, schedule={schedule!r})")
    for step in (0, 1, 9, 10, 11, 24.5, 37, 50, 1000):
        want = by_hand(schedule, step)
        np.testing.assert_allclose(factors(stack, step), want, rtol=1e-6, atol=1e-7)


def test_both_sublayers_of_a_layer_share_their_schedule() -> None:
    for layer in stack_of("pro_res", "encoder_decoder").layers:
        assert len({site.branch for site in layer}) == 1


@pytest.mark.parametrize(
    "base",
    [
        "pre_norm",
        "post-ln",
        "deep_norm(p=0.5)",
        "sandwich_norm",
        "peri_norm",
        "lns",
        "mix_norm",
        "keel",
        "swin_v2_norm",
        "glm_deep_norm",
    ],
)
@pytest.mark.parametrize("architecture", ["encoder_decoder", "vision"])
def test_pro_res_changes_nothing_of_its_base_but_the_branch(
    base: str, architecture: Architecture
) -> None:
    for stack in ("encoder", "decoder") if architecture == "encoder_decoder" else ("encoder",):
        wrapped = stack_of(f"pro_res(base={base!r})", architecture, stack=stack)
        plain = stack_of(base, architecture, stack=stack)
        assert ends(wrapped) == ends(plain)
        for ours, own in zip(sites(wrapped), sites(plain), strict=True):
            assert ours.branch.ramp is not None
            assert own.branch == Multiplier()
            assert ours.numbers() == own.numbers()  # at the end of the schedule
            assert (ours.slots(), ours.init_gains) == (own.slots(), own.init_gains)


def ends(stack: StackPlacement) -> tuple[Any, ...]:
    return (stack.embedding_norm, stack.final_norm, stack.embedding_gradient, stack.stream)


def sites(stack: StackPlacement) -> list[Site]:
    return [site for layer in stack.layers for site in layer]


def test_branch_norm_is_the_equal_schedule_around_post_norm() -> None:
    branch_norm = stack_of(f"branch_norm(steps={STEPS * LAYERS})")
    wrapped = stack_of(f"pro_res(base='post_norm', steps={STEPS}, schedule='linear_equal')")
    assert branch_norm == wrapped


def test_a_fixed_schedule_around_pre_norm_is_a_scaled_residual() -> None:
    fixed = stack_of("pro_res(schedule='fix_sqrt_L')")
    scaled = stack_of("scaled_residual(multiplier=1.0, by_depth=True)")
    for ours, other in zip(sites(fixed), sites(scaled), strict=True):
        assert ours.branch.value == pytest.approx(other.branch.value)
        assert ours.structure() == other.structure()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pro_res(base='pre_nrom')", "did you mean pre_norm"),
        ("pro_res(base='pro_res')", "'pro_res' is not known"),
        ("pro_res(base='deep_norm(q=1)')", "no option 'q'"),
        ("pro_res(base='deep_norm(p=2.0)')", "p lies in"),
        ("pro_res(base='rezero')", "multiplier of its own"),
        ("pro_res(base='granite')", "multiplier of its own"),
        ("pro_res(schedule='liner')", "did you mean linear"),
        ("pro_res(steps=0)", "steps = 0"),
        ("branch_norm(steps=0)", "steps = 0"),
        ("branch_norm(steps=0.5)", "steps takes an int"),
    ],
)
def test_what_has_no_schedule_is_refused(spec: str, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        stack_of(spec)


# Whole models of three layers.
IDS = jax.random.randint(jax.random.key(2), (2, 9), 0, 23, jnp.int32)


@functools.cache
def model_of(spec: str) -> Transformer:
    config = ModelConfig(
        variant=spec,
        vocab_size=23,
        d_model=8,
        num_layers=3,
        num_heads=2,
        d_ff=12,
        max_length=12,
        norm_eps=1e-9,
    )
    return build(config, jax.random.key(0))


@functools.cache
def runner(spec: str, scheduled: bool) -> Any:
    """Compiled (params, step) to (hidden, taps); without a step where not scheduled."""
    model = model_of(spec)

    @jax.jit
    def run(params: dict[str, Any], step: jax.Array) -> Any:
        bound = weight.bind(model, params)
        hidden, taps = bound.measure(IDS, step=step if scheduled else None)
        return hidden, taps["decoder"]

    return run


def test_branch_norm_starts_as_one_norm_and_ends_as_post_norm() -> None:
    spec = "branch_norm(steps=40)"
    params, _ = weight.split(model_of("post_norm"))
    run = runner(spec, True)
    first, taps = run(params, jnp.asarray(0))
    np.testing.assert_array_equal(taps["branch_skip_ratio"], 0.0)
    table, places = params["embedding"]["tokens"], params["embedding"]["table"]
    x = np.asarray(table[IDS] * 8**0.5 + places[: IDS.shape[1]], np.float64)
    x = x - x.mean(-1, keepdims=True)
    np.testing.assert_allclose(first, x / x.std(-1, keepdims=True), atol=1e-5)

    want = runner("post_norm", False)(params, jnp.asarray(0))[0]
    for step in (40, 41, 10**6):
        np.testing.assert_array_equal(run(params, jnp.asarray(step))[0], want)
    assert np.abs(run(params, jnp.asarray(39))[0] - want).max() > 1e-3
    # Without a step, as in evaluation, it is the end of the schedule.
    np.testing.assert_allclose(runner(spec, False)(params, jnp.asarray(0))[0], want, atol=1e-6)


def test_pro_res_wakes_layers_in_order() -> None:
    params, _ = weight.split(model_of("pre_norm"))
    full = runner("pre_norm", False)(params, jnp.asarray(0))
    run = runner("pro_res(steps=4)", True)
    hidden, taps = run(params, jnp.asarray(12))
    np.testing.assert_allclose(hidden, full[0], atol=1e-6)
    # The first layer has the same input at any step: its first branch grows in proportion.
    for step in (0, 1, 3):
        ratio = run(params, jnp.asarray(step))[1]["branch_skip_ratio"]
        np.testing.assert_allclose(
            ratio[0, 0], step / 4 * full[1]["branch_skip_ratio"][0, 0], rtol=1e-5
        )
    ratio = run(params, jnp.asarray(4))[1]["branch_skip_ratio"]
    np.testing.assert_allclose(ratio[0], full[1]["branch_skip_ratio"][0], rtol=1e-5)
    assert np.all(ratio[1:] < taps["branch_skip_ratio"][1:])
