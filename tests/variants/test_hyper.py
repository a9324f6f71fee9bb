"""Streams that are mixed: Hyper-Connections, mHC and Frac-Connections."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.variants.by_hand import IDS, Array, Case, Tree, assert_same, case, norm, run_by_hand
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import update_rules
from zoo.variants.placement import Site
from zoo.variants.registry import get_variant
from zoo.variants.streams import STREAMS
from zoo.variants.streams.base import weighed
from zoo.variants.streams.hyper_connections import mix
from zoo.variants.streams.mhc import sinkhorn

HYPER = ["hyper_connections", "hyper_connections(streams=3, dynamic=False)"]
FRAC = ["frac_connections(fractions=4)", "frac_connections(dynamic=False)"]
MHC = ["mhc(streams=3)", "mhc(init='hy_v4')", "mhc(init='mhc_lite')"]


def coefficients(h: Array, own: Tree, config: Any, reads: int) -> tuple[Array, Array, Array]:
    """A_m, A_r, B of every token, as the authors' algorithm 2 has them."""
    rows = h.shape[-2]
    alpha = np.concatenate([own["read"], own["carry"]], axis=1)
    alpha = np.broadcast_to(alpha, (*h.shape[:2], *alpha.shape)).copy()
    beta = np.broadcast_to(own["write"], h.shape[:-1]).copy()
    if "norm" in own:
        seen = norm(h, own["norm"], config)
        for row in range(rows):
            alpha[:, :, row] += own["alpha_scale"] * np.tanh(seen[:, :, row] @ own["into_alpha"])
            beta[:, :, row] += (
                own["beta_scale"] * np.tanh(seen[:, :, row] @ own["into_beta"])[..., 0]
            )
    return alpha[..., :reads], alpha[..., reads:], beta


def hyper_by_hand(case: Case, params: Tree, streams: int) -> Array:
    def sublayer(h: Array, site: Site, own: Tree, branch: Any) -> Array:
        read, carry, write = coefficients(h, own["mixing"], case.config, 1)
        f = branch(
            norm(np.einsum("blir,blid->blrd", read, h)[:, :, 0], own["norm_in"], case.config)
        )
        return np.einsum("blij,blid->bljd", carry, h) + np.einsum("blj,bld->bljd", write, f)

    return run_by_hand(
        case,
        params,
        open=lambda x: np.stack([x] * streams, axis=2),
        sublayer=sublayer,
        close=lambda h, ends: h.sum(2),
    )


def frac_by_hand(case: Case, params: Tree, m: int) -> Array:
    def sublayer(x: Array, site: Site, own: Tree, branch: Any) -> Array:
        h = x.reshape(*x.shape[:2], m, -1)
        read, carry, write = coefficients(h, own["mixing"], case.config, m)
        u = np.einsum("blij,blid->bljd", read, h).reshape(x.shape)
        f = branch(norm(u, own["norm_in"], case.config)).reshape(h.shape)
        return (np.einsum("blij,blid->bljd", carry, h) + write[..., None] * f).reshape(x.shape)

    return run_by_hand(case, params, open=lambda x: x, sublayer=sublayer, close=lambda x, ends: x)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def logits_by_hand(h: Array, own: Tree, config: Any) -> tuple[Array, Array]:
    flat = h.reshape(*h.shape[:2], -1)
    flat = flat / np.sqrt((flat**2).mean(-1, keepdims=True) + config.norm_eps)
    return flat @ own["kernel"], own["base"]


def sinkhorn_by_hand(logits: Array) -> Array:
    matrix = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True) + 1e-6
    matrix = matrix / (matrix.sum(-2, keepdims=True) + 1e-6)
    for _ in range(19):
        matrix = matrix / (matrix.sum(-1, keepdims=True) + 1e-6)
        matrix = matrix / (matrix.sum(-2, keepdims=True) + 1e-6)
    return matrix


def mhc_by_hand(case: Case, params: Tree, n: int, *, mixes: bool, turned: bool = False) -> Array:
    def sublayer(h: Array, site: Site, own: Tree, branch: Any) -> Array:
        logits, base = logits_by_hand(h, own["mapping"], case.config)
        scale = own["mapping"]["scale"]
        pre = sigmoid(scale[0] * logits[..., :n] + base[:n]) + 1e-6
        post = 2 * sigmoid(scale[1] * logits[..., n : 2 * n] + base[n : 2 * n])
        u = sum(pre[..., j, None] * h[:, :, j] for j in range(n))
        f = branch(norm(u, own["norm_in"], case.config))
        if not mixes:
            return h + (post + 1e-6)[..., None] * f[:, :, None]
        comb = scale[2] * logits[..., 2 * n :] + base[2 * n :]
        comb = sinkhorn_by_hand(comb.reshape(*comb.shape[:-1], n, n))
        comb = comb.swapaxes(-1, -2) if turned else comb
        new = [
            post[..., k, None] * f + sum(comb[..., j, k, None] * h[:, :, j] for j in range(n))
            for k in range(n)
        ]
        return np.stack(new, axis=2)

    def close(h: Array, ends: Tree) -> Array:
        logits, base = logits_by_hand(h, ends["head"], case.config)
        weights = sigmoid(ends["head"]["scale"] * logits + base) + 1e-6
        return (weights[..., None] * h).sum(2)

    return run_by_hand(
        case,
        params,
        open=lambda x: np.stack([x] * n, axis=2),
        sublayer=sublayer,
        close=close,
    )


@pytest.mark.parametrize("spec", HYPER)
def test_hyper_connections_are_their_equations(spec: str) -> None:
    made = case(spec)
    streams = int(get_variant(spec).values["streams"])  # type: ignore[arg-type]
    assert_same(made, hyper_by_hand(made, made.moved, streams))


@pytest.mark.parametrize("spec", FRAC)
def test_frac_connections_are_their_equations(spec: str) -> None:
    made = case(spec)
    fractions = int(get_variant(spec).values["fractions"])  # type: ignore[arg-type]
    assert_same(made, frac_by_hand(made, made.moved, fractions))


@pytest.mark.parametrize("spec", MHC[:2])
def test_mhc_is_its_equations(spec: str) -> None:
    made = case(spec)
    n = int(get_variant(spec).values["streams"])  # type: ignore[arg-type]
    mixes = "hy_v4" not in spec
    assert_same(made, mhc_by_hand(made, made.moved, n, mixes=mixes))


def test_mixing_mhc_streams_the_other_way_round_is_another_function() -> None:
    made = case(MHC[0])
    right = mhc_by_hand(made, made.moved, 3, mixes=True)
    turned = mhc_by_hand(made, made.moved, 3, mixes=True, turned=True)
    # A hundred times the tolerance that the model is held to.
    assert np.abs(right - turned).max() > 3e-3 * np.abs(right).max()


@pytest.mark.parametrize(
    "spec",
    [
        "hyper_connections(streams=4, scaled_init=False)",
        "hyper_connections(streams=3, dynamic=False, scaled_init=False)",
        "hyper_connections(streams=1, scaled_init=False)",
        FRAC[0],
        FRAC[1],
    ],
)
def test_the_start_is_pre_norm(spec: str) -> None:
    made, plain = case(spec), case("pre_norm")
    hidden, _, taps = made.run(made.start, IDS)
    want, _, want_taps = plain.run(plain.start, IDS)
    # The streams themselves are equal to rounding; the final norm of a sum has a smaller eps.
    np.testing.assert_allclose(taps["stream"], want_taps["stream"], atol=2e-6)
    np.testing.assert_allclose(hidden, want, atol=2e-5)


def test_scaled_hyper_connections_start_as_pre_norm_with_smaller_outputs() -> None:
    made, plain = case("hyper_connections"), case("pre_norm")
    smaller = weight.map_weights(
        lambda declared, a: a / 2 if declared.role in ("o", "w2") and a.ndim == 3 else a,
        plain.weights,
        plain.start,
    )
    _, _, taps = made.run(made.start, IDS)
    _, _, want = plain.run(smaller, IDS)
    np.testing.assert_allclose(taps["stream"], want["stream"], atol=2e-6)


@pytest.mark.parametrize("spec", MHC[:2])
def test_mhc_without_its_maps_is_pre_norm(spec: str) -> None:
    made, plain = case(spec), case("pre_norm")

    def unmapped(declared: weight.Weight, array: jax.Array) -> jax.Array:
        return array * 0 if declared.role in ("mapping", "head_read", "mapping_base") else array

    params = weight.map_weights(unmapped, made.weights, made.start)
    _, _, taps = made.run(params, IDS)
    _, _, want = plain.run(plain.start, IDS)
    # 2 sigmoid(0) is 1; the read is n / 2 times x, and its norm has another eps, 1e-5 of 1.
    np.testing.assert_allclose(taps["stream"], want["stream"], atol=1e-4)


def test_permuted_streams_with_permuted_weights_give_permuted_streams() -> None:
    stack = get_variant("hyper_connections").resolve("decoder", num_decoder_layers=1)
    placement = stack.stack("decoder")
    site = STREAMS[placement.stream].site(placement.layers[0][0], placement, 5, NormSpec())
    shapes, _ = weight.split(site)  # type: ignore[type-var]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), shapes)
    order = np.array([2, 0, 3, 1])
    own = params["mixing"]
    turned = own | {
        "read": own["read"][order],
        "write": own["write"][order],
        "carry": own["carry"][order][:, order],
        "into_alpha": jnp.concatenate(
            [own["into_alpha"][:, :1], own["into_alpha"][:, 1:][:, order]], axis=1
        ),
    }
    h = jnp.asarray(rng.normal(size=(1, 2, 4, 5)), jnp.float32)
    f = jnp.asarray(rng.normal(size=(1, 2, 5)), jnp.float32)
    numbers = placement.layers[0][0].numbers()
    bound, other = weight.bind(site, params), weight.bind(site, params | {"mixing": turned})
    np.testing.assert_allclose(
        other.read(h[:, :, order], numbers), bound.read(h, numbers), atol=1e-5
    )
    np.testing.assert_allclose(
        other.write(h[:, :, order], f, numbers),
        bound.write(h, f, numbers)[:, :, order],
        atol=1e-5,
    )


def test_mixtures_are_doubly_stochastic_and_enlarge_nothing() -> None:
    logits = 0.5 * jax.random.normal(jax.random.key(0), (50, 4, 4))
    matrices = np.asarray(sinkhorn(logits), np.float64)
    # The epsilon of the code, 1e-6, and float32.
    np.testing.assert_allclose(matrices.sum(-2), 1.0, atol=2e-6)
    np.testing.assert_allclose(matrices.sum(-1), 1.0, atol=2e-6)
    assert np.linalg.norm(matrices, ord=2, axis=(-2, -1)).max() <= 1 + 2e-6
    product = np.linalg.multi_dot(list(matrices))
    np.testing.assert_allclose(product.sum(0), 1.0, atol=50 * 2e-6)
    even = np.asarray(sinkhorn(jnp.zeros((4, 4))))
    np.testing.assert_allclose(even, 0.25, atol=1e-6)


def test_mixing_keeps_the_sum_of_the_streams() -> None:
    made = case(MHC[0])
    _, _, taps = made.run(made.moved, IDS)
    # The recorded stream is the streams' mean: it moves by the mean of what is written alone.
    before, after = taps["stream"][:, 0], taps["stream"][:, 1]
    np.testing.assert_allclose(after, before + taps["branch"][:, 1], atol=1e-4)


def test_weights_start_where_each_release_has_them() -> None:
    def site(init: str, layer: int = 0) -> dict[str, Any]:
        stack = get_variant(f"mhc(init={init!r})").resolve("decoder", num_decoder_layers=2)
        own = stack.stack("decoder").layers[layer][1]
        return {"drawn": own.init_gain("mapping"), **dict(own.starts)}

    assert site("paper") == {"drawn": 1.0, "mapping_base": (0.0,) * 24, "mapping_scale": 0.01}
    assert site("deepseek_v4")["mapping_scale"] == 1.0
    even = site("hy_v4")["mapping_base"]
    assert sigmoid(np.asarray(even[:4])) == pytest.approx(1 / 4)
    assert even[4:] == (0.0,) * 4
    lite = site("mhc_lite", layer=1)  # its MLP is sublayer 3
    assert lite["drawn"] == 0.0
    assert lite["mapping_base"][:8] == (-1.0, -1.0, -1.0, 1.0) * 2
    assert lite["mapping_base"][8:13] == (0.0, -8.0, -8.0, -8.0, -8.0)
    head = get_variant("mhc(init='hy_v4')").resolve("decoder", num_decoder_layers=1)
    starts = dict(head.stack("decoder").starts)
    assert starts == {"head_read_base": -math.log(3), "head_read_scale": 0.01}


def test_static_weights_are_never_decayed_and_dynamic_ones_are() -> None:
    made = case("hyper_connections")
    rules = update_rules(OptimConfig(), made.weights, made.model.placement)
    decay: dict[str, set[float]] = {}
    for declared, rule in zip(
        jax.tree.leaves(made.weights),
        jax.tree.leaves(rules, is_leaf=lambda leaf: hasattr(leaf, "decay")),
        strict=True,
    ):
        decay.setdefault(declared.role, set()).add(float(np.max(rule.decay)))
    still = ("static_read", "static_carry", "static_write", "dynamic_scale", "mixing_norm")
    assert {role: decay[role] for role in still} == {role: {0.0} for role in still}
    assert decay["mixing"] == {1.0}


def test_reads_take_the_streams_in_turn_over_all_sublayers() -> None:
    stacks = get_variant("hyper_connections").resolve(
        "encoder_decoder", num_encoder_layers=2, num_decoder_layers=2
    )
    turns = [
        dict(site.starts)["static_read"].index(1.0)  # type: ignore[union-attr]
        for layer in stacks.stack("decoder").layers
        for site in layer
    ]
    assert turns == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("spec", ["hyper_connections", "frac_connections", "mhc"])
def test_gradients_are_finite_in_bfloat16(spec: str) -> None:
    made = case(spec, dtype="bfloat16", num_layers=2)

    def loss(params: Tree) -> jax.Array:
        model = weight.bind(made.model, params)
        return jnp.mean(jax.nn.log_softmax(model(IDS))[..., 0])

    value, gradient = jax.jit(jax.value_and_grad(loss))(made.moved)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hyper_connections(streams=0)", "at least 1"),
        ("mhc(streams=1)", "at least 2"),
        ("mhc(init='other')", "deepseek_v4"),
        ("frac_connections(fractions=0)", "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(spec: str, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        get_variant(spec)


def test_fractions_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(VariantError, match="does not divide d_model = 8; use 1, 2, 4 or 8"):
        case("frac_connections(fractions=3)")


def test_derivatives_of_a_mixture_are_those_of_the_sum() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    h, g = (jax.random.normal(key, (2, 3, 4, 5)) for key in keys[:2])
    for shape in ((2, 3, 4, 4), (4, 4)):
        weights = jax.random.normal(keys[2], shape)

        def plainly(weights: jax.Array, h: jax.Array) -> jax.Array:
            return sum(weights[..., i, :, None] * h[..., None, i, :] for i in range(4))  # type: ignore[return-value]

        def both(weights: jax.Array, h: jax.Array = h, g: jax.Array = g) -> Any:
            return [jax.vjp(form, weights, h)[1](g) for form in (mix, plainly)]

        got, want = jax.jit(both)(weights)
        # Sums of at most 30 products of float32.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want)


@pytest.mark.parametrize("spec", ["hyper_connections", "mhc", "frac_connections"])
def test_weights_computed_once_are_those_of_read_and_write(spec: str) -> None:
    stack = get_variant(spec).resolve("decoder", num_decoder_layers=1)
    placement = stack.stack("decoder")
    site = STREAMS[placement.stream].site(placement.layers[0][0], placement, 8, NormSpec())
    shapes, _ = weight.split(site)  # type: ignore[type-var]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), shapes)
    bound, numbers = weight.bind(site, params), placement.layers[0][0].numbers()
    x = jnp.asarray(rng.normal(size=(1, 2, 8)), jnp.float32)
    ends = STREAMS[placement.stream].ends(placement, 8, NormSpec())
    carry = jnp.asarray(rng.normal(size=ends.open(x).shape), jnp.float32)
    once = weighed(bound, carry)
    assert once is not carry
    np.testing.assert_array_equal(bound.read(once, numbers), bound.read(carry, numbers))
    np.testing.assert_array_equal(bound.write(once, x, numbers), bound.write(carry, x, numbers))
