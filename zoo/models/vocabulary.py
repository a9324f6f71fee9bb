"""Another number of words for a model that has been trained."""

from __future__ import annotations

import dataclasses
import zlib

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.layers.norms import unit
from zoo.layers.weight import Weight
from zoo.models.tower import Transformer
from zoo.models.transformer import declare

# Share of the old rows' covariance that new rows are drawn with: they start all but equal to the
# mean, and no two of them are equal.
_COVARIANCE = 1e-9


def resize_vocabulary(
    model: Transformer, vocab_size: int, *, seed: int = 0, shrink: bool = False
) -> Transformer:
    """The model with another number of rows in its embeddings, and in its head if it has a matrix.

    Rows that stay are equal to the bit. New rows are drawn around the mean of the old ones, with a
    billionth of their covariance; a bias, or a learned scale of a word, is the mean of the old
    ones. So an untrained word gets about the average logit, and the probabilities of all others
    hardly change (Hewitt, "Initializing new word embeddings for pretrained language models", 2021;
    the `mean_resizing` of transformers).

    Args:
        vocab_size: rows of the result; the tokenizer that goes along is not changed.
        seed: of the draw.
        shrink: allow fewer rows than there are, of which the first stay.

    Raises:
        ConfigError: on fewer rows without `shrink`, on an id of the config beyond the rows, or on a
            model of images.
    """
    config = model.config
    if config.architecture == "vision":
        raise ConfigError("resize_vocabulary: a model of images has no vocabulary")
    before = config.sizes().vocab_size
    if vocab_size < 1:
        raise ConfigError(f"vocab_size = {vocab_size}; use 1 or more")
    if vocab_size < before and not shrink:
        raise ConfigError(
            f"vocab_size = {vocab_size} would take {before - vocab_size} of {before} words away; "
            "use more, or allow it with shrink"
        )
    for field in ("pad_id", "decoder_start_id"):
        value = getattr(config, field)
        if value is not None and value >= vocab_size:
            raise ConfigError(f"vocab_size = {vocab_size}: {field} = {value} needs more rows")
    made = declare(dataclasses.replace(config, vocab_size=vocab_size), model.placement)
    params, weights = weight.split(model)
    declared = flatten_dict(weights)
    sphere = "sphere" in model.placement.hooks

    def resized(path: tuple[str, ...], array: jax.Array) -> jax.Array:
        own: Weight = declared[path]
        if "vocab" not in own.axes:
            return array
        axis = own.axes.index("vocab") + own.stacked
        rows = jnp.moveaxis(array, axis, 0)
        if vocab_size > before:
            key = jax.random.fold_in(jax.random.key(seed), zlib.crc32("/".join(path).encode()))
            new = _new_rows(rows, vocab_size - before, key)
            rows = jnp.concatenate([rows, unit(new) if sphere and rows.ndim == 2 else new])
        return jnp.moveaxis(rows[:vocab_size], 0, axis)

    flat = {path: resized(path, array) for path, array in flatten_dict(params).items()}
    bound = weight.bind(made, unflatten_dict(flat))
    bound.descend(model)
    return bound


def _new_rows(rows: jax.Array, count: int, key: jax.Array) -> jax.Array:
    """[count, ...] around the mean of [words, ...]; of numbers the mean itself."""
    mean = jnp.mean(rows, axis=0)
    if rows.ndim == 1:
        return jnp.full(count, mean)
    centred = (rows - mean) * (_COVARIANCE / len(rows)) ** 0.5

    def draw(key: jax.Array) -> jax.Array:
        # A mixture of centred rows with normal weights has just their covariance.
        return mean + jax.random.normal(key, (len(rows),)) @ centred

    return jax.lax.map(draw, jax.random.split(key, count))
