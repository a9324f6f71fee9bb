"""Sequence classification: which of some classes a text is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.preview import printable
from zoo.tasks.base import Batch, Task
from zoo.tasks.losses import accuracy, entropy_loss


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Texts behind a begin token, whose place a head reads (BERT's [CLS], 1810.04805).

    Args:
        rows: classes of `zoo.data.examples.ExampleData`.
        spec: the begin token.

    Returns:
        `inputs` int32 and `attention_mask` bool [batch, length]; `targets` int32 and `mask`
        bool [batch].
    """
    text, size = rows["first"], rows["first_length"]
    begin = np.full((len(text), 1), spec.vocabulary.begin, np.int32)
    real = size > 0
    return {
        "inputs": np.concatenate([begin, text[:, :-1]], axis=1),
        "attention_mask": (np.arange(text.shape[1]) <= size[:, None]) & real[:, None],
        "targets": rows["second"][:, 0],
        "mask": real,
    }


def inputs(batch: Batch) -> dict[str, Any]:
    return {"input_ids": batch["inputs"], "attention_mask": batch["attention_mask"]}


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """A text as far as it is kept, and its label."""
    made = {name: array[0] for name, array in batch(rows, data.spec).items()}
    size = int(made["attention_mask"].sum())
    return [
        f"--- {data.spec.labels[made['targets']]}: {size} tokens of {len(made['inputs'])}",
        *printable(data.tokenizer.decode(made["inputs"][1:size])),
    ]


SEQUENCE_CLASSIFICATION = Task(
    name="sequence_classification",
    summary="say which of some classes a text is of",
    batch=batch,
    inputs=inputs,
    loss=entropy_loss(inputs, ranked=True),
    metrics=accuracy,
    show=show,
    models=(
        ("encoder", "sequence_classification"),
        ("decoder", "sequence_classification"),
    ),
    rows="classes",
    needs=("begin",),
    hits=("correct",),
)
