"""Models of one text stack: decoders and encoders."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from zoo.errors import ConfigError
from zoo.layers.attention import Scope
from zoo.layers.embeddings import Embedding
from zoo.layers.linear import Linear, dropout, fold
from zoo.layers.norms import unit
from zoo.models.config import ModelConfig
from zoo.models.heads import (
    Classifier,
    MaskedLMHead,
    Pooler,
    ReplacedTokenHead,
    VocabularyHead,
    mean_of_tokens,
)
from zoo.models.past import Pasts
from zoo.models.stack import Measure, Taps, owned
from zoo.models.tower import Tower, Transformer, text_scope, token_positions
from zoo.variants.placement import Placement


class TextModel(Transformer, Tower):
    """A decoder (every token sees those before it) or an encoder (every token sees all)."""

    def __init__(self, config: ModelConfig, placement: Placement) -> None:
        self.config, self.placement = config, placement
        ((name, stack),) = placement.stacks
        self.embedding = owned(make_embedding(config), stack=name)
        super().__init__(config, stack, name=name)
        width = config.head_width()
        if config.embedding_width is not None and config.embedding_projected == "tokens":
            axes = ("embed", "token")
            back = Linear(config.d_model, width, role="project", axes=axes, bias=False)
            self.project_back = owned(back, stack=name)
        if config.pooler:
            self.pooler = owned(Pooler(width, config.pooler), stack=name)
        match config.head:
            case "language_model" | "masked_lm" if not config.transforms():
                head = VocabularyHead(config, stack, width, bias=config.head_bias)
                self.head = owned(head, stack=name)
            case "language_model" | "masked_lm":
                self.head = owned(MaskedLMHead(config, stack), stack=name)
            case "span":
                self.head = owned(Classifier(config, labels=2), stack=name)
            case "replaced_token_detection":
                self.head = owned(ReplacedTokenHead(config), stack=name)
            case "sequence_classification" | "token_classification":
                self.head = owned(Classifier(config, config.sizes().num_labels), stack=name)

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
        """[batch, length] int32 tokens to float32 logits.

        Args:
            attention_mask: [batch, length], 1 or True where a token may be seen.
            token_type_ids: [batch, length] int32 kinds of token; None: zeros.
            positions: [batch, length] int32; default: counted as the config says, 0, 1, 2, ...
            segment_ids: [batch, length] int32; tokens see their own segment only.
            step: training step for scheduled multipliers; None: the end of the schedule.
            dropout_key: turns dropout on.

        Returns:
            [batch, length, vocab] of a language model; [batch, labels] of a sequence
            classifier, [batch, length, labels] of a token classifier, [batch, length, 2] of a
            span head, [batch, length] of a detector of replaced tokens, [batch, d_model] vectors of
            a sentence encoder; without a head `hidden`.

        Raises:
            ConfigError: when the tokens are not [batch, length], or longer than `max_length`.
        """
        hidden = self.hidden(
            input_ids, attention_mask, token_type_ids, positions, segment_ids, step, dropout_key
        )
        return self.logits(hidden, attention_mask, dropout_key)

    def measure(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        *,
        taps: Measure | None = "figures",
    ) -> tuple[jax.Array, dict[str, Taps]]:
        """(hidden, taps by stack); arguments as for a call."""
        config = self.config
        check_length(config, input_ids, "length")
        if token_type_ids is not None and config.type_vocab_size is None:
            raise ConfigError(
                "token_type_ids given: this model has no kinds of token; leave it out, or make "
                "an encoder with type_vocab_size"
            )
        if positions is None:
            positions = token_positions(config, input_ids, attention_mask)
        causal = config.architecture == "decoder"
        hidden, measured = self.run(
            self.embedding(input_ids, positions, token_type_ids),
            text_scope(config, positions, attention_mask, segment_ids, causal=causal),
            config=config,
            placement=self.placement.stack(self.stack.name),
            step=step,
            dropout_key=dropout_key,
            taps=taps,
        )
        return hidden, {self.stack.name: measured}

    def remember(
        self, input_ids: jax.Array, positions: jax.Array, scope: Scope, pasts: Pasts | None
    ) -> tuple[jax.Array, Pasts]:
        """(hidden, what later tokens need) of a text that goes on, see `past.remember`."""
        return self.advance(
            self.embedding(input_ids, positions),
            scope,
            pasts,
            config=self.config,
            placement=self.placement.stack(self.stack.name),
        )

    def logits(
        self,
        hidden: jax.Array,
        attention_mask: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """The head on `hidden`; of [..., d_model] where it looks at each token by itself."""
        rate, key = self.config.dropout, fold(dropout_key, 2)
        if hasattr(self, "project_back"):
            hidden = self.project_back(hidden)
        match self.config.head:
            case "language_model" | "masked_lm":
                return self.head(hidden, self.embedding)
            case "span" | "replaced_token_detection":
                return self.head(hidden)
            case "token_classification":
                return self.head(dropout(hidden, rate, key))
            case "sequence_classification":
                return self.head(dropout(self.pooled(hidden, attention_mask), rate, key))
            case "sentence_embedding":
                vector = self.pooled(hidden, attention_mask).astype(jnp.float32)
                return unit(vector) if self.config.unit_vectors else vector
            case _:
                return hidden

    def pooled(self, hidden: jax.Array, attention_mask: jax.Array | None = None) -> jax.Array:
        """One vector for each sequence, [batch, d_model].

        The first token's in an encoder, the last seen one's in a decoder, which alone has seen
        the others; or the mean.
        """
        if self.config.pooler_first:
            return mean_of_tokens(self.pooler(hidden), attention_mask)
        vector = self._vector(hidden, attention_mask)
        return self.pooler(vector) if self.config.pooler else vector

    def _vector(self, hidden: jax.Array, attention_mask: jax.Array | None) -> jax.Array:
        if self.config.pooling == "mean":
            return mean_of_tokens(hidden, attention_mask)
        if self.config.architecture == "encoder":
            return hidden[:, 0]
        if attention_mask is None:
            return hidden[:, -1]
        places = jnp.arange(hidden.shape[1])
        last = jnp.max(jnp.where(attention_mask.astype(bool), places, 0), axis=1)
        return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]


def make_embedding(
    config: ModelConfig, *, own_tokens: bool = True, scale: bool | None = None
) -> Embedding:
    sizes = config.sizes()
    return Embedding(
        sizes.vocab_size,
        config.summed_width(),
        token_width=config.embedding_width if config.embedding_projected == "tokens" else None,
        positions=config.positions,
        max_length=sizes.max_length + config.position_offset,
        scale=config.embedding_scale if scale is None else scale,
        type_vocab_size=config.type_vocab_size,
        own_tokens=own_tokens,
        first_position=config.position_offset,
    )


def check_length(config: ModelConfig, input_ids: jax.Array, name: str) -> None:
    """Raise ConfigError where tokens are not [batch, length <= the model's `max_length`]."""
    longest = config.sizes().max_length
    if input_ids.ndim != 2:
        raise ConfigError(f"tokens of shape {input_ids.shape}; a model takes [batch, {name}]")
    if input_ids.shape[-1] > longest:
        raise ConfigError(
            f"{name} = {input_ids.shape[-1]} is longer than max_length = {longest}; "
            f"use at most {longest}, or a model with a larger max_length"
        )
