"""Named architectures."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any

import jax
from flax import nnx

from zoo.errors import ConfigError, choices, near_matches
from zoo.models.config import ModelConfig, place
from zoo.models.transformer import Transformer, build
from zoo.variants.variant import Variant

PRESETS: dict[str, ModelConfig] = {
    "decoder-tiny": ModelConfig(d_model=64, num_layers=2, max_length=512),
    "decoder-small": ModelConfig(d_model=128, num_layers=6, max_length=1024),
    "gpt2-small": ModelConfig(
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
            default: the preset's.
        rngs: an `nnx.Rngs`, or a seed.
        overrides: fields of `ModelConfig`, such as `num_layers`.

    Raises:
        ConfigError: on an unknown preset or field, or a value that cannot work.
        VariantError: when the variant is not known or its options are wrong.
    """
    config = override(preset(name), overrides)
    if isinstance(variant, str):
        config = dataclasses.replace(config, variant=variant)
    placement = place(config, None if isinstance(variant, str) else variant)
    key = jax.random.key(rngs) if isinstance(rngs, int) else rngs.params()
    return build(config, key, placement=placement)


def override(config: ModelConfig, overrides: dict[str, Any]) -> ModelConfig:
    """`config` with some fields replaced; an unknown field is refused with near matches."""
    fields = [field.name for field in dataclasses.fields(config)]
    for name in overrides:
        if name not in fields:
            hint = near_matches(name, fields)
            raise ConfigError(f"unknown model field {name!r}{hint}; fields: {choices(fields)}")
    return dataclasses.replace(config, **overrides)
