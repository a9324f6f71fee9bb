"""What a token can see: never the future, another document, or beyond its window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import one_a_stream
from zoo.errors import ConfigError

FIRST, LAST = 5, 12  # documents end at 5 and 12


def other(ids: jax.Array, *places: int) -> jax.Array:
    """The same tokens, changed at some places."""
    return ids.at[:, jnp.asarray(places)].add(1) % 23


@pytest.mark.parametrize("name", one_a_stream())
def test_a_change_in_the_future_leaves_the_past_alone(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case = tiny(name)
    before, after = (case.run(case.params, x)[0] for x in (ids, other(ids, 7, 9)))
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.abs(before[:, 7:] - after[:, 7:]).max(axis=-1).min() > 1e-4


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_packed_documents_are_separate_documents(
    positions: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case = tiny(positions=positions)
    segments = jnp.asarray([[0] * FIRST + [1] * (LAST - FIRST)] * 2)
    places = jnp.asarray([[*range(FIRST), *range(LAST - FIRST)]] * 2, jnp.int32)
    packed, _, _ = case.run(case.params, ids, segment_ids=segments, positions=places)
    first, _, _ = case.run(case.params, ids[:, :FIRST])
    second, _, _ = case.run(case.params, ids[:, FIRST:])
    np.testing.assert_allclose(packed, jnp.concatenate([first, second], axis=1), atol=2e-6)
    leaky, _, _ = case.run(case.params, ids, positions=places)
    assert np.abs(leaky - packed)[:, FIRST:].max() > 1e-3


def test_masked_tokens_are_not_seen(tiny: Callable[..., Any], ids: jax.Array) -> None:
    case = tiny()
    mask = jnp.ones_like(ids).at[:, 3].set(0)
    before, after = (case.run(case.params, x, attention_mask=mask)[0] for x in (ids, other(ids, 3)))
    unaffected = [place for place in range(LAST) if place != 3]
    np.testing.assert_array_equal(before[:, unaffected], after[:, unaffected])
    full, _, _ = case.run(case.params, ids, attention_mask=jnp.ones_like(ids, bool))
    np.testing.assert_allclose(full, case.run(case.params, ids)[0], atol=1e-6)


def test_left_padding_gives_the_same_as_none(tiny: Callable[..., Any], ids: jax.Array) -> None:
    case, pad = tiny(), 4
    short = ids[:, : LAST - pad]
    padded = jnp.concatenate([jnp.zeros((2, pad), jnp.int32), short], axis=1)
    mask = jnp.arange(LAST)[None] >= pad
    places = jnp.maximum(jnp.arange(LAST, dtype=jnp.int32)[None] - pad, 0)
    got, logits, _ = case.run(
        case.params, padded, attention_mask=jnp.broadcast_to(mask, (2, LAST)), positions=places
    )
    np.testing.assert_allclose(got[:, pad:], case.run(case.params, short)[0], atol=2e-6)
    assert np.isfinite(logits).all()  # rows that see nothing


def test_a_window_reaches_its_length_per_layer_and_no_further(
    tiny: Callable[..., Any], ids: jax.Array
) -> None:
    layers, window = 2, 3
    case = tiny(num_layers=layers, window=window)
    before, after = (case.run(case.params, x)[0] for x in (ids, other(ids, 2)))
    reach = 2 + layers * (window - 1)  # the last position that hears of place 2
    difference = np.abs(before - after).max(axis=(0, 2))
    assert np.all(difference[2 : reach + 1] > 1e-5)
    np.testing.assert_array_equal(difference[reach + 1 :], 0.0)
    free = tiny(num_layers=layers, window=window, window_pattern="LG")
    difference = np.abs(
        free.run(free.params, ids)[0] - free.run(free.params, other(ids, 2))[0]
    ).max(axis=(0, 2))
    assert np.all(difference[2:] > 1e-6)  # one global layer carries it to the end


def test_the_longest_sequence_is_stated(tiny: Callable[..., Any]) -> None:
    model = tiny().model
    with pytest.raises(ConfigError, match=r"length = 13 is longer than max_length = 12"):
        model(jnp.zeros((1, 13), jnp.int32))
    with pytest.raises(ConfigError, match=r"tokens of shape \(3,\); a model takes \[batch"):
        model(jnp.zeros(3, jnp.int32))
    with pytest.raises(ConfigError, match="token_type_ids"):
        model(jnp.zeros((1, 3), jnp.int32), token_type_ids=jnp.zeros((1, 3), jnp.int32))
