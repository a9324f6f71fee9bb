"""One stack with its ends: from an embedding to what a head reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.layers.attention import Scope
from zoo.layers.linear import Linear, dropout
from zoo.models.branches import make_relative
from zoo.models.config import ModelConfig
from zoo.models.past import Pasts, remember
from zoo.models.rotary import rotary_turns
from zoo.models.stack import Measure, Stack, Taps, owned
from zoo.variants.placement import Placement, StackPlacement
from zoo.variants.streams.base import make_norm, normed, slowed, times


@dataclasses.dataclass(frozen=True)
class Origin:
    """The exported or foreign checkpoint that a model was loaded from.

    Attributes:
        family: its `model_type`, which is no family's where it is in our own format.
        folder: where it lay.
        kept: (key, JSON) of its `config.json` that change nothing here, such as labels' names.
    """

    family: str
    folder: str
    kept: tuple[tuple[str, str], ...] = ()


class Transformer(nnx.Module):
    """What all models are; make one with `build` or `zoo.create_model`.

    Calling a model is deterministic; only a `dropout_key` turns dropout on.

    Attributes:
        config: resolved.
        placement: what the variant came to at this depth; no name is looked up again.
        origin: where it was loaded from, if it was.
        generation: (key, JSON) of the generation settings it was loaded with.
        measure: with the arguments of a call and `taps`, (hidden, taps by stack): each tap is
            [layers, sublayers, ...], see `streams.Tap`.
        logits: the head on `hidden`.
    """

    config: ModelConfig
    placement: Placement
    origin: Origin | None = None
    generation: tuple[tuple[str, str], ...] = ()
    measure: Callable[..., tuple[jax.Array, dict[str, Taps]]]
    logits: Callable[..., jax.Array]

    def __call__(self, *args: Any, **kwargs: Any) -> jax.Array:
        """Logits, or the stream of a model without a head."""
        raise NotImplementedError

    def hidden(self, *args: Any, **kwargs: Any) -> jax.Array:
        """The stream before the head, [batch, length, d_model]."""
        return self.measure(*args, **kwargs, taps=None)[0]

    def descend(self, parent: Transformer) -> None:
        """Keep what a model that this one was made of was loaded with."""
        self.origin, self.generation = parent.origin, parent.generation


class Tower(nnx.Module):
    """A stack, the norm before it and the norm after it; `name` is its key in a Placement."""

    def __init__(self, config: ModelConfig, placement: StackPlacement, *, name: str) -> None:
        norm = config.norm_spec()
        if config.embedding_norm:
            width = config.summed_width()
            before = make_norm(placement.embedding_slot, "embedding_norm", width, norm)
            self.embedding_norm = owned(before, stack=name, below=config.layers_below())
        if config.embedding_width is not None and config.embedding_projected == "summed":
            axes, width = ("token", "embed"), config.embedding_width
            projection = Linear(width, config.d_model, role="project", axes=axes, bias=True)
            self.project = owned(projection, stack=name)
        if config.relative_buckets is not None and not config.relative_per_layer:
            self.relative = owned(make_relative(config, config.relative_buckets), stack=name)
        self.stack = Stack(placement, config, name=name)
        if config.final_norm:
            after = make_norm(placement.final_slot, "final_norm", config.d_model, norm)
            self.final_norm = owned(after, stack=name)

    def run(
        self,
        x: jax.Array,
        scope: Scope,
        *,
        config: ModelConfig,
        placement: StackPlacement,
        behind: jax.Array | None = None,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        taps: Measure | None = None,
    ) -> tuple[jax.Array, Taps]:
        """Embeddings float32 to (hidden, taps), both sides [batch, length, d_model].

        Args:
            behind: a part of the embeddings that is added behind their norm.
        """
        embedding_key, stack_key = split_key(dropout_key)
        x, measured = self.stack(
            self.enter(x, config=config, placement=placement, behind=behind, key=embedding_key),
            self._biased(scope),
            placement=placement,
            config=config,
            step=step,
            key=stack_key,
            measure=taps,
        )
        if config.final_norm:
            x = normed(self.final_norm, x, placement.final_slot.scale)
        return x, measured

    def advance(
        self,
        x: jax.Array,
        scope: Scope,
        pasts: Pasts | None,
        *,
        config: ModelConfig,
        placement: StackPlacement,
        behind: jax.Array | None = None,
    ) -> tuple[jax.Array, Pasts]:
        """(hidden, what later tokens need): `run` for a text that goes on, see `past.remember`."""
        x = self.enter(x, config=config, placement=placement, behind=behind, key=None)
        scope = self._biased(scope)
        x, kept = remember(self.stack, x, scope, pasts, placement=placement, config=config)
        if config.final_norm:
            x = normed(self.final_norm, x, placement.final_slot.scale)
        return x, kept

    def _biased(self, scope: Scope) -> Scope:
        if scope.offsets is None or not hasattr(self, "relative"):
            return scope
        bias = self.relative(scope.offsets, causal=scope.causal)
        return dataclasses.replace(scope, bias=bias)

    def enter(
        self,
        x: jax.Array,
        *,
        config: ModelConfig,
        placement: StackPlacement,
        behind: jax.Array | None,
        key: jax.Array | None,
    ) -> jax.Array:
        """The embedding as the stack takes it: scaled, normed, in the compute dtype, dropped."""
        x = times(slowed(x, placement.embedding_gradient), placement.embedding_multiplier)
        if config.embedding_norm:
            x = normed(self.embedding_norm, x, placement.embedding_slot.scale)
        if behind is not None:
            x = x + slowed(behind, placement.embedding_gradient)
        x = dropout(x.astype(config.dtype), config.embedding_dropout, key)
        return self.project(x) if hasattr(self, "project") else x


def split_key(key: jax.Array | None) -> tuple[jax.Array | None, jax.Array | None]:
    """Two keys of one, or two Nones."""
    return (None, None) if key is None else tuple(jax.random.split(key))  # type: ignore[return-value]


def text_scope(
    config: ModelConfig,
    positions: jax.Array,
    attention_mask: jax.Array | None,
    segment_ids: jax.Array | None,
    *,
    causal: bool,
    source: jax.Array | None = None,
    source_mask: jax.Array | None = None,
    index: jax.Array | None = None,
) -> Scope:
    """What each token of a text may see.

    Args:
        positions: [batch or 1, length] int32.
        attention_mask: [batch, length], True or 1 where a token may be seen.
        segment_ids: [batch, length] int32; tokens see their own segment only.
        source, source_mask: what cross-attention reads, [batch, source length, d_model], and
            which of it may be seen.
        index: of a call with a past: which token the one of the call is; the mask is then of
            all tokens, [batch, whole length].
    """
    mask = None if attention_mask is None else attention_mask.astype(bool)[:, None, None, :]
    if segment_ids is not None:
        same = (segment_ids[:, :, None] == segment_ids[:, None, :])[:, None]
        mask = same if mask is None else mask & same
    offsets = None
    if config.window is not None or config.relative_buckets is not None:
        # Tokens apart, whatever positions they take: equal for all rows, packed or padded.
        places = others = counted(positions.shape[-1])
        if index is not None and attention_mask is not None:
            places, others = index[None, None], counted(attention_mask.shape[-1])
        offsets = (places[:, :, None] - others[:, None, :])[:, None]
    seen = None if source_mask is None else source_mask.astype(bool)[:, None, None, :]
    return Scope(
        causal=causal,
        mask=mask,
        rotary=rotary_turns(config, positions),
        offsets=offsets,
        source=source,
        source_mask=seen,
        index=index,
    )


def token_positions(
    config: ModelConfig, input_ids: jax.Array, attention_mask: jax.Array | None
) -> jax.Array:
    """Where tokens stand, [batch or 1, length] int32, counted as the config says."""
    if config.count_positions == "unpadded":
        taken = jnp.not_equal(input_ids, config.pad_id or 0)
    elif config.count_positions == "seen" and attention_mask is not None:
        taken = attention_mask.astype(bool)
    else:
        return counted(input_ids.shape[-1]) + config.position_offset
    # Those that are not counted stand where the one before the first would.
    numbers = jnp.cumsum(taken, axis=-1, dtype=jnp.int32) * taken
    return numbers - 1 + config.position_offset


def counted(length: int) -> jax.Array:
    """Positions 0, 1, 2, ... as [1, length] int32."""
    return jnp.arange(length, dtype=jnp.int32)[None]
