"""Cross-entropy and the figures made of it, shared by the tasks."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Entropy(NamedTuple):
    """Arrays shaped like the targets: what is minimised, and the negative log-likelihood in it."""

    objective: jax.Array
    nats: jax.Array


def cross_entropy(
    logits: jax.Array, targets: jax.Array, *, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> Entropy:
    """Cross-entropy in nats of each target.

    Args:
        logits: [..., classes].
        targets: int32 [...].
        z_loss: weight of the squared log-normaliser (PaLM, 2204.02311, section 5).
        label_smoothing: part of the target's probability that is spread evenly over all
            classes, the target too (2015, 1512.00567, section 7; 0.1 in 1706.03762).
    """
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    nats = normaliser - target
    objective = nats
    if label_smoothing:
        # The soft target's sum of log p in closed form: no array of one-hot targets is made.
        objective = nats + label_smoothing * (target - jnp.mean(logits, axis=-1))
    if z_loss:
        objective = objective + z_loss * normaliser**2
    return Entropy(objective, nats)


def total(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The sum, float32, of the values that count; those that do not may be anything."""
    return jnp.sum(jnp.where(mask, values, 0.0), dtype=jnp.float32)


def perplexity(nats: float) -> float:
    """exp(nats), kept a number for a model that is far off."""
    return math.exp(min(nats, 700.0))
