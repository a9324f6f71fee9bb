"""Token and position embeddings."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.layers import weight
from zoo.layers.positions import sinusoidal

Positions = Literal["learned", "sinusoidal", "rotary", "none"]


class Embedding(nnx.Module):
    """Token embedding, scaled by sqrt(d_model) if asked, plus positions that are added."""

    def __init__(
        self, vocab_size: int, d_model: int, *, positions: Positions, max_length: int, scale: bool
    ) -> None:
        self.scale = d_model**0.5 if scale else 1.0
        self.positions: Positions = positions
        axes = ("vocab", "embed")
        self.tokens = weight.matrix("emb", vocab_size, d_model, axes, kind="embedding")
        if positions == "learned":
            self.table = weight.matrix(
                "pos", max_length, d_model, ("length", "embed"), kind="embedding"
            )

    def __call__(self, input_ids: jax.Array, positions: jax.Array) -> jax.Array:
        """[batch, length] int32 tokens and positions to [batch, length, d_model] float32."""
        x = self.tokens[...][input_ids]
        if self.scale != 1.0:
            x = x * self.scale
        if self.positions == "learned":
            x = x + self.table[...][positions]
        elif self.positions == "sinusoidal":
            x = x + sinusoidal(positions, x.shape[-1])
        return x

    def attend(self, hidden: jax.Array) -> jax.Array:
        """Logits with the tied, unscaled table: [..., d_model] to [..., vocab] float32."""
        table = self.tokens[...].astype(hidden.dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = jax.lax.dot_general(
            flat, table, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
        )
        return logits.reshape(*hidden.shape[:-1], table.shape[0])
