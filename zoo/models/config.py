"""What a model is: architecture choices, all independent of the placement."""

from __future__ import annotations

import dataclasses
from typing import Literal

from zoo.layers.attend import Implementation
from zoo.layers.attention import AttentionBias, NormOver
from zoo.layers.embeddings import CountPositions, Positions
from zoo.layers.mlp import Activation
from zoo.layers.norms import NormKind, NormSpec
from zoo.variants.variant import SUBLAYERS, Architecture, Layout

Head = Literal[
    "language_model",
    "masked_lm",
    "sequence_classification",
    "token_classification",
    "span",
    "replaced_token_detection",
    "sentence_embedding",
    "image_classification",
    "none",
]
Pooling = Literal["first", "mean", "first_and_mean"]
# The heads that an architecture can carry, its usual one first.
HEADS: dict[Architecture, tuple[Head, ...]] = {
    "decoder": ("language_model", "sequence_classification", "token_classification", "none"),
    "encoder": (
        "masked_lm",
        "sequence_classification",
        "token_classification",
        "span",
        "replaced_token_detection",
        "sentence_embedding",
        "none",
    ),
    "encoder_decoder": ("language_model", "none"),
    "vision": ("image_classification", "none"),
}
# Labels where nothing else is asked for.
_LABELS = 2

# Byte vocabulary, and the longest sequence, where nothing else is asked for.
_VOCABULARY, _LENGTH = 256, 512


# Fields that say how a model is computed or made, not what: the same weights go with others.
HOW_COMPUTED = (
    "dtype",
    "remat",
    "unroll",
    "attention",
    "init",
    "init_std",
    "qkv_gain",
    "embedding_std",
    "dropout",
    "embedding_dropout",
    "attention_dropout",
    "stochastic_depth",
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a ModelConfig may leave open, filled in; its fields are the config's, in its words."""

    vocab_size: int
    max_length: int
    num_kv_heads: int
    head_dim: int
    d_ff: int
    embedding_std: float
    num_labels: int


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of one model; None means "follows from the others or from the variant"."""

    architecture: Architecture = "decoder"
    """Which stacks the model has."""
    variant: str = "post_norm"
    """Norm placement: a name of `zoo list variants`, or name(option=value)."""
    vocab_size: int | None = None
    """Rows of the embedding; default 256, or in training what the tokenizer has."""
    d_model: int = 128
    """Width of the residual stream."""
    num_layers: int = 6
    """Layers (one layer: attention and MLP); of both stacks of an encoder_decoder."""
    num_encoder_layers: int | None = None
    """Layers of the encoder of an encoder_decoder; default num_layers."""
    num_decoder_layers: int | None = None
    """Layers of the decoder of an encoder_decoder; default num_layers."""
    layer_groups: int | None = None
    """Sets of weights for the layers of a stack, each used by as many neighbours (ALBERT,
    1909.11942: 1) and started as the first of them; default: every layer has its own."""
    head: Head | None = None
    """What stands on the stack; default: the architecture's usual one."""
    num_labels: int | None = None
    """Classes of a classification head; default 2, or in training what the text has."""
    pooling: Pooling = "first"
    """The vector of a sequence: the first token's (in vision an own class token), or the mean; in
    vision also the class token's beside the mean of the patches (DINOv2, 2304.07193)."""
    distillation_token: bool = False
    """A second token before the patches, which a teacher was imitated at (DeiT, 2012.12877)."""
    unit_vectors: bool = True
    """Scale sentence embeddings to length 1."""
    pooler: Activation | None = None
    """A dense layer on the vector of a sequence and its activation (BERT's: tanh); None: none."""
    pooler_first: bool = False
    """Put the pooler on every token, and take the mean behind it (EuroBERT, 2503.05500)."""
    decoder_start_id: int | None = None
    """Token that an encoder_decoder's target starts behind; default 0, or in training the
    tokenizer's begin token."""
    type_vocab_size: int | None = None
    """Kinds of token (BERT's segments); None: no embedding of kinds."""
    embedding_width: int | None = None
    """Width of the tokens' table, which is then projected to d_model; default: d_model."""
    embedding_projected: Literal["summed", "tokens"] = "summed"
    """Project the embedding when positions, kinds and its norm are in it (ELECTRA, ALBERT), or the
    tokens alone, and the stream back in front of the head (OPT)."""
    output_embedding_width: int | None = None
    """Width of a head's matrix over the vocabulary, where a dense layer stands in front of it
    (RemBERT, 2010.12821); default: that of the tokens' table."""
    image_size: int = 32
    """Side of the square images of a vision model, in pixels."""
    patch_size: int = 4
    """Side of a patch, in pixels; it divides image_size, unless a model is in stages."""
    num_channels: int = 3
    """Channels of the images, which stand last."""
    stage_layers: tuple[int, ...] | None = None
    """Layers of each stage of a vision model (Swin Transformer V2, 2111.09883), together
    num_layers. A stage reads patches of 2 x 2 tokens of the one below, with twice its width, heads
    and d_ff, and attends within windows that every other layer shifts by half; to a placement it
    is a stack of its own. None: one stack."""
    stage_heads: tuple[int, ...] | None = None
    """Query heads of each stage; default: num_heads in the first, twice as many in every next."""
    stage_trained_windows: tuple[int, ...] | None = None
    """Side of the windows that the biases by position of each stage were trained for, 0 where it is
    `window`; default: that everywhere."""
    layout: Layout = "sequential"
    """parallel: attention and MLP read the same input and are added together (GPT-J, PaLM)."""
    parallel_norms: Literal["shared", "separate"] = "shared"
    """In a parallel layer: one norm before attention and MLP, or one for each (GPT-NeoX)."""
    num_heads: int = 4
    """Query heads."""
    num_kv_heads: int | None = None
    """Key and value heads: num_heads (MHA, the default), fewer (GQA) or 1 (MQA)."""
    head_dim: int | None = None
    """Width of a head; default d_model / num_heads."""
    d_ff: int | None = None
    """Hidden width of the MLP; default 4 d_model."""
    max_length: int | None = None
    """Longest sequence (rows of a learned position table); default 512, or data.length if more."""
    position_offset: int = 0
    """Position of the first token; a learned table has so many rows more."""
    count_positions: CountPositions = "all"
    """Which tokens are counted: all, those that the mask shows, or those that are not pad_id; the
    others stand where the one before the first would."""
    pad_id: int | None = None
    """Token that fills up a text; needed with count_positions = unpadded."""
    norm: NormKind = "layer_norm"
    """Kind of every norm."""
    norm_eps: float = 1e-5
    """Added to the variance in every norm."""
    norm_bias: bool = True
    """Whether layer norms have a shift."""
    norm_affine: bool = True
    """Whether norms have a gain, and with it a shift."""
    embedding_norm: bool | None = None
    """Norm after the embedding; default: as the variant requires."""
    norm_target_tokens: bool = False
    """In an encoder_decoder with embedding_norm: norm the target's tokens alone, which are then not
    scaled, and add their positions behind it (Blenderbot's of 90 million, 2004.13637)."""
    final_norm: bool | None = None
    """Norm before the head; default: as the variant requires."""
    positions: Positions = "learned"
    """How tokens know their place."""
    relative_buckets: int | None = None
    """Buckets of distances between tokens, each with a learned number per head that is added to the
    scores of self-attention (T5, 1910.10683), beside `positions`; None: no such bias."""
    relative_max_distance: int = 128
    """Distance from which on all share the last bucket."""
    relative_per_layer: bool = False
    """A table of such numbers for every layer, instead of one for the whole stack."""
    rotary_theta: float = 10000.0
    """Base of the rotary frequencies."""
    rotary_fraction: float = 1.0
    """Share of a head that is turned, its first part."""
    rotary_scaling: str | None = None
    """Lower frequencies for texts longer than a model began with: linear(factor=2.0),
    llama3(factor=8.0, length=8192, slow=1.0, fast=4.0) or yarn(factor=8.0, length=8192, slow=1.0,
    fast=32.0, truncate=True, amplitude=1.2)."""
    rotary_pattern: str = "R"
    """R (rotary_theta, scaled), L (rotary_local_theta, not scaled) and N (no rotary positions) per
    layer, repeated over the depth."""
    rotary_local_theta: float | None = None
    """Base of the rotary frequencies in layers that the pattern calls L."""
    rotary_interleaved: bool = False
    """Turn neighbouring pairs of a head (GPT-J) instead of its halves against each other."""
    embedding_scale: bool = True
    """Multiply token embeddings by sqrt(d_model), as the original does."""
    activation: Activation = "gelu"
    """Activation of the MLP (gelu is the exact one)."""
    gated: bool = False
    """Gate the MLP (with silu: SwiGLU)."""
    bias: bool = True
    """Biases in attention and MLP."""
    attention_bias: AttentionBias | None = None
    """Biases in attention: on all matrices, on queries, keys and values (qkv), on all but keys
    (qvo), on the output matrix, or none; default: bias."""
    mlp_bias: bool | None = None
    """Biases in the MLP; default: bias."""
    mlp_input_bias: bool | None = None
    """Biases on the matrices that the MLP reads its input with, its gate's too, where the one that
    it writes with differs (GTE, 2407.19669); default: mlp_bias."""
    head_bias: bool = False
    """A bias on the logits of a language model."""
    head_transform: bool = False
    """Give a language model the masked LM's head: a dense layer, an activation and a norm first."""
    masked_lm_transform: bool = True
    """A dense layer, an activation and a norm in a masked LM's head, and a bias on its logits; else
    it is a language model's."""
    head_activation: Activation | None = None
    """Activation of the dense layer in a head; default: the MLP's."""
    classifier_bias: bool = True
    """A bias on the scores of a classification head."""
    attention_scale: float | None = None
    """Factor on the scores where the variant asks for none; default head_dim^-0.5."""
    qk_norm: bool | None = None
    """Norm on each head's queries and keys; default: as the variant requires."""
    qk_norm_over: NormOver = "head"
    """One gain for all heads (head), one each (per_head), or all heads together (width)."""
    attention_softcap: float | None = None
    """c of c tanh(score / c) in attention."""
    logit_scale: float = 1.0
    """Factor on the logits, before a soft cap."""
    logit_softcap: float | None = None
    """c of c tanh(logit / c) at the head."""
    value_residual: bool = False
    """Average each layer's values with the first layer's (ResFormer, 2410.17897)."""
    tie_embeddings: bool = False
    """Use the embedding table (an encoder_decoder's target's) as the head; a stack whose skip is
    strong then starts out predicting the token it was given."""
    share_embeddings: bool | None = None
    """One table for source and target of an encoder_decoder; default: tie_embeddings."""
    window: int | None = None
    """Attend to the last `window` positions only, in layers that the pattern calls local; in a
    model in stages the side of its windows, in tokens, of which a small grid has one."""
    attention_pattern: str = "S"
    """S (softmax) and L (linear, Lightning attention) per layer, repeated over the depth."""
    num_experts: int | None = None
    """Gated MLPs of which each token goes through a few (mixture of experts); None: one for all."""
    experts_per_token: int = 2
    """How many of them it goes through."""
    experts_renormalised: bool = True
    """Make the weights of these sum to 1."""
    window_pattern: str = "L"
    """L (local) and G (global) per layer, repeated over the depth."""
    dropout: float = 0.0
    """Dropout on every branch."""
    embedding_dropout: float = 0.0
    """Dropout on the embedding."""
    attention_dropout: float = 0.0
    """Dropout on attention weights."""
    stochastic_depth: float = 0.0
    """Probability of leaving out the last layer's branches; grows linearly from 0 (1603.09382)."""
    init: Literal["xavier_normal", "xavier_uniform", "normal"] = "xavier_normal"
    """Base initialisation of matrices; the variant multiplies it."""
    init_std: float = 0.02
    """Standard deviation of init = normal."""
    qkv_gain: float = 1.0
    """Factor on the first queries, keys and values; 2**-0.5 is Glorot's draw of the three as one
    matrix, as torch.nn.Transformer and fairseq make them."""
    embedding_std: float | None = None
    """Standard deviation of embeddings; default d_model^-0.5, or init_std with init = normal."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype; parameters, norms, softmax and loss stay float32."""
    remat: Literal["selective", "none", "full"] = "selective"
    """Keep named intermediates (fastest), all, or none (least memory) for the backward pass."""
    unroll: bool = False
    """Compile every layer separately instead of scanning them."""
    attention: Implementation = "auto"
    """Attention path; auto: the reference on CPU, jax.nn.dot_product_attention elsewhere."""

    def sizes(self) -> Sizes:
        """The sizes that are used, each default in this one place."""
        base_std = self.init_std if self.init == "normal" else float(self.d_model**-0.5)
        return Sizes(
            vocab_size=self.vocab_size or _VOCABULARY,
            max_length=self._max_length(),
            num_kv_heads=self.num_kv_heads or self.num_heads,
            head_dim=self.head_dim or self.d_model // self.num_heads,
            d_ff=self.d_ff or 4 * self.d_model,
            embedding_std=self.embedding_std or base_std,
            num_labels=self.num_labels or _LABELS,
        )

    def token_width(self) -> int:
        """Of the tokens' table."""
        return self.embedding_width or self.d_model

    def output_width(self) -> int:
        """Of what the vocabulary reads in a head that transforms."""
        return self.output_embedding_width or self.token_width()

    def summed_width(self) -> int:
        """Of the embedding with positions and kinds, where its norm stands."""
        return self.d_model if self.embedding_projected == "tokens" else self.token_width()

    def head_width(self) -> int:
        """Of what a head reads."""
        if self.stage_layers:
            return self.d_model * 2 ** (len(self.stage_layers) - 1)
        if self.pooling == "first_and_mean":
            return 2 * self.d_model
        return self.token_width() if self.embedding_projected == "tokens" else self.d_model

    def transforms(self) -> bool:
        """Whether a head over the vocabulary has more than that."""
        if (self.head or HEADS[self.architecture][0]) == "masked_lm":
            return self.masked_lm_transform
        return self.head_transform

    def leading_tokens(self) -> int:
        """Of a vision model, before the patches."""
        return (self.pooling != "mean") + self.distillation_token

    def _max_length(self) -> int:
        if self.architecture == "vision":
            return (-(-self.image_size // self.patch_size)) ** 2 + self.leading_tokens()
        return self.max_length or _LENGTH

    def resolution(self) -> int:
        """Whole patches along the side of an image."""
        return self.image_size // self.patch_size

    def heads_of_stages(self) -> tuple[int, ...]:
        """Query heads of each stage."""
        doubled = (self.num_heads * 2**number for number in range(len(self.stage_layers or ())))
        return self.stage_heads or tuple(doubled)

    def trained_windows(self) -> tuple[int, ...]:
        """Side of the windows that each stage's biases were trained for, 0 where it is `window`."""
        return self.stage_trained_windows or (0,) * len(self.stage_layers or ())

    def depth(self, stack: str) -> int:
        """Layers of one stack; 0 where the architecture has no such stack."""
        if stack not in SUBLAYERS[self.architecture]:
            return 0
        if self.architecture != "encoder_decoder":
            return self.num_layers
        own = self.num_encoder_layers if stack == "encoder" else self.num_decoder_layers
        return self.num_layers if own is None else own

    def shares_embeddings(self) -> bool:
        """Whether source and target of an encoder_decoder have one table."""
        return self.tie_embeddings if self.share_embeddings is None else self.share_embeddings

    def rotary_width(self) -> int:
        """How much of a head rotary positions turn."""
        return int(self.sizes().head_dim * self.rotary_fraction)

    def rotary_ways(self) -> str:
        """The letters of the rotary pattern, each once."""
        return "".join(sorted(set(self.rotary_pattern)))

    def norm_spec(self) -> NormSpec:
        return NormSpec(self.norm, self.norm_eps, self.norm_bias, self.norm_affine)

    def is_random(self) -> bool:
        """Whether training draws anything: dropout of some kind."""
        rates = (self.dropout, self.embedding_dropout, self.attention_dropout)
        return any(rates) or self.stochastic_depth > 0.0

    def layers_below(self) -> int:
        """Layers that a stack of this config goes on from; not the other stack of a pair."""
        return 0

    def of_layer(self, layer: int) -> ModelConfig:
        """The config of one layer of a stack; only layers of equal ones are scanned together."""
        return self

    def drop_rates(self, num_layers: int) -> tuple[float, ...]:
        """Stochastic depth's probability of leaving out each layer's branches."""
        top = max(num_layers - 1, 1)
        return tuple(self.stochastic_depth * layer / top for layer in range(num_layers))

    def windows(self, num_layers: int) -> tuple[int | None, ...]:
        """Each layer's window, None where it sees everything."""
        kinds = spread(self.window_pattern, num_layers)
        return tuple(self.window if kind == "L" else None for kind in kinds)


def spread(pattern: str, num_layers: int) -> str:
    """A letter for each layer of a pattern that is repeated over the depth."""
    return "".join(pattern[layer % len(pattern)] for layer in range(num_layers))


def shortest_pattern(letters: str) -> str:
    """The shortest pattern that gives each layer its letter."""
    periods = range(1, len(letters))
    shorter = (letters[:n] for n in periods if spread(letters[:n], len(letters)) == letters)
    return next(shorter, letters)
