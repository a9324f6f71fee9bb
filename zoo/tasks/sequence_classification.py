"""Sequence classification: which of some classes a text is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.preview import printable
from zoo.tasks.base import Batch, Metric, Task
from zoo.tasks.framing import Framed, FramedPair, framed, framed_pair
from zoo.tasks.judging import judge_labels
from zoo.tasks.losses import accuracy, entropy_loss


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Texts behind a begin token, whose place a head reads (BERT's [CLS], 1810.04805).

    Args:
        rows: classes of `zoo.data.examples.ExampleData`.
        spec: what stands around a text, or around two that are classified together.

    Returns:
        `inputs` int32 and `attention_mask` bool [batch, length]; `targets` int32 and `mask`
        bool [batch]; where two texts are told apart also `token_type_ids` int32.
    """
    made, pair = _framed(rows, spec), spec.pair_frame
    arrays: Batch = {
        "inputs": made.tokens,
        "attention_mask": made.seen,
        "targets": rows["second"][:, 0],
        "mask": rows["first_length"] > 0,
    }
    if pair is not None and any(pair.kinds):
        assert isinstance(made, FramedPair)
        # Padding, the last entry, is of kind 0.
        arrays["token_type_ids"] = np.asarray([*pair.kinds, 0], np.int32)[made.part]
    return arrays


def _framed(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Framed | FramedPair:
    text, size = rows["first"], rows["first_length"]
    if spec.pair_frame is None:
        return framed(text, size, spec.frame, text.shape[1])
    # Before the second text stands the label.
    second = rows["second"][:, 1:], np.maximum(rows["second_length"] - 1, 0)
    return framed_pair((text, size), second, spec.pair_frame, text.shape[1])


def inputs(batch: Batch) -> dict[str, Any]:
    given = {"input_ids": batch["inputs"], "attention_mask": batch["attention_mask"]}
    if "token_type_ids" in batch:
        given["token_type_ids"] = batch["token_type_ids"]
    return given


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """A text, or two, as far as kept, and the label."""
    made = _framed(rows, data.spec)
    tokens, label = made.tokens[0], data.spec.labels[rows["second"][0, 0]]
    lines = [f"--- {label}: {int(made.seen.sum())} tokens of {len(tokens)}"]
    if isinstance(made, Framed):
        return lines + printable(data.tokenizer.decode(tokens[made.text[0]]))
    for title, part in (("--- first text", 1), ("--- second text", 3)):
        lines += [title, *printable(data.tokenizer.decode(tokens[made.part[0] == part]))]
    return lines


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
    judge=judge_labels(batch, inputs),
)
