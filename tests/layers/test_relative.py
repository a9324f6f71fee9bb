"""Buckets of distances as the paper has them, and what a table of them gives."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from zoo.layers import weight
from zoo.layers.relative import RelativeBias, buckets_of_distances


def test_t5s_thirty_two_buckets_double_their_reach_every_two_or_five() -> None:
    # A decoder's: 16 exact ones, then 16 over log(128 / 16).
    one_way = buckets_of_distances(32, 128)
    assert list(one_way[:17]) == list(range(17))
    assert [int(one_way[distance]) for distance in (18, 19, 31, 32, 64, 127, 128)] == [
        16,
        17,
        21,
        21,
        26,
        31,
        31,
    ]
    # An encoder's, of each direction: 8 exact ones, then 8 over log(128 / 8): two for a doubling.
    both_ways = buckets_of_distances(16, 128)
    assert [int(both_ways[distance]) for distance in (7, 8, 15, 16, 32, 64, 127, 128)] == [
        7,
        8,
        9,
        10,
        12,
        14,
        15,
        15,
    ]


def test_only_an_encoder_tells_before_from_after() -> None:
    positions = jnp.arange(200)
    offsets = (positions[:, None] - positions)[None, None]
    drawn = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
    found = {}
    for bidirectional in (True, False):
        made = weight.bind(RelativeBias(3, buckets=8, max_distance=20), {"table": drawn})
        found[bidirectional] = np.asarray(made(offsets, causal=not bidirectional))
        assert found[bidirectional].shape == (1, 3, 200, 200)
    np.testing.assert_array_equal(found[False][0, :, 0, 5], drawn[0])
    np.testing.assert_array_equal(found[True][0, :, 3, 4], drawn[4 + 1])
    np.testing.assert_array_equal(found[True][0, :, 4, 3], drawn[1])
    # Beyond the farthest distance all are alike.
    np.testing.assert_array_equal(found[True][0, :, 20, 0], found[True][0, :, 199, 0])


def test_one_query_against_earlier_keys_is_a_row_of_the_whole() -> None:
    positions = jnp.arange(30)
    table = {"table": jnp.arange(16.0).reshape(8, 2)}
    made = weight.bind(RelativeBias(2, buckets=8, max_distance=20), table)
    whole = made((positions[:, None] - positions)[None, None], causal=True)
    row = made((positions[17:18, None] - positions)[None, None], causal=True)
    np.testing.assert_array_equal(row, whole[:, :, 17:18])
