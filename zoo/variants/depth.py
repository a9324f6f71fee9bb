"""A buffer of a stack's past outputs, of one size for all layers so that they scan."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def opened(x: jax.Array, slots: int) -> jax.Array:
    """[slots, *x.shape] with x in slot 0 and zeros in the others."""
    return jnp.zeros((slots, *x.shape), x.dtype).at[0].set(x)


def stored(buffer: jax.Array, slot: Any, x: jax.Array) -> jax.Array:
    """The buffer with x in `slot`, a number of the site: a float, or one traced over layers."""
    index = jnp.asarray(slot).astype(jnp.int32)
    return jax.lax.dynamic_update_index_in_dim(buffer, x, index, 0)


def blended(weights: jax.Array, buffer: jax.Array) -> jax.Array:
    """sum_j w_j buffer_j, summed in float32; exactly buffer_i where w is one-hot."""
    total = jnp.tensordot(
        weights.astype(buffer.dtype),
        buffer,
        axes=1,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return total.astype(buffer.dtype)
