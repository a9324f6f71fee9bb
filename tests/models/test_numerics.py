"""Where numbers go wrong, and how far bfloat16 is from float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import one_a_stream
from zoo.layers import weight


@pytest.mark.parametrize("name", ["post_norm", "pre_norm", "mix_norm(fraction=0.5)"])
@pytest.mark.parametrize(("sublayer", "role"), [(0, "o"), (1, "w2")])
def test_the_finite_tap_names_the_first_bad_sublayer(
    name: str, sublayer: int, role: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case, bad = tiny(name, num_layers=4), 2

    def poison(declared: weight.Weight, array: jax.Array) -> jax.Array:
        if declared.role != role or declared.kind != "matrix":
            return array
        layers = jnp.asarray(declared.layers or range(0))
        return jnp.where((layers == bad)[:, None, None], jnp.nan, array)

    finite = case.run(weight.map_weights(poison, case.weights, case.params), ids)[2]["finite"]
    want = np.arange(4 * 2).reshape(4, 2) < 2 * bad + sublayer
    np.testing.assert_array_equal(finite, want)


@pytest.mark.parametrize("name", one_a_stream())
def test_bfloat16_is_close_to_float32(name: str, tiny: Callable[..., Any], ids: jax.Array) -> None:
    case, half = tiny(name), tiny(name, dtype="bfloat16")
    want, want_logits, _ = case.run(case.params, ids)
    got, logits, _ = half.run(case.params, ids)
    assert got.dtype == jnp.bfloat16
    assert logits.dtype == jnp.float32
    # Six sublayers round about eight times each, by at most 2^-9 relative: a random walk of 48
    # such steps is sqrt(48) 2^-9 long, and the largest of some hundred numbers is within four.
    bound = 4 * 48**0.5 * 2**-9
    for rounded, exact in ((got, want), (logits, want_logits)):
        difference = np.abs(np.asarray(rounded, np.float32) - np.asarray(exact)).max()
        assert 0.0 < difference < bound * np.abs(exact).max()


@pytest.mark.parametrize("tied", [False, True])
def test_bfloat16_logits_are_summed_and_kept_in_float32(
    tied: bool, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case = tiny(dtype="bfloat16", tie_embeddings=tied)
    hidden, logits, _ = case.run(case.params, ids)
    head = case.params["embedding"]["tokens"].T if tied else case.params["head"]["kernel"]
    want = np.asarray(hidden, np.float64) @ np.asarray(head.astype(jnp.bfloat16), np.float64)
    # Products of bfloat16 are exact in float32; what is left is the rounding of 8 sums.
    np.testing.assert_allclose(logits, want, atol=1e-6 * np.abs(want).max())


def test_parameters_stay_float32_when_computing_in_bfloat16(tiny: Callable[..., Any]) -> None:
    case = tiny(dtype="bfloat16")
    params, _ = weight.split(case.model)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_taps_cost_nothing_when_not_asked_for(tiny: Callable[..., Any], ids: jax.Array) -> None:
    model = tiny().model
    hidden, taps = model.measure(ids, taps=None)
    assert jax.tree.leaves(taps) == []
    np.testing.assert_allclose(hidden, model.hidden(ids))
    np.testing.assert_allclose(model.measure(ids)[0], hidden, atol=1e-6)
