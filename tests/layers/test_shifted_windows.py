"""Windows of a grid, against loops over its tokens."""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.attention import Attention, Scope
from zoo.layers.shifted_windows import ContinuousBias, WindowAttention, Windows

# Covered evenly and not, moved and not.
GRIDS = [
    Windows(6, 3),
    Windows(6, 3, shift=1),
    Windows(7, 3, shift=1),
    Windows(5, 2),
    Windows(4, 4),
]


@pytest.mark.parametrize("windows", GRIDS, ids=str)
def test_a_grid_is_put_together_as_it_was(windows: Windows) -> None:
    x = jax.random.normal(jax.random.key(0), (2, windows.side**2, 5))
    np.testing.assert_array_equal(windows.join(windows.split(x)), x)


@pytest.mark.parametrize("windows", GRIDS, ids=str)
def test_tokens_of_a_window_see_each_other_where_they_were_neighbours(windows: Windows) -> None:
    side = windows.padded
    places = np.stack(np.divmod(np.arange(side**2), side), axis=-1)[None]
    whole = dataclasses.replace(windows, side=side)
    own = np.asarray(whole.split(jnp.asarray(places)))
    # What came around an edge stands a window or more away from what was there.
    apart = np.abs(own[:, :, None] - own[:, None, :]).max(axis=-1)
    keep = windows.keep()
    assert (keep is None) == (windows.shift == 0)
    seen = np.ones_like(apart, bool) if keep is None else keep[:, 0]
    np.testing.assert_array_equal(seen, apart < windows.window)


@pytest.mark.parametrize("windows", [Windows(6, 3), Windows(4, 3, trained=2), Windows(4, 1)])
def test_biases_are_made_of_the_logarithm_of_the_distance(windows: Windows) -> None:
    bias = ContinuousBias(2, windows)
    shapes, _ = weight.split(bias)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    made = np.asarray(weight.bind(bias, params)())
    hidden, out = params["hidden"], params["out"]["kernel"]
    tokens = list(itertools.product(range(windows.window), repeat=2))
    farthest = (windows.trained or windows.window) - 1

    def spaced(steps: int) -> float:
        far = 8.0 * steps / farthest if farthest else 0.0
        return math.copysign(math.log2(1.0 + abs(far)) / 3.0, far)

    for (i, query), (j, key) in itertools.product(enumerate(tokens), enumerate(tokens)):
        way = np.array([spaced(query[0] - key[0]), spaced(query[1] - key[1])])
        inner = np.maximum(way @ hidden["kernel"] + hidden["bias"], 0.0)
        want = 16.0 / (1.0 + np.exp(-(inner @ out)))
        np.testing.assert_allclose(made[0, :, i, j], want, rtol=2e-5, atol=2e-5)


def test_a_token_moves_what_its_window_gives_and_nothing_else() -> None:
    windows = Windows(6, 3, shift=1)
    attention = Attention(
        4, num_heads=2, num_kv_heads=2, head_dim=2, bias="qvo", qk_norm=None, inner_norm=None
    )
    assert [hasattr(each, "bias") for each in (attention.q, attention.k, attention.v)] == [
        True,
        False,
        True,
    ]
    module = WindowAttention(attention, windows)
    shapes, _ = weight.split(module)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    module = weight.bind(module, params)
    scope = Scope(causal=False)
    x = jax.random.normal(jax.random.key(0), (1, 36, 4))
    moved = module(x.at[0, 6 * 2 + 3].add(1.0), scope) - module(x, scope)
    changed = np.abs(np.asarray(moved)[0]).max(axis=-1).reshape(6, 6) > 1e-6
    # Windows start at rows and columns 1 and 4; the token stands in row 2, column 3.
    want = np.zeros((6, 6), bool)
    want[1:4, 1:4] = True
    np.testing.assert_array_equal(changed, want)
    assert module.weights(x, scope).shape == (4, 2, 9, 9)
