"""The protocol between a stack and what flows along it.

A stack opens a stream on the embedding, every sublayer reads its input from it
and writes its branch back, and the stack closes it on the way to the head. The
plain stream carries x alone; others carry more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from zoo.layers.norms import NormSpec
from zoo.variants.placement import Site

Carry = Any  # a pytree of arrays; [batch, length, d_model] for the plain stream


class StreamSite(Protocol):
    """A sublayer's access to the stream (an NNX module, it may hold weights)."""

    def read(self, carry: Carry) -> jax.Array:
        """The sublayer's input, [batch, length, d_model]."""

    def write(
        self,
        carry: Carry,
        branch: jax.Array,
        numbers: Mapping[str, Any],
        *,
        keep: jax.Array | None = None,
        taps: dict[str, jax.Array] | None = None,
    ) -> Carry:
        """Put the branch back.

        Args:
            numbers: `skip` and `branch`, the constant multipliers of this layer.
            keep: factor on the branch, broadcastable to it (stochastic depth).
            taps: filled with measurements when given.
        """


@dataclasses.dataclass(frozen=True)
class Stream:
    """A kind of stream: how to open, read, write and close it."""

    site: Callable[[Site, int, NormSpec], StreamSite]
    open: Callable[[jax.Array], Carry]
    close: Callable[[Carry], jax.Array]
