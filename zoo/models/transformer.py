"""The decoder language model: embedding, stack, head."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.layers.attention import Scope
from zoo.layers.embeddings import Embedding
from zoo.layers.linear import Linear, dropout
from zoo.layers.norms import Norm
from zoo.layers.positions import rotary_tables
from zoo.models.config import ModelConfig, place, resolve
from zoo.models.init import initial_params
from zoo.models.stack import Measure, Stack, Taps
from zoo.variants.placement import Placement

# The one stack of a decoder-only model, as placements name it.
_STACK = "decoder"


class Transformer(nnx.Module):
    """A decoder-only Transformer; make one with `build` or `zoo.create_model`.

    Calling it is deterministic; only a `dropout_key` turns dropout on.

    Attributes:
        config: resolved.
        placement: what the variant came to at this depth; no name is looked up again.
    """

    def __init__(self, config: ModelConfig, placement: Placement) -> None:
        self.config, self.placement = config, placement
        norm, sizes = config.norm_spec(), config.sizes()
        self.embedding = Embedding(
            sizes.vocab_size,
            config.d_model,
            positions=config.positions,
            max_length=sizes.max_length,
            scale=config.embedding_scale,
        )
        if config.embedding_norm:
            self.embedding_norm = Norm(config.d_model, norm, role="embedding_norm")
        self.stack = Stack(placement.stack(_STACK), config, name=_STACK)
        if config.final_norm:
            self.final_norm = Norm(config.d_model, norm, role="final_norm")
        if not config.tie_embeddings:
            axes = ("embed", "vocab")
            self.head = Linear(config.d_model, sizes.vocab_size, role="head", axes=axes, bias=False)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """[batch, length] int32 tokens to [batch, length, vocab] float32 logits.

        Args:
            attention_mask: [batch, length], 1 or True where a token may be seen.
            token_type_ids: must be None; a decoder has no token types.
            positions: [batch, length] int32; default 0, 1, 2, ...
            segment_ids: [batch, length] int32; tokens see their own segment only.
            step: training step for scheduled multipliers; None: the end of the schedule.
            dropout_key: turns dropout on.

        Raises:
            ConfigError: when the sequence is longer than `max_length`.
        """
        hidden = self.hidden(
            input_ids, attention_mask, token_type_ids, positions, segment_ids, step, dropout_key
        )
        return self.logits(hidden)

    def hidden(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """The stream before the head, [batch, length, d_model]; arguments as for a call."""
        if token_type_ids is not None:
            raise ConfigError("token_type_ids given: a decoder has no token types; leave it out")
        return self.measure(
            input_ids,
            attention_mask=attention_mask,
            positions=positions,
            segment_ids=segment_ids,
            step=step,
            dropout_key=dropout_key,
            taps=None,
        )[0]

    def measure(
        self,
        input_ids: jax.Array,
        *,
        attention_mask: jax.Array | None = None,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        taps: Measure | None = "figures",
    ) -> tuple[jax.Array, Taps]:
        """(hidden, taps): each tap is [layers, sublayers], in the order of the stack.

        Taps: `stream_rms` and `finite` after the sublayer, `branch_skip_ratio` of what
        was added to what was kept.
        """
        config = self.config
        longest = config.sizes().max_length
        if input_ids.shape[-1] > longest:
            raise ConfigError(
                f"length = {input_ids.shape[-1]} is longer than max_length = {longest}; "
                f"use at most {longest}, or a model with a larger max_length"
            )
        if positions is None:
            positions = jnp.arange(input_ids.shape[-1], dtype=jnp.int32)[None]
        embedding_key, stack_key = (
            (None, None) if dropout_key is None else jax.random.split(dropout_key)
        )
        x = self.embedding(input_ids, positions)
        if config.embedding_norm:
            x = self.embedding_norm(x)
        x = dropout(x.astype(config.dtype), config.embedding_dropout, embedding_key)
        x, measured = self.stack(
            x,
            _scope(config, positions, attention_mask, segment_ids),
            placement=self.placement.stack(self.stack.name),
            config=config,
            step=step,
            key=stack_key,
            measure=taps,
        )
        return (self.final_norm(x) if config.final_norm else x), measured

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., d_model] to [..., vocab], summed and left in float32 whatever the compute dtype."""
        if self.config.tie_embeddings:
            return self.embedding.attend(hidden)
        kernel = self.head.kernel[...].astype(hidden.dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = jnp.matmul(flat, kernel, preferred_element_type=jnp.float32)
        return logits.reshape(*hidden.shape[:-1], kernel.shape[-1])


def build(
    config: ModelConfig, key: jax.Array, *, placement: Placement | None = None
) -> Transformer:
    """An initialised model; arguments and errors as for `declare`."""
    model = declare(config, placement)
    # Not jitted: one draw compiles per shape, and models of equal shapes share them.
    return weight.bind(model, initialiser(model)(key))


def declare(config: ModelConfig, placement: Placement | None = None) -> Transformer:
    """A model whose weights are shapes only: nothing is computed or allocated.

    Args:
        config: is resolved first.
        placement: what the variant came to where it is not looked up by its name: a stored
            one, or that of a `Variant` object.

    Raises:
        ConfigError, VariantError: as `zoo.models.config.resolve`.
    """
    placed = place(config) if placement is None else placement
    resolved = resolve(config, placed)
    model: Transformer = nnx.eval_shape(lambda: Transformer(resolved, placed))
    return model


def initialiser(model: Transformer) -> functools.partial[dict[str, jax.Array]]:
    """The function of a key that gives a declared model's parameters."""
    shapes, weights = weight.split(model)
    return functools.partial(initial_params, shapes, weights, model.config, model.placement)


def _scope(
    config: ModelConfig,
    positions: jax.Array,
    attention_mask: jax.Array | None,
    segment_ids: jax.Array | None,
) -> Scope:
    mask = None
    if attention_mask is not None:
        mask = attention_mask.astype(bool)[:, None, None, :]
    if segment_ids is not None:
        same = (segment_ids[:, :, None] == segment_ids[:, None, :])[:, None]
        mask = same if mask is None else mask & same
    offsets = None
    if config.window is not None:
        offsets = (positions[:, :, None] - positions[:, None, :])[:, None]
    rotary = None
    if config.positions == "rotary":
        rotary = rotary_tables(positions, config.sizes().head_dim, config.rotary_theta)
    return Scope(causal=True, mask=mask, rotary=rotary, offsets=offsets)
