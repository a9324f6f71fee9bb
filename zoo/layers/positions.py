"""Positions: sinusoidal tables and rotary embeddings."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp


def sinusoidal(
    positions: jax.Array, d_model: int, kind: str = "sinusoidal", *, first: int = 0
) -> jax.Array:
    """The original Transformer's sines and cosines (1706.03762, section 3.5).

    [batch, length] int32 to [batch, length, d_model] float32.

    Args:
        kind: `sinusoidal`, interleaved as in the paper; `sinusoidal_halves`, all sines before all
            cosines (Marian); `sinusoidal_fairseq`, in halves too, whose slowest wave is 10000
            times the fastest (tensor2tensor) and which adds nothing to tokens that are not counted.
        first: position of the first token; those that are not counted stand one before it.
    """
    if kind == "sinusoidal_fairseq":
        # Steps in the order of fairseq, for angles that are rounded as there.
        step = math.log(10000.0) / (d_model // 2 - 1)
        frequencies = jnp.exp(jnp.arange(d_model // 2, dtype=jnp.float32) * -step)
        angles = positions[..., None].astype(jnp.float32) * frequencies
        table = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        return jnp.where(positions[..., None] == first - 1, 0.0, table)
    half = jnp.arange(0, d_model, 2, dtype=jnp.float32)
    angles = positions[..., None].astype(jnp.float32) / 10000.0 ** (half / d_model)
    table = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    table = table.swapaxes(-1, -2) if kind == "sinusoidal_halves" else table
    return table.reshape(*positions.shape, -1)[..., :d_model]


@dataclasses.dataclass(frozen=True)
class Rotary:
    """The turns of a call (RoFormer, 2104.09864); a pytree.

    Attributes:
        cos, sin: [batch, 1, length, width / 2] float32, the first `width` of a head being turned;
            where layers turn in several ways, [ways, batch, 1, length, width / 2].
        interleaved: whether the pairs are (2i, 2i + 1) instead of (i, i + width / 2).
    """

    cos: jax.Array
    sin: jax.Array
    interleaved: bool = dataclasses.field(default=False, metadata={"static": True})

    def way(self, index: jax.Array | int) -> Rotary:
        """The turns of the layers of one way."""
        return Rotary(self.cos[index], self.sin[index], self.interleaved)


jax.tree_util.register_dataclass(Rotary)


@dataclasses.dataclass(frozen=True)
class RotaryScaling:
    """How a model of short texts is taken to longer ones: low frequencies are divided.

    Of a pair that turns `n` times in the texts of before, the share that is kept is 0 (linear:
    2306.15595), goes from 0 at n = slow to 1 at n = fast (llama3: as Llama 3.1's code has it), or
    does so along the index of the pair, between those that turn so often (yarn: 2309.00071).

    Attributes:
        factor: what frequencies that are not kept are divided by.
        length: the longest text of before.
        slow, fast: turns.
        truncate: of yarn, whether the two indices are rounded outwards to whole ones.
        amplitude: of yarn, a factor on queries and keys after they are turned.
    """

    kind: Literal["linear", "llama3", "yarn"]
    factor: float
    length: int = 1
    slow: float = 1.0
    fast: float = 4.0
    truncate: bool = True
    amplitude: float = 1.0

    def scaled(self, frequencies: jax.Array, theta: float) -> jax.Array:
        """[width / 2] frequencies of a base to as many lower ones."""
        kept = self._kept(frequencies, theta)
        return frequencies * (kept + (1.0 - kept) / self.factor)

    def _kept(self, frequencies: jax.Array, theta: float) -> jax.Array:
        if self.kind == "linear":
            return jnp.zeros_like(frequencies)
        if self.kind == "llama3":
            turns = self.length * frequencies / (2.0 * math.pi)
            return jnp.clip((turns - self.slow) / (self.fast - self.slow), 0.0, 1.0)
        width = 2 * len(frequencies)
        first, last = (self._index(turns, width, theta) for turns in (self.fast, self.slow))
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        # The published code's bounds; the last pair has the index width / 2 - 1.
        first, last = max(first, 0), min(last, width - 1)
        pairs = jnp.arange(len(frequencies), dtype=jnp.float32)
        return 1.0 - jnp.clip((pairs - first) / ((last - first) or 0.001), 0.0, 1.0)

    def _index(self, turns: float, width: int, theta: float) -> float:
        """Of the pair, in fractions, that turns so often in the longest text of before."""
        return width * math.log(self.length / (turns * 2.0 * math.pi)) / (2.0 * math.log(theta))


def rotary_tables(
    positions: jax.Array,
    width: int,
    theta: float,
    *,
    interleaved: bool = False,
    scaling: RotaryScaling | None = None,
) -> Rotary:
    """The turns of [batch, length] positions for the first `width` of each head."""
    frequencies = theta ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    if scaling is not None:
        frequencies = scaling.scaled(frequencies, theta)
    angles = positions[:, None, :, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if scaling is not None and scaling.amplitude != 1.0:
        cos, sin = cos * scaling.amplitude, sin * scaling.amplitude
    return Rotary(cos, sin, interleaved)


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
