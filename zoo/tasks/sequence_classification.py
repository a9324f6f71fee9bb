"""Sequence classification: which of some classes a text is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.preview import printable
from zoo.tasks.base import Batch, Metric, Task
from zoo.tasks.framing import framed
from zoo.tasks.losses import accuracy, entropy_loss


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Texts behind a begin token, whose place a head reads (BERT's [CLS], 1810.04805).

    Args:
        rows: classes of `zoo.data.examples.ExampleData`.
        spec: what stands around a text.

    Returns:
        `inputs` int32 and `attention_mask` bool [batch, length]; `targets` int32 and `mask`
        bool [batch].
    """
    text, size = rows["first"], rows["first_length"]
    made = framed(text, size, spec.frame, text.shape[1])
    return {
        "inputs": made.tokens,
        "attention_mask": made.seen,
        "targets": rows["second"][:, 0],
        "mask": size > 0,
    }


def inputs(batch: Batch) -> dict[str, Any]:
    return {"input_ids": batch["inputs"], "attention_mask": batch["attention_mask"]}


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """A text as far as it is kept, and its label."""
    made = {name: array[0] for name, array in batch(rows, data.spec).items()}
    size, (before, after) = int(made["attention_mask"].sum()), data.spec.frame
    return [
        f"--- {data.spec.labels[made['targets']]}: {size} tokens of {len(made['inputs'])}",
        *printable(data.tokenizer.decode(made["inputs"][len(before) : size - len(after)])),
    ]


SEQUENCE_CLASSIFICATION = Task(
    name="sequence_classification",
    summary="say which of some classes a text is of",
    batch=batch,
    inputs=inputs,
    loss=entropy_loss(inputs, ranked=True),
    metrics=accuracy,
    metric=Metric("accuracy", lower_is_better=False),
    show=show,
    models=(
        ("encoder", "sequence_classification"),
        ("decoder", "sequence_classification"),
    ),
    rows="classes",
    needs=("begin",),
    framed=True,
    hits=("correct",),
)
