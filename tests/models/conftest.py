"""Tiny models, compiled once per configuration and shared by all tests of this folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.stack import Taps
from zoo.models.transformer import Transformer, build
from zoo.variants.registry import get_variant, list_variants

VOCAB, LENGTH, BATCH = 23, 12, 2
BASE = ModelConfig(
    vocab_size=VOCAB, d_model=8, num_layers=3, num_heads=2, d_ff=12, max_length=LENGTH
)


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A model, its parameters with all that is not drawn moved off its start, and `run`.

    `run(params, ids, **arguments of measure)` is compiled and gives (hidden, logits, taps).
    """

    model: Transformer
    params: dict[str, Any]
    weights: dict[str, Any]
    run: Callable[..., tuple[jax.Array, jax.Array, Taps]]

    @property
    def config(self) -> ModelConfig:
        return self.model.config


@functools.lru_cache(maxsize=64)
def _tiny(config: ModelConfig) -> Tiny:
    model = build(config, jax.random.key(0))
    start, weights = weight.split(model)
    leaves, treedef = jax.tree.flatten(start)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    # Matrices that start at 0 too.
    moved = [
        array
        if w.kind in _DRAWN and bool(jnp.any(array))
        else array + 0.2 * jax.random.normal(key, array.shape)
        for array, key, w in zip(leaves, keys, jax.tree.leaves(weights), strict=True)
    ]

    def run(params: dict[str, Any], ids: jax.Array, **arguments: Any) -> Any:
        bound = weight.bind(model, params)
        hidden, taps = bound.measure(ids, **arguments)
        (own,) = taps.values()
        return hidden, bound.logits(hidden), own

    return Tiny(model, jax.tree.unflatten(treedef, moved), weights, jax.jit(run))


_DRAWN = ("matrix", "embedding")


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Tiny]:
    """`tiny(variant, **fields of ModelConfig)`; equal arguments give the same compiled model."""

    def make(variant: str = "post_norm", **changes: Any) -> Tiny:
        return _tiny(dataclasses.replace(BASE, variant=variant, **changes))

    return make


@pytest.fixture(scope="session")
def ids() -> jax.Array:
    """[batch, length] int32 tokens."""
    return jax.random.randint(jax.random.key(2), (BATCH, LENGTH), 0, VOCAB, jnp.int32)


def one_a_stream() -> list[str]:
    """The first variant of every stream: what is of streams need not be asked of every entry."""
    first: dict[str, str] = {}
    for name in list_variants():
        first.setdefault(get_variant(name).stream, name)
    return list(first.values())
