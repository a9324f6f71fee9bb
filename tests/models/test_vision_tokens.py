"""What stands before the patches of an image, and what its classifier reads."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from zoo.errors import ConfigError
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, build

SMALL: dict[str, Any] = {
    "architecture": "vision",
    "variant": "pre_norm",
    "d_model": 16,
    "num_layers": 1,
    "image_size": 8,
    "patch_size": 4,
    "num_labels": 3,
}
PATCHES = 4


def model(**changes: Any) -> Transformer:
    return build(ModelConfig(**SMALL | changes), jax.random.key(0))


@pytest.fixture
def images() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


@pytest.mark.parametrize(
    ("pooling", "distilled", "before"),
    [("mean", False, 0), ("first", False, 1), ("first_and_mean", False, 1), ("first", True, 2)],
)
def test_tokens_stand_before_the_patches(
    images: jax.Array, pooling: str, distilled: bool, before: int
) -> None:
    made = model(pooling=pooling, distillation_token=distilled)
    assert made.hidden(images).shape == (2, PATCHES + before, 16)
    assert made(images).shape == (2, 3)


def test_a_classifier_may_read_the_first_token_beside_the_mean_of_the_patches(
    images: jax.Array,
) -> None:
    made = model(pooling="first_and_mean", distillation_token=True)
    hidden = np.asarray(made.hidden(images), np.float64)
    read = np.concatenate([hidden[:, 0], hidden[:, 2:].mean(axis=1)], axis=-1)
    head = made.head.linear  # type: ignore[attr-defined]
    expected = read @ np.asarray(head.kernel[...]) + np.asarray(head.bias[...])
    np.testing.assert_allclose(made(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"distillation_token": True, "pooling": "mean"},
        {"architecture": "encoder", "distillation_token": True},
        {"architecture": "encoder", "pooling": "first_and_mean"},
    ],
)
def test_tokens_without_a_place_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="distillation_token = "):
        model(**changes)
