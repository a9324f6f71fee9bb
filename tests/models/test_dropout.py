"""Dropout and stochastic depth: off without a key, repeatable with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from zoo.layers import weight

RATES = ("dropout", "embedding_dropout", "attention_dropout", "stochastic_depth")
KEY = jax.random.key(7)


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_acts_with_a_key_alone_and_repeats_with_the_same_key(
    rate: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case, plain = tiny(**{rate: 0.4}), tiny()
    deterministic, _, _ = case.run(plain.params, ids)
    np.testing.assert_array_equal(deterministic, plain.run(plain.params, ids)[0])
    first, again, other = (
        case.run(plain.params, ids, dropout_key=key)[0] for key in (KEY, KEY, jax.random.key(8))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - deterministic).max() > 1e-3
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("head", ["sequence_classification", "token_classification"])
def test_a_classifier_s_features_are_dropped_and_keep_their_mean(
    head: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case, draws = tiny(architecture="encoder", head=head, dropout=0.25), 2000
    hidden = case.run(case.params, ids)[0]
    model = weight.bind(case.model, case.params)
    keys = jax.random.split(KEY, draws)
    logits = jax.jit(jax.vmap(lambda key: model.logits(hidden, None, key)))(keys)
    spread = np.std(logits, axis=0)
    assert spread.min() > 1e-3
    # The mean of so many draws is known to spread / sqrt(draws); 5 of these for 50 numbers.
    error = np.abs(np.mean(logits, axis=0) - model.logits(hidden))
    assert (error < 5 * spread / np.sqrt(draws)).all()


def test_without_rates_training_is_evaluation(tiny: Callable[..., Any], ids: jax.Array) -> None:
    case = tiny()
    train, evaluation = (case.run(case.params, ids, dropout_key=key)[0] for key in (KEY, None))
    np.testing.assert_array_equal(train, evaluation)


@pytest.mark.parametrize("name", ["post_norm", "mix_norm(fraction=0.5)"])
def test_scanned_and_unrolled_layers_drop_the_same(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    rates = dict.fromkeys(RATES, 0.3)
    scanned, unrolled = (tiny(name, unroll=unroll, **rates) for unroll in (False, True))
    a, b = (case.run(scanned.params, ids, dropout_key=KEY)[0] for case in (scanned, unrolled))
    np.testing.assert_allclose(a, b, atol=1e-5)


def branches(case: Any, ids: jax.Array, key: jax.Array | None) -> np.ndarray:
    """[layers, sublayers] size of each branch over its skip."""
    return np.asarray(case.run(case.params, ids, dropout_key=key)[2]["branch_skip_ratio"])


def test_stochastic_depth_leaves_whole_branches_out_more_often_further_up(
    tiny: Callable[..., Any], ids: jax.Array
) -> None:
    rate, draws = 0.6, 200
    case = tiny("pre_norm", num_layers=3, stochastic_depth=rate)
    one = ids[:1]  # a branch is left out per example
    ratios = np.stack([branches(case, one, jax.random.key(seed)) for seed in range(draws)])
    share = (ratios == 0.0).mean(axis=0)
    want = np.asarray([0.0, rate / 2, rate])[:, None]
    assert np.all(share[0] == 0.0)
    # Five standard errors of a binomial share.
    assert np.all(np.abs(share - want) <= 5 * np.sqrt(want * (1 - want) / draws))
    # Sublayers of a layer are drawn apart.
    assert np.any((ratios[:, 2, 0] == 0.0) != (ratios[:, 2, 1] == 0.0))
    # What is kept is scaled up, so that the expectation stays. The first branch of layer 1
    # sees an input that nothing has touched.
    kept = ratios[:, 1, 0][ratios[:, 1, 0] > 0]
    np.testing.assert_allclose(kept, branches(case, one, None)[1, 0] / (1 - rate / 2), rtol=1e-5)


def test_examples_of_a_batch_lose_different_branches(tiny: Callable[..., Any]) -> None:
    case = tiny("pre_norm", stochastic_depth=0.6)
    same = jax.numpy.ones((16, 6), jax.numpy.int32)
    hidden = case.run(case.params, same, dropout_key=KEY)[0]
    assert len(np.unique(np.asarray(hidden[:, 0, 0]))) > 1


def test_layers_and_sublayers_drop_different_units(
    tiny: Callable[..., Any], ids: jax.Array
) -> None:
    # Every branch writes the same small constant, so its size counts the units that are kept;
    # the stream under it moves by a thousandth.
    case = tiny("pre_norm", dropout=0.5)

    def constant(declared: weight.Weight, array: jax.Array) -> jax.Array:
        if declared.role not in ("o", "w2"):
            return array
        return array * 0 + (1e-3 if declared.kind == "bias" else 0.0)

    params = weight.map_weights(constant, case.weights, case.params)
    without, ratios = (
        np.ravel(case.run(params, ids, dropout_key=key)[2]["branch_skip_ratio"])
        for key in (None, KEY)
    )
    np.testing.assert_allclose(without, without[0], rtol=5e-3)
    apart = np.abs(ratios[:, None] / ratios[None, :] - 1)[~np.eye(6, dtype=bool)]
    assert (apart > 5e-3).mean() > 0.75
