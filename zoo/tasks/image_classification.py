"""Image classification: which of some classes an image is of (ViT, 2010.11929)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.tasks.base import Batch, Metric, Task
from zoo.tasks.judging import judge_labels
from zoo.tasks.losses import accuracy, entropy_loss


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Images with values from -1 to 1, as ViT takes them.

    Args:
        rows: of `zoo.data.images.ImageData`.

    Returns:
        `pixel_values` float32 [batch, height, width, channels]; `targets` int32 and `mask`
        bool [batch].
    """
    images = rows["images"]
    most = 255.0 if images.dtype == np.uint8 else 1.0
    return {
        "pixel_values": (images * np.float32(2.0 / most) - np.float32(1.0)).astype(np.float32),
        "targets": np.maximum(rows["labels"], 0),
        "mask": rows["labels"] >= 0,
    }


def inputs(batch: Batch) -> dict[str, Any]:
    return {"pixel_values": batch["pixel_values"]}


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """An image's label, and what its values are like."""
    image = rows["images"][0]
    shape = " x ".join(map(str, image.shape))
    means = ", ".join(f"{mean:.3g}" for mean in image.mean((0, 1)))
    return [
        f"--- {data.spec.labels[rows['labels'][0]]}: {shape} {image.dtype}, values "
        f"{image.min():.3g} to {image.max():.3g}, mean of each channel {means}"
    ]


IMAGE_CLASSIFICATION = Task(
    name="image_classification",
    summary="say which of some classes an image is of",
    batch=batch,
    inputs=inputs,
    loss=entropy_loss(inputs, ranked=True),
    metrics=accuracy,
    metric=Metric("accuracy", lower_is_better=False),
    show=show,
    models=(("vision", "image_classification"),),
    rows="images",
    hits=("correct",),
    judge=judge_labels(batch, inputs),
)
