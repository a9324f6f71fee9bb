"""Positions: sinusoidal tables and rotary embeddings."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def sinusoidal(positions: jax.Array, d_model: int) -> jax.Array:
    """The original Transformer's interleaved sines and cosines (1706.03762, section 3.5).

    [batch, length] int32 to [batch, length, d_model] float32.
    """
    half = jnp.arange(0, d_model, 2, dtype=jnp.float32)
    angles = positions[..., None].astype(jnp.float32) / 10000.0 ** (half / d_model)
    table = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return table.reshape(*positions.shape, -1)[..., :d_model]


def rotary_tables(positions: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """(cos, sin), each [batch, 1, length, head_dim / 2] float32 (RoFormer, 2104.09864)."""
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angles = positions[:, None, :, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x_bhtd: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turn the half-split pairs (i, i + head_dim / 2) of every head by its position's angle."""
    cos, sin = tables
    first, second = jnp.split(x_bhtd.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_bhtd.dtype)
