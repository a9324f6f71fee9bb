"""Making models: one class for each shape of model, one function for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from flax import nnx

from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.encoder_decoder import EncoderDecoder
from zoo.models.init import initial_params
from zoo.models.resolve import place, resolve
from zoo.models.swin import StagedVisionModel
from zoo.models.text import TextModel
from zoo.models.tower import Transformer
from zoo.models.vision import VisionModel
from zoo.variants.placement import Placement
from zoo.variants.variant import Architecture

_MODELS: dict[Architecture, Callable[[ModelConfig, Placement], Transformer]] = {
    "decoder": TextModel,
    "encoder": TextModel,
    "encoder_decoder": EncoderDecoder,
    "vision": VisionModel,
}

__all__ = ["Transformer", "build", "declare", "initialiser"]


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
        ConfigError, VariantError: as `zoo.models.resolve.resolve`.
    """
    placed = place(config) if placement is None else placement
    resolved = resolve(config, placed)
    kind = StagedVisionModel if resolved.stage_layers else _MODELS[resolved.architecture]
    model: Transformer = nnx.eval_shape(lambda: kind(resolved, placed))
    return model


def initialiser(model: Transformer) -> functools.partial[dict[str, jax.Array]]:
    """The function of a key that gives a declared model's parameters."""
    shapes, weights = weight.split(model)
    return functools.partial(initial_params, shapes, weights, model.config, model.placement)
