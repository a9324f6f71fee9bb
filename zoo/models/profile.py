"""Learned skips set from one batch, before training (Admin, 2004.08249, section 4.2)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from zoo.errors import VariantError, choices
from zoo.layers import weight
from zoo.layers.weight import Weight
from zoo.models.tower import Transformer
from zoo.variants.placement import Placement
from zoo.variants.registry import get_variant, list_variants


def profile(model: Transformer, batch: Any, *, key: jax.Array | int = 0) -> Transformer:
    """A copy of a fresh model whose skips are set by running one batch in training mode.

    Sublayer by sublayer the skip becomes the root of the variance of all that was added before
    it, each stack by itself, and the run goes on with it.

    Args:
        batch: real data: the arguments of a call by name, or the first of them alone, such as
            [batch, length] int32 tokens.
        key: of dropout, or a seed; the dropout rates are the model's.

    Raises:
        VariantError: when the model's placement has nothing to profile.
    """
    if "profile" not in model.placement.hooks:
        known = [name for name in list_variants() if "profile" in get_variant(name).hooks]
        raise VariantError(
            f"profile: {model.placement.variant} sets nothing from a batch; use {choices(known)}"
        )
    params, _ = weight.split(model)
    drawn = jax.random.key(key) if isinstance(key, int) else key
    return weight.bind(model, profiled(model, params, batch, drawn))


def profiled(
    model: Transformer, params: dict[str, Any], batch: Any, key: jax.Array
) -> dict[str, Any]:
    """`params` with the skips of a profile, placed like those that they replace."""

    @jax.jit
    def skips(params: dict[str, Any], batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        measure = functools.partial(
            weight.bind(model, params).measure, dropout_key=key, taps="profile"
        )
        _, taps = measure(**batch) if isinstance(batch, Mapping) else measure(batch)
        return {stack: own["skip"] for stack, own in taps.items()}

    _, weights = weight.split(model)
    found = skips(params, batch, key)
    set_: dict[str, Any] = weight.map_weights(
        functools.partial(_with_skip, model.placement, found), weights, params
    )
    return set_


def _with_skip(
    placement: Placement, skips: dict[str, jax.Array], declared: Weight, value: jax.Array
) -> jax.Array:
    """The value, or for the skip of a sublayer that of the profile, for each of its layers."""
    if declared.role != "skip" or declared.stack is None or declared.layers is None:
        return value
    layers = placement.stack(declared.stack).layers
    (column,) = {
        index
        for layer in declared.layers
        for index, site in enumerate(layers[layer])
        if site.sublayer == declared.sublayer
    }
    own = skips[declared.stack][jnp.asarray(list(declared.layers)), column]
    spread = jnp.broadcast_to(own.reshape(-1, *(1 for _ in value.shape[1:])), value.shape)
    return jax.device_put(spread, value.sharding)
