"""Cross-entropy and the figures made of it, shared by the tasks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo.tasks.base import Batch, Loss


class Entropy(NamedTuple):
    """Arrays shaped like the targets: what is minimised, and the negative log-likelihood in it."""

    objective: jax.Array
    nats: jax.Array


def cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    real: jax.Array | None = None,
) -> Entropy:
    """Cross-entropy in nats of each target.

    Args:
        logits: [..., classes].
        targets: int32 [...].
        z_loss: weight of the squared log-normaliser (PaLM, 2204.02311, section 5).
        label_smoothing: part of the target's probability that is spread evenly over all
            classes, the target too (1512.00567, section 7; 0.1 in 1706.03762).
        real: bool [..., classes], the classes that there are; default: all.
    """
    held = logits if real is None else jnp.where(real, logits, -jnp.inf)
    normaliser = jax.nn.logsumexp(held, axis=-1)
    target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    nats = normaliser - target
    objective = nats
    if label_smoothing:
        # The soft target's sum of log p in closed form: no array of one-hot targets is made.
        mean = jnp.mean(logits, axis=-1, where=real)
        objective = nats + label_smoothing * (target - mean)
    if z_loss:
        objective = objective + z_loss * normaliser**2
    return Entropy(objective, nats)


def entropy_loss(
    inputs: Callable[[Batch], dict[str, Any]], *, ranked: bool = False
) -> Callable[..., Loss]:
    """The `Task.loss` of a model that gives logits [..., classes] for the batch's `targets` [...].

    Args:
        inputs: as of the task.
        ranked: whether to count, as the hit `correct`, the targets with the highest logit.
    """

    def loss(
        model: Any,
        batch: Batch,
        *,
        z_loss: float = 0.0,
        label_smoothing: float = 0.0,
        dropout_key: jax.Array | None = None,
        step: jax.Array | None = None,
    ) -> Loss:
        logits = model(**inputs(batch), step=step, dropout_key=dropout_key)
        targets, mask = batch["targets"], batch["mask"]
        entropy = cross_entropy(logits, targets, z_loss=z_loss, label_smoothing=label_smoothing)
        return Loss(
            total(entropy.objective, mask),
            total(entropy.nats, mask),
            jnp.sum(mask, dtype=jnp.float32),
            {"correct": total(jnp.argmax(logits, axis=-1) == targets, mask)} if ranked else {},
        )

    return loss


def total(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The sum, float32, of the values that count; those that do not may be anything."""
    return jnp.sum(jnp.where(mask, values, 0.0), dtype=jnp.float32)


def accuracy(nats: float, bytes_per_token: float | None, *, correct: float) -> dict[str, float]:
    """Loss in nats a label, and the share of labels that are ranked first."""
    return {"loss": nats, "accuracy": correct}


def perplexity(nats: float) -> float:
    """exp(nats), kept a number for a model that is far off."""
    return math.exp(min(nats, 700.0))
