"""What a model is: architecture choices, all independent of the placement."""

from __future__ import annotations

import dataclasses
from typing import Literal

from zoo.errors import ConfigError, choices
from zoo.layers.attention import Implementation, NormOver
from zoo.layers.embeddings import Positions
from zoo.layers.mlp import Activation
from zoo.layers.norms import NormKind, NormSpec
from zoo.settings import check_types
from zoo.variants.placement import Placement, Presence
from zoo.variants.registry import get_variant
from zoo.variants.variant import SUBLAYERS, Architecture, Layout, Stack, Variant

Head = Literal[
    "language_model",
    "masked_lm",
    "sequence_classification",
    "token_classification",
    "span",
    "image_classification",
    "none",
]
# The heads that an architecture can carry, its usual one first.
HEADS: dict[Architecture, tuple[Head, ...]] = {
    "decoder": ("language_model", "sequence_classification", "token_classification", "none"),
    "encoder": ("masked_lm", "sequence_classification", "token_classification", "span", "none"),
    "encoder_decoder": ("language_model", "none"),
    "vision": ("image_classification", "none"),
}
# Labels where nothing else is asked for.
_LABELS = 2

# Byte vocabulary, and the longest sequence, where nothing else is asked for.
_VOCABULARY, _LENGTH = 256, 512


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
    head: Head | None = None
    """What stands on the stack; default: the architecture's usual one."""
    num_labels: int | None = None
    """Classes of a classification head; default 2, or in training what the text has."""
    pooling: Literal["first", "mean"] = "first"
    """The vector of a sequence: the first token's (in vision an own class token), or the mean."""
    pooler: bool = False
    """BERT's dense layer and tanh on the first token's vector."""
    decoder_start_id: int | None = None
    """Token that an encoder_decoder's target starts behind; default 0, or in training the
    tokenizer's begin token."""
    type_vocab_size: int | None = None
    """Kinds of token in an encoder (BERT's segments); None: no embedding of kinds."""
    image_size: int = 32
    """Side of the square images of a vision model, in pixels."""
    patch_size: int = 4
    """Side of a patch, in pixels; it divides image_size."""
    num_channels: int = 3
    """Channels of the images, which stand last."""
    layout: Layout = "sequential"
    """parallel: attention and MLP read the same input and are added together (GPT-J, PaLM)."""
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
    norm: NormKind = "layer_norm"
    """Kind of every norm."""
    norm_eps: float = 1e-5
    """Added to the variance in every norm."""
    norm_bias: bool = True
    """Whether layer norms have a shift."""
    embedding_norm: bool | None = None
    """Norm after the embedding; default: as the variant requires."""
    final_norm: bool | None = None
    """Norm before the head; default: as the variant requires."""
    positions: Positions = "learned"
    """How tokens know their place."""
    rotary_theta: float = 10000.0
    """Base of the rotary frequencies."""
    embedding_scale: bool = True
    """Multiply token embeddings by sqrt(d_model), as the original does."""
    activation: Activation = "gelu"
    """Activation of the MLP (gelu is the exact one)."""
    gated: bool = False
    """Gate the MLP (with silu: SwiGLU)."""
    bias: bool = True
    """Biases in attention and MLP."""
    qk_norm: bool | None = None
    """Norm on each head's queries and keys; default: as the variant requires."""
    qk_norm_over: NormOver = "head"
    """One gain for all heads (head), one each (per_head), or all heads together (width)."""
    attention_softcap: float | None = None
    """c of c tanh(score / c) in attention."""
    logit_softcap: float | None = None
    """c of c tanh(logit / c) at the head."""
    value_residual: bool = False
    """Average each layer's values with the first layer's (ResFormer, 2410.17897)."""
    tie_embeddings: bool = False
    """Use the embedding table as the head; a stack whose skip is strong then starts out
    predicting the token it was given."""
    window: int | None = None
    """Attend to the last `window` positions only, in layers that the pattern calls local."""
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

    def _max_length(self) -> int:
        if self.architecture == "vision":
            return (self.image_size // self.patch_size) ** 2 + (self.pooling == "first")
        return self.max_length or _LENGTH

    def depth(self, stack: Stack) -> int:
        """Layers of one stack; 0 where the architecture has no such stack."""
        if stack not in SUBLAYERS[self.architecture]:
            return 0
        if self.architecture != "encoder_decoder":
            return self.num_layers
        own = self.num_encoder_layers if stack == "encoder" else self.num_decoder_layers
        return self.num_layers if own is None else own

    def norm_spec(self) -> NormSpec:
        return NormSpec(self.norm, self.norm_eps, self.norm_bias)

    def is_random(self) -> bool:
        """Whether training draws anything: dropout of some kind."""
        rates = (self.dropout, self.embedding_dropout, self.attention_dropout)
        return any(rates) or self.stochastic_depth > 0.0

    def windows(self, num_layers: int) -> tuple[int | None, ...]:
        """Each layer's window, None where it sees everything."""
        pattern = self.window_pattern
        kinds = (pattern[layer % len(pattern)] for layer in range(num_layers))
        return tuple(self.window if kind == "L" else None for kind in kinds)


def resolve(config: ModelConfig, placement: Placement | None = None) -> ModelConfig:
    """The same config with nothing left open.

    Args:
        placement: of this architecture and depth; default: `place(config)`.

    Raises:
        ConfigError: on a value, or a combination of values, that cannot work.
        VariantError: when the variant is not known or its options are wrong.
    """
    validate(config)
    placement = place(config) if placement is None else placement
    name = placement.variant
    if [own for own, _ in placement.stacks] != list(SUBLAYERS[config.architecture]):
        raise ConfigError(
            f"architecture = {config.architecture!r}: this placement of {name} is of "
            f"{choices(own for own, _ in placement.stacks)}; use an architecture with these stacks"
        )
    for own, stack in placement.stacks:
        depth = config.depth("encoder" if own == "encoder" else "decoder")
        if len(stack.layers) != depth:
            raise ConfigError(
                f"num_layers = {depth}: this placement of {name} has "
                f"{len(stack.layers)} layers; use that"
            )
    qk_norm = _qk_norm(config, placement, name)
    if config.qk_norm_over != "head" and not qk_norm:
        raise ConfigError(
            f"qk_norm_over = {config.qk_norm_over!r} without qk_norm; set qk_norm = True as well"
        )
    # A variant asks the same of the ends of both stacks.
    ends, pairs = placement.stacks[0][1], config.architecture == "encoder_decoder"
    return dataclasses.replace(
        config,
        variant=name,
        embedding_norm=_end("embedding_norm", config.embedding_norm, ends.embedding_norm, name),
        final_norm=_end("final_norm", config.final_norm, ends.final_norm, name),
        qk_norm=qk_norm,
        head=config.head or HEADS[config.architecture][0],
        num_encoder_layers=config.depth("encoder") if pairs else None,
        num_decoder_layers=config.depth("decoder") if pairs else None,
        decoder_start_id=(config.decoder_start_id or 0) if pairs else None,
        **dataclasses.asdict(config.sizes()),
    )


def place(config: ModelConfig, variant: Variant | None = None) -> Placement:
    """The placement of this architecture at this depth; of `config.variant` unless one is given.

    Raises:
        ConfigError, VariantError: as `resolve`.
    """
    validate(config)
    chosen = get_variant(config.variant) if variant is None else variant
    return chosen.resolve(
        config.architecture,
        num_encoder_layers=config.depth("encoder"),
        num_decoder_layers=config.depth("decoder"),
        d_model=config.d_model,
        d_ff=config.sizes().d_ff,
        num_heads=config.num_heads,
        head_dim=config.sizes().head_dim,
        layout=config.layout,
    )


def validate(config: ModelConfig) -> None:
    """Raise ConfigError at the first value that cannot work."""
    if not isinstance(config.variant, str):
        raise ConfigError(
            f"variant = {config.variant!r}: a config holds a name; register the variant with "
            "zoo.register_variant, or give it to zoo.create_model"
        )
    check_types(config)
    for field in ("d_model", "num_layers", "num_heads", "image_size", "patch_size", "num_channels"):
        _positive(field, getattr(config, field))
    _check_architecture(config)
    optional = ("vocab_size", "max_length", "num_kv_heads", "head_dim", "d_ff", "window")
    for field in (*optional, "num_labels", "type_vocab_size"):
        if getattr(config, field) is not None:
            _positive(field, getattr(config, field))
    heads, width = config.num_heads, config.d_model
    if config.head_dim is None and width % heads:
        raise ConfigError(
            f"num_heads = {heads} does not divide d_model = {width}; "
            f"use {choices(_divisors(width))}, or set head_dim"
        )
    sizes = config.sizes()
    kv_heads = sizes.num_kv_heads
    if heads % kv_heads:
        raise ConfigError(
            f"num_kv_heads = {kv_heads} does not divide num_heads = {heads}; "
            f"use {choices(_divisors(heads))}"
        )
    if config.positions == "rotary" and sizes.head_dim % 2:
        raise ConfigError(f"head_dim = {sizes.head_dim} is odd; rotary positions need it even")
    if config.positions == "sinusoidal" and width % 2:
        raise ConfigError(f"d_model = {width} is odd; sinusoidal positions need it even")
    for field in ("dropout", "embedding_dropout", "attention_dropout", "stochastic_depth"):
        rate = getattr(config, field)
        if not 0.0 <= rate < 1.0:
            raise ConfigError(f"{field} = {rate}: a rate lies in [0, 1)")
    for field in ("norm_eps", "init_std", "rotary_theta"):
        if not getattr(config, field) > 0.0:
            raise ConfigError(f"{field} = {getattr(config, field)}: must be above 0")
    if config.embedding_std is not None and not config.embedding_std > 0.0:
        raise ConfigError(f"embedding_std = {config.embedding_std}: must be above 0")
    if not config.window_pattern or set(config.window_pattern) - {"L", "G"}:
        raise ConfigError(
            f"window_pattern = {config.window_pattern!r}: use the letters L (local) and G (global)"
        )
    if config.window is None and "G" in config.window_pattern:
        raise ConfigError(
            f"window_pattern = {config.window_pattern!r} without a window; set window as well"
        )
    longest = sizes.max_length
    if config.window is not None and config.window > longest:
        raise ConfigError(
            f"window = {config.window} is longer than max_length = {longest}; use at most {longest}"
        )
    for field in ("attention_softcap", "logit_softcap"):
        cap = getattr(config, field)
        if cap is not None and not cap > 0.0:
            raise ConfigError(f"{field} = {cap}: must be above 0, or None for no cap")
    if config.attention == "fused" and config.attention_softcap is not None:
        raise ConfigError(
            f"attention = 'fused' with attention_softcap = {config.attention_softcap}: the fused "
            "kernels have no cap; use attention = 'auto' or attention_softcap = None"
        )
    if config.attention == "fused" and config.attention_dropout:
        raise ConfigError(
            f"attention = 'fused' with attention_dropout = {config.attention_dropout}: the fused "
            "kernels have no dropout; use attention = 'auto' or attention_dropout = 0"
        )


def _check_architecture(config: ModelConfig) -> None:
    """Refuse what this architecture has no place for, naming what it has."""
    architecture = config.architecture
    pairs, vision = architecture == "encoder_decoder", architecture == "vision"
    if config.head is not None and config.head not in HEADS[architecture]:
        raise ConfigError(
            f"head = {config.head!r}: architecture = {architecture!r} carries "
            f"{choices(HEADS[architecture])}"
        )
    for field in ("num_encoder_layers", "num_decoder_layers"):
        value = getattr(config, field)
        if value is not None and not pairs:
            raise ConfigError(
                f"{field} = {value}: {architecture!r} has one stack; use num_layers, or "
                "architecture = 'encoder_decoder'"
            )
        if value is not None:
            _positive(field, value)
    start, vocabulary = config.decoder_start_id, config.sizes().vocab_size
    if start is not None and not pairs:
        raise ConfigError(
            f"decoder_start_id = {start}: {architecture!r} has no target; leave it out, or use "
            "architecture = 'encoder_decoder'"
        )
    if start is not None and not 0 <= start < vocabulary:
        raise ConfigError(f"decoder_start_id = {start}; ids run from 0 to {vocabulary - 1}")
    if config.layout == "parallel" and pairs:
        raise ConfigError(
            "layout = 'parallel' with architecture = 'encoder_decoder': cross-attention stands "
            "between attention and MLP; use layout = 'sequential', or another architecture"
        )
    if config.type_vocab_size is not None and architecture != "encoder":
        raise ConfigError(
            f"type_vocab_size = {config.type_vocab_size}: only an encoder has kinds of token; "
            "leave it out"
        )
    if config.pooler and (architecture != "encoder" or config.pooling != "first"):
        raise ConfigError(
            "pooler = True: it stands on the first token of an encoder; use architecture = "
            "'encoder' and pooling = 'first', or pooler = False"
        )
    head = config.head or HEADS[architecture][0]
    if config.pooler and head not in ("sequence_classification", "none"):
        raise ConfigError(
            f"pooler = True with head = {head!r}, which reads every token: use head = "
            "'sequence_classification' or 'none', or pooler = False"
        )
    if vision:
        places = config.sizes().max_length
        if config.max_length not in (None, places):
            raise ConfigError(
                f"max_length = {config.max_length} with architecture = 'vision': its images have "
                f"{places} places; leave it out"
            )
        if config.image_size % config.patch_size:
            raise ConfigError(
                f"patch_size = {config.patch_size} does not divide image_size = "
                f"{config.image_size}; use {choices(_divisors(config.image_size))}"
            )
        if config.positions == "rotary":
            raise ConfigError(
                "positions = 'rotary' with architecture = 'vision': patches have two coordinates; "
                "use 'learned', 'sinusoidal' or 'none'"
            )
        if config.window is not None:
            raise ConfigError(
                f"window = {config.window} with architecture = 'vision': patches have two "
                "coordinates; leave it out"
            )
        if config.tie_embeddings:
            raise ConfigError(
                "tie_embeddings = True with architecture = 'vision': patches are no words; "
                "use False"
            )


def _end(field: str, value: bool | None, presence: Presence, variant: str) -> bool:
    if presence == "required" and value is False:
        raise ConfigError(f"{field} = False: {variant} needs it; leave it out or set it to True")
    if presence == "forbidden" and value is True:
        raise ConfigError(f"{field} = True: {variant} forbids it; leave it out or set it to False")
    return presence == "required" if value is None else value


def _qk_norm(config: ModelConfig, placement: Placement, variant: str) -> bool:
    sites = [site for _, stack in placement.stacks for layer in stack.layers for site in layer]
    asked = {site.qk_norm for site in sites} - {None}
    if config.qk_norm is not None and asked and config.qk_norm not in asked:
        needs = "needs" if True in asked else "forbids"
        raise ConfigError(f"qk_norm = {config.qk_norm}: {variant} {needs} it; leave it out")
    return bool(config.qk_norm) if config.qk_norm is not None else True in asked


def _positive(field: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{field} = {value}: must be at least 1")


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
