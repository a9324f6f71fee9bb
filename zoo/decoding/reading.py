"""Reading a text token by token: with what attention keeps of it, or the whole text again."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from zoo.decoding.weights import target
from zoo.models.config import ModelConfig
from zoo.models.encoder_decoder import EncoderDecoder
from zoo.models.past import with_room
from zoo.models.text import TextModel
from zoo.models.tower import Transformer, text_scope

Source = tuple[jax.Array, jax.Array]  # what cross-attention reads, and which of it may be seen


@dataclasses.dataclass(frozen=True)
class Memory:
    """What is known of texts before their next token; a pytree.

    Attributes:
        seen: [rows, tokens] bool, which may be seen, of the whole text.
        counted: [rows] int32, how many of them took a position.
        pasts: of every layer, see `models.past`; None: every token is read again.
        source: of an encoder-decoder; without pasts, with them only its mask.
    """

    seen: jax.Array
    counted: jax.Array
    pasts: Any
    source: tuple[jax.Array | None, jax.Array] | None

    def of_rows(self, rows: jax.Array) -> Memory:
        """The memory of other rows: [new rows] int32 of the old ones."""

        def is_past(each: Any) -> bool:
            return hasattr(each, "of_rows")

        pasts = jax.tree.map(lambda past: past.of_rows(rows), self.pasts, is_leaf=is_past)
        taken = (self.seen, self.counted, self.source)
        seen, counted, source = jax.tree.map(lambda a: a[rows], taken)
        return Memory(seen, counted, pasts, source)


jax.tree_util.register_dataclass(Memory)


def outgrows(config: ModelConfig, tokens: int) -> bool:
    """Whether a text has places that the model has no positions for."""
    return config.positions == "learned" and tokens > config.sizes().max_length


def begin(
    model: Transformer, tokens: jax.Array, seen: jax.Array, source: Source | None, *, prompt: int
) -> tuple[jax.Array, Memory]:
    """Read the first `prompt` of [rows, tokens], the rest being still to come.

    A text that `outgrows` the model is read without a past: each time its last `max_length`
    tokens, as if it began with them.

    Args:
        seen: [rows, tokens] bool; padding stands on the left.
        source: an encoder-decoder's, encoded, [rows, source length, d_model] and [rows, source
            length].

    Returns:
        Logits of the next token, [rows, vocab], and what to read it with.
    """
    config = model.config
    if outgrows(config, tokens.shape[1]):
        memory = Memory(seen, jnp.zeros(len(tokens), jnp.int32), None, source)
        return _whole(model, memory, tokens, jnp.int32(prompt - 1)), memory
    assert isinstance(model, TextModel | EncoderDecoder)
    read, visible = tokens[:, :prompt], seen[:, :prompt]
    counted, positions = _count(config, read, visible, jnp.zeros(len(read), jnp.int32))
    encoded, source_mask = (None, None) if source is None else source
    scope = text_scope(
        config,
        positions,
        visible,
        None,
        causal=True,
        source=encoded,
        source_mask=source_mask,
    )
    hidden, pasts = model.remember(read, positions, scope, None)
    tower = target(model)
    pasts = with_room(
        tower.stack,
        pasts,
        tokens.shape[1],
        placement=model.placement.stack(tower.stack.name),
        config=config,
    )
    rest = None if source_mask is None else (None, source_mask)
    memory = Memory(seen, counted, pasts, rest)
    return model.logits(hidden[:, -1]), memory


def advance(
    model: Transformer, memory: Memory, tokens: jax.Array, index: jax.Array
) -> tuple[jax.Array, Memory]:
    """Read token `index` of [rows, tokens]; returns as `begin`."""
    if memory.pasts is None:
        return _whole(model, memory, tokens, index), memory
    assert isinstance(model, TextModel | EncoderDecoder)
    config = model.config
    read, visible = (_column(array, index) for array in (tokens, memory.seen))
    counted, positions = _count(config, read, visible, memory.counted)
    scope = text_scope(
        config,
        positions,
        memory.seen,
        None,
        causal=True,
        source_mask=None if memory.source is None else memory.source[1],
        index=index,
    )
    hidden, pasts = model.remember(read, positions, scope, memory.pasts)
    memory = dataclasses.replace(memory, counted=counted, pasts=pasts)
    return model.logits(hidden[:, -1]), memory


def _count(
    config: ModelConfig, tokens: jax.Array, seen: jax.Array, before: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(how many tokens took a position by now [rows], positions of these [rows, tokens]).

    Padding takes none; where a text has no padding that is `tower.token_positions`.
    """
    taken = seen
    if config.count_positions == "unpadded":
        taken = taken & jnp.not_equal(tokens, config.pad_id or 0)
    numbers = before[:, None] + jnp.cumsum(taken, axis=1, dtype=jnp.int32)
    positions = jnp.maximum(numbers * taken - 1 + config.position_offset, 0)
    return numbers[:, -1], positions


def _column(array: jax.Array, index: jax.Array) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(array, index, 1, axis=1)


def _whole(model: Transformer, memory: Memory, tokens: jax.Array, index: jax.Array) -> jax.Array:
    """Logits behind token `index`, from a forward pass of the tokens up to it that fit."""
    total = tokens.shape[1]
    length = min(total, model.config.sizes().max_length)
    # What lies after `index` is never attended to.
    start = jnp.clip(index + 1 - length, 0, total - length)
    window, seen = (
        jax.lax.dynamic_slice_in_dim(array, start, length, axis=1)
        for array in (tokens, memory.seen)
    )
    if memory.source is None:
        _, positions = _count(model.config, window, seen, jnp.zeros(len(seen), jnp.int32))
        hidden = model.hidden(window, attention_mask=seen, positions=positions)
    else:
        assert isinstance(model, EncoderDecoder)
        assert memory.source[0] is not None
        hidden, _ = model.decode(window, memory.source[0], memory.source[1])
    last = jax.lax.dynamic_index_in_dim(hidden, index - start, axis=1, keepdims=False)
    logits: jax.Array = model.logits(last)
    return logits
