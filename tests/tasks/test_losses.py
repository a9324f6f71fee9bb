"""Cross-entropy against optax."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

from zoo.tasks.losses import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_that_of_optax(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=4.0, size=(3, 5, 11)).astype(np.float32)
    targets = rng.integers(11, size=(3, 5)).astype(np.int32)
    soft = optax.smooth_labels(jax.nn.one_hot(targets, 11), smoothing)
    entropy = cross_entropy(logits, targets, label_smoothing=smoothing)
    # Sums of 11 terms of size 10 in float32.
    np.testing.assert_allclose(
        entropy.objective, optax.softmax_cross_entropy(logits, soft), rtol=2e-6, atol=2e-6
    )
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    np.testing.assert_allclose(entropy.nats, plain, rtol=2e-6, atol=2e-6)
