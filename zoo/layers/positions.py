"""Positions: sinusoidal tables and rotary embeddings."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


def sinusoidal(positions: jax.Array, d_model: int, *, halves: bool = False) -> jax.Array:
    """The original Transformer's sines and cosines (1706.03762, section 3.5).

    [batch, length] int32 to [batch, length, d_model] float32: interleaved as in the paper, or
    with `halves` all sines before all cosines, as tensor2tensor and Marian have them.
    """
    half = jnp.arange(0, d_model, 2, dtype=jnp.float32)
    angles = positions[..., None].astype(jnp.float32) / 10000.0 ** (half / d_model)
    table = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    table = table.swapaxes(-1, -2) if halves else table
    return table.reshape(*positions.shape, -1)[..., :d_model]


@dataclasses.dataclass(frozen=True)
class Rotary:
    """The turns of a call (RoFormer, 2104.09864); a pytree.

    Attributes:
        cos, sin: [batch, 1, length, width / 2] float32, the first `width` of a head being turned.
        interleaved: whether the pairs are (2i, 2i + 1) instead of (i, i + width / 2).
    """

    cos: jax.Array
    sin: jax.Array
    interleaved: bool = dataclasses.field(default=False, metadata={"static": True})


jax.tree_util.register_dataclass(Rotary)


def rotary_tables(
    positions: jax.Array, width: int, theta: float, *, interleaved: bool = False
) -> Rotary:
    """The turns of [batch, length] positions for the first `width` of each head."""
    frequencies = theta ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angles = positions[:, None, :, None].astype(jnp.float32) * frequencies
    return Rotary(jnp.cos(angles), jnp.sin(angles), interleaved)


def rotate(x_bhtd: jax.Array, rotary: Rotary) -> jax.Array:
    """Turn every pair of the first part of each head by its position's angle."""
    cos, sin = rotary.cos, rotary.sin
    width = 2 * cos.shape[-1]
    x, rest = x_bhtd[..., :width].astype(jnp.float32), x_bhtd[..., width:]
    if rotary.interleaved:
        first, second = x[..., ::2], x[..., 1::2]
        pairs = [first * cos - second * sin, second * cos + first * sin]
        turned = jnp.stack(pairs, axis=-1).reshape(x.shape)
    else:
        first, second = jnp.split(x, 2, axis=-1)
        turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    turned = turned.astype(x_bhtd.dtype)
    return jnp.concatenate([turned, rest], axis=-1) if rest.shape[-1] else turned
