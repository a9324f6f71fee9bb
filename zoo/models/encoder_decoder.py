"""The original Transformer: an encoder, and a decoder that reads its output."""

from __future__ import annotations

import jax

from zoo.layers.attention import Scope
from zoo.layers.embeddings import Embedding
from zoo.models.config import ModelConfig
from zoo.models.heads import VocabularyHead
from zoo.models.past import Pasts
from zoo.models.stack import Measure, Taps, owned
from zoo.models.text import check_length, make_embedding
from zoo.models.tower import Tower, Transformer, split_key, text_scope, token_positions
from zoo.variants.placement import Placement


class EncoderDecoder(Transformer):
    """Two towers (1706.03762); cross-attention is a sublayer like the others.

    Source and target may share one table of tokens; a tied head uses the target's, unscaled.
    """

    def __init__(self, config: ModelConfig, placement: Placement) -> None:
        self.config, self.placement = config, placement
        source, target = placement.stack("encoder"), placement.stack("decoder")
        self.embedding = owned(make_embedding(config), stack="encoder")
        self.decoder_embedding = owned(
            make_embedding(
                config,
                own_tokens=not config.shares_embeddings(),
                scale=config.embedding_scale and not config.norm_target_tokens,
            ),
            stack="decoder",
        )
        self.encoder = Tower(config, source, name="encoder")
        self.decoder = Tower(config, target, name="decoder")
        if config.head == "language_model":
            self.head = owned(
                VocabularyHead(config, target, config.d_model, bias=config.head_bias),
                stack="decoder",
            )

    def __call__(
        self,
        input_ids: jax.Array,
        decoder_input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Source [batch, length] and target [batch, target length], int32, to the decoder's logits.

        Args:
            attention_mask, decoder_attention_mask: 1 or True where a source or a target token
                may be seen.
            step: training step for scheduled multipliers; None: the end of the schedule.
            dropout_key: turns dropout on.

        Returns:
            [batch, target length, vocab] float32; without a head the decoder's `hidden`.

        Raises:
            ConfigError: when tokens are not [batch, length], or longer than `max_length`.
        """
        hidden = self.hidden(
            input_ids,
            decoder_input_ids,
            attention_mask,
            decoder_attention_mask,
            step,
            dropout_key,
        )
        return self.logits(hidden)

    def measure(
        self,
        input_ids: jax.Array,
        decoder_input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        *,
        taps: Measure | None = "figures",
    ) -> tuple[jax.Array, dict[str, Taps]]:
        """(the decoder's hidden, taps by stack); arguments as for a call."""
        encoder_key, decoder_key = split_key(dropout_key)
        source, encoded = self.encode(
            input_ids, attention_mask, step=step, dropout_key=encoder_key, taps=taps
        )
        hidden, decoded = self.decode(
            decoder_input_ids,
            source,
            attention_mask,
            decoder_attention_mask,
            step=step,
            dropout_key=decoder_key,
            taps=taps,
        )
        return hidden, {"encoder": encoded, "decoder": decoded}

    def encode(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        *,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        taps: Measure | None = None,
    ) -> tuple[jax.Array, Taps]:
        """(what cross-attention reads, the encoder's taps)."""
        config = self.config
        check_length(config, input_ids, "length")
        positions = token_positions(config, input_ids, attention_mask)
        return self.encoder.run(
            self.embedding(input_ids, positions),
            text_scope(config, positions, attention_mask, None, causal=False),
            config=config,
            placement=self.placement.stack("encoder"),
            step=step,
            dropout_key=dropout_key,
            taps=taps,
        )

    def decode(
        self,
        decoder_input_ids: jax.Array,
        source: jax.Array,
        attention_mask: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        *,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        taps: Measure | None = None,
    ) -> tuple[jax.Array, Taps]:
        """(hidden, the decoder's taps) of target tokens that read an encoded source."""
        config = self.config
        check_length(config, decoder_input_ids, "target length")
        positions = token_positions(config, decoder_input_ids, decoder_attention_mask)
        embedded, behind = self._target(decoder_input_ids, positions)
        return self.decoder.run(
            embedded,
            text_scope(
                config,
                positions,
                decoder_attention_mask,
                None,
                causal=True,
                source=source,
                source_mask=attention_mask,
            ),
            config=config,
            placement=self.placement.stack("decoder"),
            behind=behind,
            step=step,
            dropout_key=dropout_key,
            taps=taps,
        )

    def remember(
        self, input_ids: jax.Array, positions: jax.Array, scope: Scope, pasts: Pasts | None
    ) -> tuple[jax.Array, Pasts]:
        """(hidden, what later tokens need) of a target that goes on, see `past.remember`."""
        embedded, behind = self._target(input_ids, positions)
        return self.decoder.advance(
            embedded,
            scope,
            pasts,
            config=self.config,
            placement=self.placement.stack("decoder"),
            behind=behind,
        )

    def _target(
        self, input_ids: jax.Array, positions: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        """(embeddings that the decoder norms, what it adds behind that norm)."""
        tokens = self.embedding.tokens[...] if self.config.shares_embeddings() else None
        own = self.decoder_embedding
        if self.config.norm_target_tokens:
            return own.of_tokens(input_ids, tokens=tokens), own.of_places(positions)
        return own(input_ids, positions, tokens=tokens), None

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., d_model] to [..., vocab] float32; without a head, `hidden`."""
        if self.config.head != "language_model":
            return hidden
        shared = self.config.shares_embeddings()
        table: Embedding = self.embedding if shared else self.decoder_embedding
        return self.head(hidden, table)
