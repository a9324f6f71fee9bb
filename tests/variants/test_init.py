"""Initial values: standard deviations by role and layer, biases, gains and multipliers."""

from __future__ import annotations

import functools
import math
from collections import defaultdict

import jax
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.distributions import sample
from zoo.layers.weight import Weight
from zoo.models.config import ModelConfig
from zoo.models.init import initial_params
from zoo.models.transformer import declare, initialiser
from zoo.variants.placement import Multiplier, NormSlot, Placement, Site, StackPlacement
from zoo.variants.registry import list_variants

DEPTH, WIDTH, HIDDEN = 8, 48, 96
XAVIER = {
    **dict.fromkeys("qkvo", math.sqrt(2 / (WIDTH + WIDTH))),
    **dict.fromkeys(("w1", "w2"), math.sqrt(2 / (WIDTH + HIDDEN))),
}
SCALED = 1 / math.sqrt(2 * DEPTH)
# Factors on the base init, from the papers.
FACTORS: dict[str, dict[str, float]] = {
    "post_norm": {},
    "pre_norm": {},
    "pre_norm(scaled_init=True)": {"o": SCALED, "w2": SCALED},
    "deep_norm": dict.fromkeys(("v", "o", "w1", "w2"), (8 * DEPTH) ** -0.25),
    "sub_ln": dict.fromkeys(("v", "o", "w1", "w2"), math.sqrt(math.log(2 * DEPTH))),
    "sandwich_norm": {},
    "peri_norm": {},
    "res_post_norm": {},
    "rezero": {},
    "mix_norm": {},
}


@functools.cache
def drawn(variant: str, **changes: object) -> list[tuple[Weight, np.ndarray]]:
    config = ModelConfig(
        variant=variant,
        d_model=WIDTH,
        d_ff=HIDDEN,
        num_layers=DEPTH,
        num_heads=2,
        vocab_size=64,
        max_length=32,
        gated=True,
        **changes,
    )
    model = declare(config)
    _, weights = weight.split(model)
    params = initialiser(model)(jax.random.key(0))
    pairs = weight.map_weights(lambda w, a: (w, np.asarray(a, np.float64)), weights, params)
    return jax.tree.leaves(pairs, is_leaf=lambda leaf: isinstance(leaf, tuple))


def assert_std(samples: np.ndarray, want: float) -> None:
    """Within five standard errors, sqrt(1 / 2n) of the deviation itself."""
    assert samples.std() == pytest.approx(want, rel=5 * math.sqrt(1 / (2 * samples.size)))
    assert abs(samples.mean()) < 5 * want / math.sqrt(samples.size)


@pytest.mark.parametrize("variant", FACTORS)
def test_every_role_in_every_layer_has_the_deviation_of_its_paper(variant: str) -> None:
    pooled: dict[str, list[np.ndarray]] = defaultdict(list)
    for declared, array in drawn(variant):
        if declared.kind != "matrix" or declared.layers is None:
            continue
        want = XAVIER[declared.role] * FACTORS[variant].get(declared.role, 1.0)
        for slice_ in array:
            assert_std(slice_, want)
        pooled[declared.role].append(array.ravel())
    assert set(pooled) == set(XAVIER)
    for role, arrays in pooled.items():
        samples = np.concatenate(arrays)
        assert_std(samples, XAVIER[role] * FACTORS[variant].get(role, 1.0))
    # The gate is a w1 too, and counts as many numbers again.
    assert sum(a.size for a in pooled["w1"]) == 2 * sum(a.size for a in pooled["w2"])


def base_deviations(kind: str | None) -> dict[str, float]:
    """By role, at d_ff = 4 d_model."""
    wide = 4 * WIDTH
    match kind:
        case "normal":
            return dict.fromkeys(XAVIER, ModelConfig().init_std)
        case "lecun_normal":
            return dict.fromkeys(XAVIER, WIDTH**-0.5) | {"w2": wide**-0.5}
        case "spectral_normal":
            return {}  # by singular values: tests/variants/test_initialised.py
    return {**XAVIER, **dict.fromkeys(("w1", "w2"), math.sqrt(2 / (WIDTH + wide)))}


@pytest.mark.parametrize("variant", list_variants())
def test_every_weight_starts_where_its_placement_says(variant: str) -> None:
    model = declare(
        ModelConfig(variant=variant, d_model=WIDTH, num_layers=DEPTH, num_heads=2, max_length=32)
    )
    stack = model.placement.stack("decoder")
    base = base_deviations(model.placement.base_init)
    _, weights = weight.split(model)
    params = initialiser(model)(jax.random.key(0))
    for declared, array in zip(jax.tree.leaves(weights), jax.tree.leaves(params), strict=True):
        if declared.kind == "bias":
            np.testing.assert_array_equal(array, 0.0)
        if declared.layers is None or declared.sublayer is None:
            continue
        for layer, slice_ in zip(declared.layers, np.asarray(array, np.float64), strict=True):
            (site,) = [s for s in stack.layers[layer] if s.sublayer == declared.sublayer]
            start = site.initial(declared)
            if declared.kind == "matrix" and declared.role in base:
                if "sphere" in model.placement.hooks:
                    continue  # unit vectors: tests/variants/test_ngpt.py
                if start == 0.0:
                    np.testing.assert_array_equal(slice_, 0.0)
                else:
                    assert_std(slice_, base[declared.role] * start)
            elif declared.kind in ("gain", "multiplier"):
                np.testing.assert_allclose(slice_.ravel(), start, rtol=1e-6)


@pytest.mark.parametrize("variant", FACTORS)
def test_gains_start_at_one_biases_at_zero_and_rezero_at_zero(variant: str) -> None:
    for declared, array in drawn(variant):
        match declared.kind:
            case "gain":
                np.testing.assert_array_equal(array, 1.0)
            case "bias":
                np.testing.assert_array_equal(array, 0.0)
            case "multiplier":
                assert (variant, declared.role) == ("rezero", "branch")
                np.testing.assert_array_equal(array, 0.0)


def test_embeddings_have_the_deviation_that_is_asked_for() -> None:
    for changes, want in [
        ({}, WIDTH**-0.5),
        ({"init": "normal"}, 0.02),
        ({"init": "normal", "init_std": 0.1}, 0.1),
        ({"embedding_std": 0.5}, 0.5),
    ]:
        tables = [array for w, array in drawn("deep_norm", **changes) if w.kind == "embedding"]
        assert len(tables) == 2
        for table in tables:
            assert_std(table, want)


def test_normal_init_ignores_fans_and_keeps_the_factors() -> None:
    for declared, array in drawn("deep_norm", init="normal", init_std=0.05, tie_embeddings=False):
        if declared.kind == "matrix":
            assert_std(array, 0.05 * FACTORS["deep_norm"].get(declared.role, 1.0))


def test_queries_keys_and_values_can_be_drawn_as_one_matrix() -> None:
    fused = math.sqrt(2 / (WIDTH + 3 * WIDTH))  # Glorot's deviation of a WIDTH x 3 WIDTH matrix
    for declared, array in drawn("deep_norm", qkv_gain=2**-0.5):
        if declared.kind == "matrix" and declared.layers is not None:
            base = fused if declared.role in ("q", "k", "v") else XAVIER[declared.role]
            assert_std(array, base * FACTORS["deep_norm"].get(declared.role, 1.0))


@pytest.mark.optimized
@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 33, 48), (8, 1, 3), (0, 4)])
def test_a_sample_has_the_bits_of_its_own_shape(shape: tuple[int, ...]) -> None:
    key = jax.random.key(5)
    for draw in (jax.random.normal, jax.random.uniform):
        got, want = sample(draw, key, shape), np.asarray(draw(key, shape))
        assert isinstance(got, np.ndarray)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(jax.jit(lambda k, d=draw: sample(d, k, shape))(key), want)


def test_another_generator_draws_the_shape_itself() -> None:
    # Its elements depend on how many there are.
    key = jax.random.key(5, impl="rbg")
    got = sample(jax.random.normal, key, (5, 7))
    np.testing.assert_array_equal(got, jax.random.normal(key, (5, 7)))


def test_uniform_init_has_the_bounds_of_glorot() -> None:
    for declared, array in drawn("post_norm", init="xavier_uniform"):
        if declared.kind == "matrix":
            bound = math.sqrt(6 / (declared.fan_in + declared.fan_out))
            assert 0.98 * bound < np.abs(array).max() <= bound
            assert_std(array, bound / math.sqrt(3))


def test_head_is_drawn_by_its_fans() -> None:
    heads = [a for w, a in drawn("post_norm", tie_embeddings=False) if w.role == "head"]
    assert len(heads) == 1
    assert_std(heads[0], math.sqrt(2 / (WIDTH + 64)))


def test_another_seed_draws_other_numbers_and_the_same_seed_the_same() -> None:
    model = declare(ModelConfig(d_model=8, num_layers=2, num_heads=2))
    draw = initialiser(model)
    first, again, other = (draw(jax.random.key(seed)) for seed in (0, 0, 1))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(first["embedding"]["tokens"] != other["embedding"]["tokens"])
    query, key = (
        first["stack"]["blocks"]["0"]["layers"]["0"]["sublayers"]["0"]["branch"][name]["kernel"]
        for name in "qk"
    )
    assert np.any(query != key)  # weights of one shape are not one draw
    assert np.any(query[0] != query[1])  # nor are layers


def test_factors_follow_the_layer_axis() -> None:
    def site(number: float) -> tuple[Site, ...]:
        return (
            Site(
                "mlp",
                norm_in=NormSlot(number),
                branch=Multiplier(2 * number, learned="scalar"),
                init_gains=(("w1", 10 * number),),
            ),
        )

    stack = StackPlacement(tuple(site(float(n)) for n in range(1, 6)))
    other = StackPlacement(tuple(site(float(-n)) for n in range(1, 6)))
    placement = Placement("mine", (("encoder", other), ("decoder", stack)))
    own = {"layers": range(1, 5, 2), "sublayer": "mlp", "stack": "decoder"}
    weights = {
        "w": Weight("w1", "matrix", ("a", "b"), 200, 300, **own),
        "n": Weight("norm_in", "gain", ("a",), **own),
        "m": Weight("branch", "multiplier", (), **own),
        "e": Weight("emb", "embedding", ("v", "a"), 1000, 20),
    }
    shapes = {
        "w": jax.ShapeDtypeStruct((2, 200, 300), np.float32),
        "n": jax.ShapeDtypeStruct((2, 4), np.float32),
        "m": jax.ShapeDtypeStruct((2,), np.float32),
        "e": jax.ShapeDtypeStruct((1000, 20), np.float32),
    }
    config = ModelConfig(embedding_std=0.1)
    params = initial_params(shapes, weights, config, placement, jax.random.key(0))
    np.testing.assert_array_equal(params["n"], [[2.0] * 4, [4.0] * 4])
    np.testing.assert_array_equal(params["m"], [4.0, 8.0])
    assert_std(np.asarray(params["w"][0], np.float64), 20 * math.sqrt(2 / 500))
    assert_std(np.asarray(params["w"][1], np.float64), 40 * math.sqrt(2 / 500))
    assert_std(np.asarray(params["e"], np.float64), 0.1)


# Deviations at width and hidden width 512, 4 layers: what the papers print, role by role.
LARGE = 512
GLOROT = (2.0 / (LARGE + LARGE)) ** 0.5
LARGE_DEVIATIONS: dict[str, dict[str, float]] = {
    "post_norm": dict.fromkeys(("q", "k", "v", "o", "w1", "w2"), GLOROT),
    "deep_norm": {
        **dict.fromkeys(("q", "k"), GLOROT),
        **dict.fromkeys(("v", "o", "w1", "w2"), GLOROT * 32**-0.25),
    },
    "sub_ln": {
        **dict.fromkeys(("q", "k"), GLOROT),
        **dict.fromkeys(("v", "o", "w1", "w2"), GLOROT * math.log(8) ** 0.5),
    },
    "glm_deep_norm": {
        **dict.fromkeys(("q", "k"), GLOROT),
        **dict.fromkeys(("v", "o", "w1", "w2"), GLOROT * 8**-0.5),
    },
    "t_fixup": {
        **dict.fromkeys(("q", "k"), GLOROT),
        **dict.fromkeys(("v", "o", "w1", "w2"), GLOROT * 0.67 * 4**-0.25),
    },
    "b2t": dict.fromkeys(("q", "k", "v", "o", "w1", "w2"), GLOROT * 4**-0.5),
}


@pytest.mark.parametrize("variant", LARGE_DEVIATIONS)
def test_deviations_are_within_two_per_cent_over_a_million_draws(variant: str) -> None:
    model = declare(
        ModelConfig(
            variant=variant, d_model=LARGE, d_ff=LARGE, num_layers=4, num_heads=4, vocab_size=8
        )
    )
    _, weights = weight.split(model)
    params = initialiser(model)(jax.random.key(0))
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    pairs = zip(jax.tree.leaves(weights), jax.tree.leaves(params), strict=True)
    for own, array in pairs:
        if own.kind == "matrix" and own.role in LARGE_DEVIATIONS[variant]:
            found[own.role].append(np.asarray(array))
    assert set(found) == set(LARGE_DEVIATIONS[variant])
    for role, arrays in found.items():
        draws = np.concatenate([array.ravel() for array in arrays])
        assert draws.size >= 10**6
        assert draws.std() == pytest.approx(LARGE_DEVIATIONS[variant][role], rel=0.02), role
