"""Relative position bias: how far apart a query and a key stand, added to their score."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.layers import weight


class RelativeBias(nnx.Module):
    """A learned number per head for every bucket of distances (T5, 1910.10683, section 2.1).

    Short distances have a bucket each; longer ones share buckets that widen with the logarithm of
    the distance up to `max_distance`, beyond which all share the last.
    """

    def __init__(self, num_heads: int, *, buckets: int, max_distance: int) -> None:
        """Make the table, zero at the start."""
        self.max_distance = max_distance
        self.table = weight.array(
            "relative", (buckets, num_heads), ("buckets", "heads"), kind="bias"
        )

    def __call__(self, offsets: jax.Array, *, causal: bool) -> jax.Array:
        """Distances to biases.

        Args:
            offsets: [batch or 1, 1, length, source length] int32, query - key.
            causal: keys after the query count as at distance 0; otherwise half of the buckets
                are for them.

        Returns:
            [batch or 1, heads, length, source length] float32.
        """
        table = self.table[...]
        directed = len(table) if causal else len(table) // 2
        distances = jnp.maximum(offsets, 0) if causal else jnp.abs(offsets)
        spread = jnp.asarray(buckets_of_distances(directed, self.max_distance))
        chosen = spread[jnp.minimum(distances, self.max_distance)]
        if not causal:
            chosen = chosen + directed * (offsets < 0)
        return table[chosen[:, 0]].transpose(0, 3, 1, 2)


def buckets_of_distances(buckets: int, max_distance: int) -> np.ndarray:
    """The buckets of the distances 0, 1, ... max_distance, as int32."""
    exact = buckets // 2
    far = np.arange(exact, max_distance + 1)
    share = np.log(far / exact) / np.log(max_distance / exact)
    wide = exact + (share * (buckets - exact)).astype(np.int32)
    return np.concatenate([np.arange(exact), np.minimum(wide, buckets - 1)]).astype(np.int32)
