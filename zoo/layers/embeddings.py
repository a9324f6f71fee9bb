"""Token and position embeddings."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.layers import weight
from zoo.layers.linear import Linear
from zoo.layers.positions import sinusoidal

Positions = Literal[
    "learned", "sinusoidal", "sinusoidal_halves", "sinusoidal_fairseq", "rotary", "none"
]
CountPositions = Literal["all", "seen", "unpadded"]


class Embedding(nnx.Module):
    """Token embedding, scaled by sqrt(d_model) if asked, plus positions that are added."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        *,
        positions: Positions,
        max_length: int,
        scale: bool,
        token_width: int | None = None,
        type_vocab_size: int | None = None,
        own_tokens: bool = True,
        first_position: int = 0,
    ) -> None:
        """Make the tables.

        Args:
            token_width: of the tokens' table, which is projected to d_model; None: d_model.
            type_vocab_size: kinds of token, which have an embedding of their own; None: none.
            own_tokens: False where the tokens of another embedding are used.
            first_position: of the first token.
        """
        self.scale = d_model**0.5 if scale else 1.0
        self.positions: Positions = positions
        self.first_position = first_position
        self.d_model = d_model
        width = token_width or d_model
        axes = ("vocab", "embed")
        if own_tokens:
            self.tokens = weight.matrix("emb", vocab_size, width, axes, kind="embedding")
        if token_width is not None:
            self.project = Linear(
                width, d_model, role="project", axes=("token", "embed"), bias=False
            )
        if type_vocab_size is not None:
            axes = ("types", "embed")
            self.types = weight.matrix("emb", type_vocab_size, d_model, axes, kind="embedding")
        if positions == "learned":
            self.table = weight.matrix(
                "pos", max_length, d_model, ("length", "embed"), kind="embedding"
            )

    def __call__(
        self,
        input_ids: jax.Array,
        positions: jax.Array,
        token_type_ids: jax.Array | None = None,
        *,
        tokens: jax.Array | None = None,
    ) -> jax.Array:
        """[batch, length] int32 tokens and positions to [batch, length, d_model] float32.

        Args:
            token_type_ids: [batch, length] int32 kinds; None: zeros.
            tokens: [vocab, d_model] of another embedding, where this one has none.
        """
        x = self.of_tokens(input_ids, token_type_ids, tokens=tokens)
        places = self.of_places(positions)
        return x if places is None else x + places

    def of_tokens(
        self,
        input_ids: jax.Array,
        token_type_ids: jax.Array | None = None,
        *,
        tokens: jax.Array | None = None,
    ) -> jax.Array:
        """A call's part that its tokens and their kinds give."""
        x = (self.tokens[...] if tokens is None else tokens)[input_ids]
        if self.scale != 1.0:
            x = x * self.scale
        if hasattr(self, "project"):
            x = self.project(x)
        if hasattr(self, "types"):
            kinds = jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            x = x + self.types[...][kinds]
        return x

    def of_places(self, positions: jax.Array) -> jax.Array | None:
        """A call's part that its positions give; None where they are not added."""
        if self.positions == "learned":
            return self.table[...][positions]
        if self.positions.startswith("sinusoidal"):
            first = self.first_position
            return sinusoidal(positions, self.d_model, self.positions, first=first)
        return None

    def attend(self, hidden: jax.Array) -> jax.Array:
        """Logits with the tied, unscaled table: [..., d_model] to [..., vocab] float32."""
        table = self.tokens[...].astype(hidden.dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = jax.lax.dot_general(
            flat, table, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
        )
        return logits.reshape(*hidden.shape[:-1], table.shape[0])
