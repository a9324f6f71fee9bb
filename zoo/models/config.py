"""What a model is: architecture choices, all independent of the placement."""

from __future__ import annotations

import dataclasses
from typing import Literal

from zoo.errors import ConfigError, choices
from zoo.layers.attention import Implementation
from zoo.layers.embeddings import Positions
from zoo.layers.mlp import Activation
from zoo.layers.norms import NormKind, NormSpec
from zoo.settings import check_types
from zoo.variants.placement import Placement, Presence, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.variant import Variant

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


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of one model; None means "follows from the others or from the variant"."""

    architecture: Literal["decoder"] = "decoder"
    """Which stacks the model has."""
    variant: str = "post_norm"
    """Norm placement: a name of `zoo list variants`, or name(option=value)."""
    vocab_size: int | None = None
    """Rows of the embedding; default 256, or in training what the tokenizer has."""
    d_model: int = 128
    """Width of the residual stream."""
    num_layers: int = 6
    """Layers (one layer: attention and MLP)."""
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
            max_length=self.max_length or _LENGTH,
            num_kv_heads=self.num_kv_heads or self.num_heads,
            head_dim=self.head_dim or self.d_model // self.num_heads,
            d_ff=self.d_ff or 4 * self.d_model,
            embedding_std=self.embedding_std or base_std,
        )

    def norm_spec(self) -> NormSpec:
        return NormSpec(self.norm, self.norm_eps, self.norm_bias)

    def is_random(self) -> bool:
        """Whether training draws anything: dropout of some kind."""
        rates = (self.dropout, self.embedding_dropout, self.attention_dropout)
        return any(rates) or self.stochastic_depth > 0.0

    def windows(self) -> tuple[int | None, ...]:
        """Each layer's window, None where it sees everything."""
        pattern = self.window_pattern
        kinds = (pattern[layer % len(pattern)] for layer in range(self.num_layers))
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
    ((_, stack),) = placement.stacks
    name = placement.variant
    if len(stack.layers) != config.num_layers:
        raise ConfigError(
            f"num_layers = {config.num_layers}: this placement of {name} has "
            f"{len(stack.layers)} layers; use that"
        )
    return dataclasses.replace(
        config,
        variant=name,
        embedding_norm=_end("embedding_norm", config.embedding_norm, stack.embedding_norm, name),
        final_norm=_end("final_norm", config.final_norm, stack.final_norm, name),
        qk_norm=_qk_norm(config, stack, name),
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
        num_decoder_layers=config.num_layers,
        d_model=config.d_model,
        d_ff=config.sizes().d_ff,
        num_heads=config.num_heads,
    )


def validate(config: ModelConfig) -> None:
    """Raise ConfigError at the first value that cannot work."""
    if not isinstance(config.variant, str):
        raise ConfigError(
            f"variant = {config.variant!r}: a config holds a name; register the variant with "
            "zoo.register_variant, or give it to zoo.create_model"
        )
    check_types(config)
    for field in ("d_model", "num_layers", "num_heads"):
        _positive(field, getattr(config, field))
    for field in ("vocab_size", "max_length", "num_kv_heads", "head_dim", "d_ff", "window"):
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
    if config.attention == "fused" and config.attention_dropout:
        raise ConfigError(
            f"attention = 'fused' with attention_dropout = {config.attention_dropout}: the fused "
            "kernels have no dropout; use attention = 'auto' or attention_dropout = 0"
        )


def _end(field: str, value: bool | None, presence: Presence, variant: str) -> bool:
    if presence == "required" and value is False:
        raise ConfigError(f"{field} = False: {variant} needs it; leave it out or set it to True")
    if presence == "forbidden" and value is True:
        raise ConfigError(f"{field} = True: {variant} forbids it; leave it out or set it to False")
    return presence == "required" if value is None else value


def _qk_norm(config: ModelConfig, stack: StackPlacement, variant: str) -> bool:
    asked = {site.qk_norm for layer in stack.layers for site in layer} - {None}
    if config.qk_norm is not None and asked and config.qk_norm not in asked:
        needs = "needs" if True in asked else "forbids"
        raise ConfigError(f"qk_norm = {config.qk_norm}: {variant} {needs} it; leave it out")
    return bool(config.qk_norm) if config.qk_norm is not None else True in asked


def _positive(field: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{field} = {value}: must be at least 1")


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
