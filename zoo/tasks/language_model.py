"""Language modelling: predict each token from those before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import RowSpec
from zoo.data.packing import loss_mask
from zoo.data.preview import show_text
from zoo.tasks.base import Batch, Metric, Task
from zoo.tasks.losses import entropy_loss, perplexity


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Rows of length + 1 tokens to inputs and their next tokens.

    Args:
        rows: `tokens` and `segment_ids`, int32 [batch, length + 1]; segment 0 is padding.
        spec: whether tokens may see their own document only; positions then restart with
            every document.

    Returns:
        `inputs`, `targets` int32 and `mask` bool, all [batch, length]: a target counts when
        it is no padding and belongs to the same segment as its input. With
        separate_documents also `segment_ids` and `positions`, int32.
    """
    tokens, segments = rows["tokens"], rows["segment_ids"]
    made: Batch = {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "mask": loss_mask(segments)[:, 1:],
    }
    if spec.separate_documents:
        made |= segmented(segments[:, :-1])
    return made


def segmented(segments: np.ndarray) -> Batch:
    """`segment_ids` and the `positions` within each segment, int32 [batch, length]."""
    index = np.arange(segments.shape[1], dtype=np.int32)
    starts = np.diff(segments, axis=1, prepend=segments[:, :1] - 1) != 0
    first = np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    return {"segment_ids": segments, "positions": (index - first).astype(np.int32)}


def inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch["inputs"],
        "segment_ids": batch.get("segment_ids"),
        "positions": batch.get("positions"),
    }


def metrics(nats: float, bytes_per_token: float) -> dict[str, float]:
    """Loss in nats a token, bits a byte and perplexity."""
    return {
        "loss": nats,
        "bits_per_byte": nats / math.log(2.0) / bytes_per_token,
        "perplexity": perplexity(nats),
    }


LANGUAGE_MODEL = Task(
    name="language_model",
    summary="predict each token from those before it",
    batch=batch,
    inputs=inputs,
    loss=entropy_loss(inputs),
    metrics=metrics,
    metric=Metric("bits_per_byte", lower_is_better=True, unit="bits a byte"),
    show=show_text,
    models=(("decoder", "language_model"),),
    continues_text=True,
)
