"""Language modelling: predict each token from those before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.packing import loss_mask
from zoo.tasks.base import Batch, Loss, Task


def batch(rows: Mapping[str, np.ndarray], separate_documents: bool) -> Batch:
    """Rows of length + 1 tokens to inputs and their next tokens.

    Args:
        rows: `tokens` and `segment_ids`, int32 [batch, length + 1]; segment 0 is padding.
        separate_documents: whether tokens may see their own document only; positions then
            restart with every document.

    Returns:
        `inputs`, `targets` int32 and `mask` bool, all [batch, length]: a target counts when
        it is no padding and belongs to the same segment as its input. With
        separate_documents also `segment_ids` and `positions`, int32.
    """
    tokens, segments = rows["tokens"], rows["segment_ids"]
    before = segments[:, :-1]
    made: Batch = {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "mask": loss_mask(segments)[:, 1:],
    }
    if separate_documents:
        index = np.arange(before.shape[1], dtype=np.int32)
        starts = np.diff(before, axis=1, prepend=before[:, :1] - 1) != 0
        first = np.maximum.accumulate(np.where(starts, index, 0), axis=1)
        made |= {"segment_ids": before, "positions": (index - first).astype(np.int32)}
    return made


def loss(
    model: Any,
    batch: Batch,
    *,
    z_loss: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> Loss:
    """Cross-entropy in nats; z_loss weighs the squared log-normaliser (PaLM, 2204.02311)."""
    logits = model(
        batch["inputs"],
        segment_ids=batch.get("segment_ids"),
        positions=batch.get("positions"),
        dropout_key=dropout_key,
    )
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    target = jnp.take_along_axis(logits, batch["targets"][..., None], axis=-1)[..., 0]
    mask = batch["mask"]
    nats = jnp.sum(jnp.where(mask, normaliser - target, 0.0))
    objective = nats
    if z_loss:
        objective = nats + z_loss * jnp.sum(jnp.where(mask, normaliser**2, 0.0))
    return Loss(objective, nats, jnp.sum(mask, dtype=jnp.float32))


def metrics(nats: float, bytes_per_token: float) -> dict[str, float]:
    """Loss in nats a token, bits a byte and perplexity."""
    return {
        "loss": nats,
        "bits_per_byte": nats / math.log(2.0) / bytes_per_token,
        "perplexity": math.exp(min(nats, 700.0)),
    }


LANGUAGE_MODEL = Task(
    name="language_model",
    summary="predict each token from those before it",
    batch=batch,
    loss=loss,
    metrics=metrics,
)
