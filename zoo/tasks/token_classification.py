"""Token classification: the label of each word of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.preview import printable
from zoo.tasks.base import Batch, Metric, Task
from zoo.tasks.framing import framed
from zoo.tasks.judging import judge_labels
from zoo.tasks.losses import accuracy, entropy_loss


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Texts with a label at the first token of each word (1810.04805, section 5.3).

    Args:
        rows: tags of `zoo.data.examples.ExampleData`.
        spec: what stands around a text.

    Returns:
        `inputs`, `targets` int32 and `attention_mask`, `mask` bool, all [batch, length].
    """
    text = rows["first"]
    made = framed(text, rows["first_length"], spec.frame, text.shape[1])
    tags = made.spread(rows["second"], len(spec.frame[0]))
    return {
        "inputs": made.tokens,
        "attention_mask": made.seen,
        "targets": np.maximum(tags - 1, 0),
        "mask": tags > 0,
    }


def inputs(batch: Batch) -> dict[str, Any]:
    return {"input_ids": batch["inputs"], "attention_mask": batch["attention_mask"]}


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """The words, each with its label behind it."""
    made = {name: array[0] for name, array in batch(rows, data.spec).items()}
    size = int(made["attention_mask"].sum())
    words = np.flatnonzero(made["mask"])
    pieces = np.split(made["inputs"][:size], words)
    text = data.tokenizer.decode(pieces[0])
    for place, piece in zip(words, pieces[1:], strict=True):
        word = data.tokenizer.decode(piece)
        kept = word.rstrip()
        text += f"{kept}‹{data.spec.labels[made['targets'][place]]}›{word[len(kept) :]}"
    return [f"--- {len(words)} words, {size} tokens of {len(made['inputs'])}", *printable(text)]


TOKEN_CLASSIFICATION = Task(
    name="token_classification",
    summary="say of which class each word of a text is",
    batch=batch,
    inputs=inputs,
    loss=entropy_loss(inputs, ranked=True),
    metrics=accuracy,
    metric=Metric("accuracy", lower_is_better=False),
    show=show,
    models=(("encoder", "token_classification"),),
    rows="tags",
    framed=True,
    hits=("correct",),
    judge=judge_labels(batch, inputs),
)
