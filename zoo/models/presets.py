"""Named architectures."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Collection
from typing import Any

import jax
from flax import nnx

from zoo.errors import ConfigError, choices, near_matches
from zoo.models.config import ModelConfig
from zoo.models.resolve import place
from zoo.models.transformer import Transformer, build
from zoo.variants.placement import Placement
from zoo.variants.registry import get_variant
from zoo.variants.variant import Variant

_TINY = ModelConfig(d_model=64, num_layers=2, max_length=512)
_ORIGINAL = ModelConfig(
    architecture="encoder_decoder",
    vocab_size=37000,
    d_model=512,
    num_layers=6,
    num_heads=8,
    max_length=1024,
    positions="sinusoidal",
    activation="relu",
    tie_embeddings=True,
    init="xavier_uniform",
    embedding_std=512**-0.5,
    dropout=0.1,
    embedding_dropout=0.1,
)
_BERT = ModelConfig(
    architecture="encoder",
    vocab_size=30522,
    d_model=768,
    num_layers=12,
    num_heads=12,
    max_length=512,
    norm_eps=1e-12,
    embedding_norm=True,
    embedding_scale=False,
    tie_embeddings=True,
    type_vocab_size=2,
    init="normal",
    dropout=0.1,
    embedding_dropout=0.1,
    attention_dropout=0.1,
)
_ROBERTA = dataclasses.replace(
    _BERT,
    vocab_size=50265,
    # Positions start behind that of the padding token, 1.
    position_offset=2,
    count_positions="unpadded",
    pad_id=1,
    norm_eps=1e-5,
    type_vocab_size=1,
)
_BART = dataclasses.replace(
    _ROBERTA,
    architecture="encoder_decoder",
    num_layers=6,
    max_length=1024,
    count_positions="all",
    type_vocab_size=None,
    attention_dropout=0.0,
    decoder_start_id=2,
)
_GPT = ModelConfig(
    vocab_size=40478,
    d_model=768,
    num_layers=12,
    num_heads=12,
    max_length=512,
    activation="gelu_tanh",
    embedding_scale=False,
    tie_embeddings=True,
    init="normal",
    dropout=0.1,
    embedding_dropout=0.1,
    attention_dropout=0.1,
)
_GPT2 = ModelConfig(
    variant="pre_norm(scaled_init=True)",
    vocab_size=50257,
    d_model=768,
    num_layers=12,
    num_heads=12,
    max_length=1024,
    activation="gelu_tanh",
    embedding_scale=False,
    tie_embeddings=True,
    init="normal",
)
_LLAMA = ModelConfig(
    variant="pre_norm",
    vocab_size=32000,
    d_model=4096,
    num_layers=32,
    num_heads=32,
    d_ff=11008,
    max_length=2048,
    norm="rms_norm",
    norm_eps=1e-6,
    positions="rotary",
    embedding_scale=False,
    activation="silu",
    gated=True,
    bias=False,
    init="normal",
)
_VIT = ModelConfig(
    architecture="vision",
    variant="pre_norm",
    d_model=768,
    num_layers=12,
    num_heads=12,
    norm_eps=1e-6,
    image_size=224,
    patch_size=16,
    num_labels=1000,
    init="normal",
)

# Trained on 256-pixel images with windows of 8 x 8 (2111.09883, section 4.1).
_SWIN2 = ModelConfig(
    architecture="vision",
    variant="swin_v2_norm",
    d_model=96,
    num_layers=12,
    num_heads=3,
    stage_layers=(2, 2, 6, 2),
    window=8,
    embedding_norm=True,
    positions="none",
    pooling="mean",
    image_size=256,
    patch_size=4,
    num_labels=1000,
    attention_bias="qvo",
    init="normal",
)


def _large(config: ModelConfig, **changes: Any) -> ModelConfig:
    """The same family at BERT-large's width."""
    wide = {"d_model": 1024, "num_layers": 24, "num_heads": 16}
    return dataclasses.replace(config, **(wide | changes))


PRESETS: dict[str, ModelConfig] = {
    "encoder-tiny": dataclasses.replace(_TINY, architecture="encoder", type_vocab_size=2),
    "decoder-tiny": _TINY,
    "encoder-decoder-tiny": dataclasses.replace(_TINY, architecture="encoder_decoder"),
    "vision-tiny": dataclasses.replace(
        _TINY, architecture="vision", max_length=None, num_labels=10
    ),
    "decoder-small": ModelConfig(d_model=128, num_layers=6, max_length=1024),
    # 1706.03762, table 3; about 37000 shared subwords (section 5.1).
    "transformer-base": _ORIGINAL,
    "transformer-big": dataclasses.replace(
        _ORIGINAL, d_model=1024, num_heads=16, embedding_std=1024**-0.5, dropout=0.3
    ),
    "bert-base": _BERT,
    "bert-large": _large(_BERT),
    "roberta-base": _ROBERTA,
    "roberta-large": _large(_ROBERTA),
    "distilbert": dataclasses.replace(_BERT, num_layers=6, type_vocab_size=None),
    "bart-base": _BART,
    "bart-large": _large(_BART, num_layers=12),
    "gpt1": _GPT,
    "gpt2-small": _GPT2,
    "gpt2-medium": _large(_GPT2),
    "gpt2-large": dataclasses.replace(_GPT2, d_model=1280, num_layers=36, num_heads=20),
    "gpt2-xl": dataclasses.replace(_GPT2, d_model=1600, num_layers=48, num_heads=25),
    "opt-125m": dataclasses.replace(
        _GPT2,
        variant="pre_norm",
        vocab_size=50272,
        max_length=2048,
        position_offset=2,
        count_positions="seen",
        activation="relu",
    ),
    "llama-7b": _LLAMA,
    "llama2-7b": dataclasses.replace(_LLAMA, max_length=4096, norm_eps=1e-5),
    "llama2-13b": dataclasses.replace(
        _LLAMA,
        d_model=5120,
        num_layers=40,
        num_heads=40,
        d_ff=13824,
        max_length=4096,
        norm_eps=1e-5,
    ),
    "tinyllama-1.1b": dataclasses.replace(
        _LLAMA, d_model=2048, num_layers=22, num_kv_heads=4, d_ff=5632, norm_eps=1e-5
    ),
    "mistral-7b": dataclasses.replace(
        _LLAMA, num_kv_heads=8, d_ff=14336, max_length=32768, norm_eps=1e-5, window=4096
    ),
    "qwen3-0.6b": dataclasses.replace(
        _LLAMA,
        vocab_size=151936,
        d_model=1024,
        num_layers=28,
        num_heads=16,
        num_kv_heads=8,
        head_dim=128,
        d_ff=3072,
        max_length=40960,
        rotary_theta=1e6,
        qk_norm=True,
        tie_embeddings=True,
    ),
    "olmo2-1b": dataclasses.replace(
        _LLAMA,
        variant="res_post_norm",
        vocab_size=100352,
        d_model=2048,
        num_layers=16,
        num_heads=16,
        d_ff=8192,
        max_length=4096,
        rotary_theta=5e5,
        qk_norm=True,
        qk_norm_over="width",
    ),
    "gemma2-2b": dataclasses.replace(
        _LLAMA,
        variant="sandwich_norm",
        vocab_size=256000,
        d_model=2304,
        num_layers=26,
        num_heads=8,
        num_kv_heads=4,
        head_dim=256,
        d_ff=9216,
        max_length=8192,
        norm="offset_rms_norm",
        embedding_scale=True,
        activation="gelu_tanh",
        attention_softcap=50.0,
        logit_softcap=30.0,
        tie_embeddings=True,
        window=4096,
        window_pattern="LG",
    ),
    # 224-pixel images in 16-pixel patches.
    "vit-base": _VIT,
    "vit-large": _large(_VIT),
    "vit-huge": dataclasses.replace(_VIT, d_model=1280, num_layers=32, num_heads=16, patch_size=14),
    "deit-tiny": dataclasses.replace(_VIT, d_model=192, num_heads=3),
    "deit-small": dataclasses.replace(_VIT, d_model=384, num_heads=6),
    "swinv2-tiny": _SWIN2,
    "swinv2-small": dataclasses.replace(_SWIN2, num_layers=24, stage_layers=(2, 2, 18, 2)),
    "swinv2-base": dataclasses.replace(
        _SWIN2, d_model=128, num_heads=4, num_layers=24, stage_layers=(2, 2, 18, 2)
    ),
}


def list_models(pattern: str = "*") -> list[str]:
    """Preset names that match a shell pattern, such as `*tiny*`."""
    return fnmatch.filter(PRESETS, pattern)


def preset(name: str) -> ModelConfig:
    """The config of a preset; ConfigError names the near matches of an unknown one."""
    if name not in PRESETS:
        hint = near_matches(name, PRESETS)
        raise ConfigError(f"model = {name!r} is not known{hint}; known: {choices(PRESETS)}")
    return PRESETS[name]


def create_model(
    name: str,
    *,
    variant: str | Variant | None = None,
    rngs: nnx.Rngs | int = 0,
    **overrides: Any,
) -> Transformer:
    """A freshly initialised model.

    Args:
        name: a preset, see `list_models`.
        variant: a name, `name(option=value)` or a `Variant`, which need not be registered;
            default: the preset's. What it requires or forbids at the ends of a stack and on
            queries and keys takes the place of what the preset has there.
        rngs: an `nnx.Rngs`, or a seed.
        overrides: fields of `ModelConfig`, such as `num_layers`.

    Raises:
        ConfigError: on an unknown preset or field, or a value that cannot work.
        VariantError: when the variant is not known or its options are wrong.
    """
    config = override(preset(name), overrides)
    given: Variant | None = None
    if isinstance(variant, str):
        config = dataclasses.replace(config, variant=variant)
    elif variant is not None:
        given = get_variant(variant)
    placement = place(config, given)
    if variant is not None:
        config = yielding(config, placement, keep=overrides)
    key = rngs.params() if isinstance(rngs, nnx.Rngs) else jax.random.key(rngs)
    return build(config, key, placement=placement)


def yielding(
    config: ModelConfig, placement: Placement, *, keep: Collection[str] = ()
) -> ModelConfig:
    """A preset's config without the switches that another placement decides otherwise.

    Args:
        keep: fields that stay, so that `resolve` refuses them where they clash.
    """
    ends = placement.stacks[0][1]
    sites = [site for _, stack in placement.stacks for layer in stack.layers for site in layer]
    decided = {
        "embedding_norm": ends.embedding_norm != "free",
        "final_norm": ends.final_norm != "free",
        "qk_norm": any(site.qk_norm is not None for site in sites),
    }
    opened: dict[str, Any] = {name: None for name, by in decided.items() if by and name not in keep}
    if not any(site.qk_norm for site in sites) and "qk_norm" in opened:
        opened |= {} if "qk_norm_over" in keep else {"qk_norm_over": "head"}
    return dataclasses.replace(config, **opened)


def override(config: ModelConfig, overrides: dict[str, Any]) -> ModelConfig:
    """`config` with some fields replaced; an unknown field is refused with near matches."""
    fields = [field.name for field in dataclasses.fields(config)]
    for name in overrides:
        if name not in fields:
            hint = near_matches(name, fields)
            raise ConfigError(f"unknown model field {name!r}{hint}; fields: {choices(fields)}")
    return dataclasses.replace(config, **overrides)
