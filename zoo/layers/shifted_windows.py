"""Attention within the windows of a grid, which move from layer to layer.

Shifted windows: Swin Transformer, 2103.14030, section 3.2. Biases that a small network makes of
how far apart two tokens stand: Swin Transformer V2, 2111.09883, section 3.3.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.layers.attention import Attention, Scope
from zoo.layers.linear import Linear

Array = np.ndarray[Any, Any]

# Of the network behind the biases, and the largest of them (2111.09883 and the authors' code).
_HIDDEN, _LARGEST_BIAS = 512, 16.0
# The farthest token of a window stands at this coordinate before the logarithm (section 3.3).
_FARTHEST = 8.0


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a square grid of tokens, row by row, falls into square windows.

    Where windows do not cover the grid evenly, zeros stand below it and to its right; they are
    attended to like tokens, as in the authors' code and in transformers.

    Attributes:
        side: of the grid, in tokens.
        window: side of a window, in tokens.
        shift: tokens by which the windows stand further down and right; what is cut off at one
            edge shares windows with the opposite one, and neither sees the other.
        trained: side of the windows for which the biases were trained, 0 where it is `window`.
    """

    side: int
    window: int
    shift: int = 0
    trained: int = 0

    @property
    def padded(self) -> int:
        """Side of the grid with its zeros."""
        return -(-self.side // self.window) * self.window

    def split(self, x: jax.Array) -> jax.Array:
        """[batch, side x side, width] to [batch x windows, window x window, width]."""
        batch, _, width = x.shape
        grid = x.reshape(batch, self.side, self.side, width)
        more = self.padded - self.side
        if more:
            grid = jnp.pad(grid, ((0, 0), (0, more), (0, more), (0, 0)))
        if self.shift:
            grid = jnp.roll(grid, (-self.shift, -self.shift), axis=(1, 2))
        across = self.padded // self.window
        apart = grid.reshape(batch, across, self.window, across, self.window, width)
        return apart.transpose(0, 1, 3, 2, 4, 5).reshape(-1, self.window**2, width)

    def join(self, windows: jax.Array) -> jax.Array:
        """What `split` gave, back as [batch, side x side, width]."""
        across, width = self.padded // self.window, windows.shape[-1]
        apart = windows.reshape(-1, across, across, self.window, self.window, width)
        grid = apart.transpose(0, 1, 3, 2, 4, 5).reshape(-1, self.padded, self.padded, width)
        if self.shift:
            grid = jnp.roll(grid, (self.shift, self.shift), axis=(1, 2))
        return grid[:, : self.side, : self.side].reshape(-1, self.side**2, width)

    def keep(self) -> Array | None:
        """[windows, 1, tokens, tokens] bool of the pairs that may see each other; None for all.

        The published code adds a large negative number to the others' scores instead.
        """
        if not self.shift:
            return None
        places = np.arange(self.padded)
        # Behind the roll: what stood here, the row of windows that was cut, what came around.
        cuts = self.padded - np.array([self.window, self.shift])
        part = np.searchsorted(cuts, places, side="right")
        parts = (3 * part[:, None] + part).reshape(
            self.padded // self.window, self.window, self.padded // self.window, self.window
        )
        own = parts.transpose(0, 2, 1, 3).reshape(-1, 1, self.window**2)
        same: Array = own[..., :, None] == own[..., None, :]
        return same

    def coordinates(self) -> Array:
        """[(2 window - 1)^2, 2] float32: every way from key to query, rows and columns apart.

        sign(d) log2(1 + |d|) / log2(8) with d from -8 to 8 at the edges of a window (eq. 4).
        """
        steps = np.arange(1 - self.window, self.window, dtype=np.float64)
        farthest = max((self.trained or self.window) - 1, 1)
        far = _FARTHEST * steps / farthest
        spaced = np.sign(far) * np.log2(1.0 + np.abs(far)) / np.log2(_FARTHEST)
        rows, columns = np.meshgrid(spaced, spaced, indexing="ij")
        return np.stack([rows, columns], axis=-1).reshape(-1, 2).astype(np.float32)

    def ways(self) -> Array:
        """[window^2, window^2] of the row of `coordinates` that each query and key have."""
        rows, columns = np.divmod(np.arange(self.window**2), self.window)
        down, right = (each[:, None] - each + self.window - 1 for each in (rows, columns))
        way: Array = down * (2 * self.window - 1) + right
        return way


class ContinuousBias(nnx.Module):
    """A number for each head and each way between two tokens, from 0 to 16, made by an MLP."""

    def __init__(self, num_heads: int, windows: Windows) -> None:
        self.windows = windows
        into, out = ("coordinates", "relative_hidden"), ("relative_hidden", "heads")
        self.hidden = Linear(2, _HIDDEN, role="relative", axes=into, bias=True)
        self.out = Linear(_HIDDEN, num_heads, role="relative", axes=out, bias=False)

    def __call__(self) -> jax.Array:
        """[1, heads, tokens, tokens] float32, to add to the scores of every window."""
        hidden = jax.nn.relu(self.hidden(jnp.asarray(self.windows.coordinates())))
        table = _LARGEST_BIAS * jax.nn.sigmoid(self.out(hidden))
        return table[self.windows.ways()].transpose(2, 0, 1)[None]


class WindowAttention(nnx.Module):
    """Attention of every window to itself, with such biases."""

    def __init__(self, attention: Attention, windows: Windows) -> None:
        self.windows = windows
        self.attention = attention
        self.relative = ContinuousBias(attention.num_heads, windows)

    def __call__(
        self, x: jax.Array, scope: Scope, *, window: None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """[batch, side x side, d_model] to the same shape; `key` turns attention dropout on.

        Args:
            scope, window: those of the stack, in which a token of a grid sees every other.
        """
        mixed = self.attention(self.windows.split(x), self._scope(len(x)), key=key)
        return self.windows.join(mixed)

    def weights(self, x: jax.Array, scope: Scope, *, window: None = None) -> jax.Array:
        """The softmax of a call, [batch x windows, heads, window^2, window^2] float32."""
        return self.attention.weights(self.windows.split(x), self._scope(len(x)))

    def _scope(self, batch: int) -> Scope:
        """Of the windows of some images, one image after the other."""
        keep = self.windows.keep()
        mask = None
        if keep is not None:
            every = jnp.broadcast_to(jnp.asarray(keep), (batch, *keep.shape))
            mask = every.reshape(-1, *keep.shape[1:])
        return Scope(causal=False, mask=mask, bias=self.relative())
