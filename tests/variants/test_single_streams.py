"""Streams with an add of their own: formulas in numpy, lengths, and starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    run,
)
from zoo.errors import VariantError
from zoo.variants.registry import get_variant

Steps = Sequence[Sequence[Step]]
Norm = Callable[..., Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    return np.exp(x) / np.exp(x).sum()


def dot(a: Array, b: Array) -> Array:
    return (a * b).sum(-1, keepdims=True)


def one_by_one(add: Callable[[Array, Step, Norm, int], Array]) -> Formula:
    """The formula of a stream without ends; `add` also gets the sublayer's number from 1."""

    def formula(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
        seen = []
        for index, step in enumerate((step for layer in steps for step in layer), start=1):
            x = add(x, step, n, index)
            seen.append(x)
        return x, seen

    return formula


def laurel(x: Array, step: Step, n: Norm, index: int) -> Array:
    own = step.own
    f = step.f(n(x, own["plain"]["norm_in"]))
    skip = x + x @ own["down"] @ own["up"] if "down" in own else x
    alpha, beta = 2 * softmax(own["logits"]) if "logits" in own else (1.0, 1.0)
    return beta * skip + alpha * f


def geo_norm(decay: Callable[[int], float]) -> Callable[..., Array]:
    def add(x: Array, step: Step, n: Norm, index: int) -> Array:
        f, size = step.f(x), np.linalg.norm(x, axis=-1, keepdims=True)
        v = f - dot(f, x) / dot(x, x) * x
        reach = np.linalg.norm(v, axis=-1, keepdims=True)
        angle = np.minimum(reach / size, np.pi / 4) * step.own["scale"] + step.own["shift"]
        angle = np.clip(angle * decay(step.layer), 0, np.pi / 4)
        return x * np.cos(angle) + size * v / reach * np.sin(angle)

    return add


def nag(x: Array, step: Step, n: Norm, index: int) -> Array:
    own, width = step.own, x.shape[-1]
    rho = np.linalg.norm(x, axis=-1, keepdims=True) / np.sqrt(width)
    r = x / rho
    f = step.f(r)
    f = f - f.mean(-1, keepdims=True)
    f = f - dot(f, r) / width * r
    u = np.sqrt(width) * f / np.linalg.norm(f, axis=-1, keepdims=True)
    gates = sigmoid(r @ own["into_gates"] + own["gate_shift"])
    m = (softmax(own["gate_logits"]) * gates).sum(-1, keepdims=True)
    return x + rho * own["alpha"] * m * u


def delta_learning(x: Array, step: Step, n: Norm, index: int) -> Array:
    own, read = step.own, n(x, step.own["norm_in"])
    k = step.f(read)
    k = k / np.linalg.norm(k, axis=-1, keepdims=True)
    beta = 2 * sigmoid(read @ own["strength"] + own["strength_shift"])
    v = 4 * sigmoid(x @ own["value"] + own["value_shift"])
    return x + beta * k * (v - dot(k, x))


def multi_gate_residual(count: int) -> Formula:
    def score(s: Array, query: Array) -> Array:
        s = s / np.sqrt((s * s).mean(-1, keepdims=True) + 1e-5)
        return s @ query / np.sqrt(s.shape[-1])

    def pool(streams: list[Array], own: Tree) -> Array:
        if len(streams) == 1:
            return streams[0]
        alpha = np.exp([score(s, own["pool"]["query"]) for s in streams])
        alpha = alpha / alpha.sum(0)
        return sum(a[..., None] * s for a, s in zip(alpha, streams, strict=True))

    def formula(steps: Steps, ends: Tree, x: Array, n: Norm) -> tuple[Array, list[Array]]:
        streams, seen = [x], []
        for step in (step for layer in steps for step in layer):
            own = step.own
            f = step.f(n(pool(streams, own), own["norm_in"]))
            if len(streams) < count:
                streams = [*streams, f]
            else:
                gates = [
                    sigmoid(score(s, own["query"]) + shift)[..., None]
                    for s, shift in zip(streams, own["shifts"], strict=True)
                ]
                streams = [(1 - g) * s + g * f for g, s in zip(gates, streams, strict=True)]
            seen.append(sum(streams) / len(streams))
        return pool(streams, ends), seen

    return formula


FORMULAE: dict[str, Formula] = {
    "multi_gate_residual": multi_gate_residual(4),
    "laurel": one_by_one(laurel),
    "geo_norm": one_by_one(geo_norm(lambda layer: 1 / (layer + 1))),
    "nag": one_by_one(nag),
    "delta_learning": one_by_one(delta_learning),
}
OPTIONS: dict[str, Formula] = {
    "laurel(form='weights')": one_by_one(laurel),
    "laurel(form='both', rank=2)": one_by_one(laurel),
    "geo_norm(decay='root')": one_by_one(geo_norm(lambda layer: (layer + 1) ** -0.5)),
    "geo_norm(decay='linear')": one_by_one(geo_norm(lambda layer: (3 - layer) / 3)),
    "nag(gates=3)": one_by_one(nag),
    "multi_gate_residual(streams=1)": multi_gate_residual(1),
    "multi_gate_residual(streams=9)": multi_gate_residual(9),
    "delta_learning(strength=0.2)": one_by_one(delta_learning),
}


@pytest.mark.parametrize("spec", FORMULAE)
def test_model_is_the_formula_of_its_paper(spec: str) -> None:
    assert_formula(spec, FORMULAE[spec])


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize("spec", [*FORMULAE, *OPTIONS])
def test_each_stack_of_an_encoder_decoder_is_the_formula_too(spec: str, stack: str) -> None:
    flow = Flow(spec, stack, "encoder_decoder")
    want, _ = flow.by_hand((FORMULAE | OPTIONS)[spec])
    np.testing.assert_allclose(flow(), want, atol=3e-5 * np.abs(want).max())


@pytest.mark.parametrize("form", ["low_rank", "weights", "both"])
def test_laurel_starts_as_pre_norm(form: str) -> None:
    start = Flow(f"laurel(form={form!r})", moved=0.0)
    np.testing.assert_array_equal(start(), Flow("pre_norm", moved=0.0)())
    for site in (site for sites in start.placement.layers for site in sites):
        assert site.init_gain("laurel_up") == (1.0 if form == "weights" else 0.0)
        assert site.init_gain("laurel_down") == 1.0


def test_geo_norm_keeps_the_length_of_every_token() -> None:
    flow = Flow("geo_norm", depth=12)
    before, after = (np.linalg.norm(x, axis=-1) for x in (flow.x, flow()))
    np.testing.assert_allclose(after, before, rtol=1e-5)
    assert np.abs(flow() - flow.x).max() > 0.5
    got = run("geo_norm")
    lengths = np.linalg.norm(got.taps["stream"], axis=-1)
    want = np.linalg.norm(got.embedding(), axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(want, lengths.shape), rtol=1e-5)


def test_geo_norm_turns_by_at_most_an_eighth_of_a_circle_and_never_back() -> None:
    access = Flow("geo_norm", depth=1, moved=0.0).sites[0][0]
    x = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    f = jnp.asarray([[0.0, 100.0], [5.0, 0.1], [-3.0, 0.0], [0.0, 0.0]])
    got = np.asarray(access.write(x, f, {"decay": 1.0}))
    angles = np.arctan2(got[:, 1], got[:, 0])
    np.testing.assert_allclose(angles, [np.pi / 4, 0.1, 0.0, 0.0], atol=1e-5)


def test_nag_grows_by_its_gate_whatever_the_length() -> None:
    flow = Flow("nag", depth=1)
    access, number = flow.sites[0][0], np.random.default_rng(3)
    x, f = number.normal(size=(2, 5, 8)).astype(np.float32)
    small, large = (access.write(c * x, f, {}) / c for c in (np.float32(1e-2), np.float32(1e2)))
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-5)
    # |x'|^2 = |x|^2 (1 + alpha^2 m^2), since the step is orthogonal to x.
    r = x / np.sqrt((x**2).mean(-1, keepdims=True))
    gates = sigmoid(r @ np.asarray(access.into_gates[...]) + np.asarray(access.gate_shift[...]))
    m = (softmax(np.asarray(access.gate_logits[...])) * gates).sum(-1)
    growth = 1 + (float(access.alpha[...]) * m) ** 2
    got = access.write(x, f, {})
    np.testing.assert_allclose((got**2).sum(-1) / (x**2).sum(-1), growth, rtol=1e-5)


def test_nag_starts_with_steps_that_shrink_with_the_root_of_the_depth() -> None:
    layers = get_variant("nag").resolve("decoder", num_decoder_layers=3).stacks[0][1].layers
    starts = [dict(site.starts)["step_size"] for sites in layers for site in sites]
    np.testing.assert_allclose(starts, [i**-0.5 for i in range(1, 7)])


@pytest.mark.parametrize(
    ("shift", "expected"), [(-30.0, "same"), (0.0, "projected"), (30.0, "reflected")]
)
def test_delta_learning_keeps_projects_or_reflects(shift: float, expected: str) -> None:
    access = Flow("delta_learning", depth=1, moved=0.0).sites[0][0]
    access.strength_shift[...] = jnp.asarray(shift)
    access.value_shift[...] = jnp.asarray([-30.0])  # v = 0: nothing is written
    x = jnp.asarray([[3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    f = 7.0 * jnp.eye(8)[:1]
    along = {"same": 3.0, "projected": 0.0, "reflected": -3.0}[expected]
    got = access.write(x, f, {"norm_in_scale": 1.0})
    np.testing.assert_allclose(got, x.at[0, 0].set(along), atol=1e-5)


@pytest.mark.parametrize("strength", [0.2, 1.0, 1.9])
def test_delta_learning_starts_at_the_strength_that_is_asked_for(strength: float) -> None:
    flow = Flow(f"delta_learning(strength={strength})", depth=4)
    for site in (site for sites in flow.placement.layers for site in sites):
        assert 2 * sigmoid(dict(site.starts)["strength_shift"]) == pytest.approx(strength)
        assert site.init_gain("o") == site.init_gain("w2") == 0.5
        assert site.init_gain("v") == site.init_gain("w1") == 1.0


def test_multi_gate_residuals_never_outgrow_what_was_written() -> None:
    flow = Flow("multi_gate_residual", depth=12)
    output = np.linalg.norm(flow(), axis=-1)
    written = [np.linalg.norm(x, axis=-1) for x in (flow.x, *flow.branches)]
    assert np.all(output < np.max(written, axis=0))


def test_multi_gate_residuals_start_from_a_mean_and_a_twentieth_at_21_sublayers() -> None:
    flow = Flow("multi_gate_residual", moved=0.0)
    flow()
    np.testing.assert_allclose(flow(), np.mean(flow.carry, axis=0), atol=1e-6)
    for layers, share in ((21, 1 / (np.exp(3) + 1)), (84, 0.5 / (np.exp(3) + 1))):
        placed = get_variant("multi_gate_residual").resolve(
            "decoder", num_decoder_layers=layers, layout="parallel"
        )
        (shifts,) = {site.starts[0][1] for (site,) in placed.stack("decoder").layers[3:]}
        np.testing.assert_allclose(sigmoid(np.asarray(shifts)), [share] * 4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("multi_gate_residual(streams=0)", "must be at least 1"),
        ("laurel(form='other')", "low_rank, weights or both"),
        ("laurel(rank=0)", "must be at least 1"),
        ("geo_norm(decay='none')", "harmonic, root or linear"),
        ("nag(gates=0)", "must be at least 1"),
        ("delta_learning(strength=2)", r"lies in \(0, 2\)"),
    ],
)
def test_an_option_without_sense_is_refused(spec: str, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        get_variant(spec)
