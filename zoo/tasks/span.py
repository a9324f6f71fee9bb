"""Extractive answers: the span of a text that answers a question (1810.04805, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.preview import marked, printable
from zoo.tasks.base import Batch, Loss, Metric, Task
from zoo.tasks.losses import cross_entropy, total


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """[begin] question [separator] text [separator], with the answer's first and last place.

    Args:
        rows: spans of `zoo.data.examples.ExampleData`. A text that is too long loses its end;
            an answer that is cut, or that there is none, lies at the begin token.
        spec: the begin and the separator token.

    Returns:
        `inputs`, `token_type_ids` (0 in the question, 1 in the text) int32, `attention_mask`
        bool [batch, length]; `targets` int32 [batch, 2], first and last; `mask` bool [batch].
    """
    both, size = rows["first"], rows["first_length"][:, None]
    border, first, last = (part[:, None] for part in rows["second"].T)
    width = both.shape[1]
    begin, separator = spec.vocabulary.begin, spec.vocabulary.separator
    place = np.arange(width)
    # The question moves on by the begin token, the text by a separator more.
    end = np.minimum(size + 2, width - 1)
    shifted = np.take_along_axis(both, np.clip(place - 1 - (place > border), 0, width - 1), axis=1)
    tokens = np.where(place == 0, begin, shifted)
    tokens = np.where((place == border + 1) | (place == end), separator, tokens)
    real = (rows["first_length"] > 0)[:, None]
    kept = (place <= end) & real
    answer = np.concatenate([first, last], axis=1) + border + 1
    inside = (first > 0) & (last + border + 1 < end)
    return {
        "inputs": np.where(kept, tokens, 0).astype(np.int32),
        "token_type_ids": ((place > border + 1) & kept).astype(np.int32),
        "attention_mask": kept,
        "targets": np.where(inside, answer, 0).astype(np.int32),
        "mask": real[:, 0],
    }


def inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch["inputs"],
        "attention_mask": batch["attention_mask"],
        "token_type_ids": batch["token_type_ids"],
    }


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """The question, and the text with ‹…› around the answer."""
    made = {name: array[0] for name, array in batch(rows, data.spec).items()}
    size = int(made["attention_mask"].sum())
    place = np.arange(size)
    border = int(rows["second"][0, 0]) + 1
    first, last = made["targets"]
    answer = (place >= first) & (place <= last) & (first > 0)
    text = slice(border + 1, size - 1)
    return [
        f"--- question, {border - 1} tokens; {size} tokens of {len(made['inputs'])} in all",
        *printable(data.tokenizer.decode(made["inputs"][1:border])),
        "--- text" if first else "--- text, without an answer",
        *marked(data.tokenizer, made["inputs"][text], answer[text]),
    ]


def loss(
    model: Any,
    batch: Batch,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    dropout_key: jax.Array | None = None,
    step: jax.Array | None = None,
) -> Loss:
    """The mean of the cross-entropies of first and last place, from logits [batch, length, 2].

    `correct` is the share of the two that are right, `exact` counts examples with both.
    """
    logits = model(**inputs(batch), step=step, dropout_key=dropout_key)
    places, real = jnp.swapaxes(logits, 1, 2), batch["attention_mask"][:, None]
    targets, mask = batch["targets"], batch["mask"][:, None]
    entropy = cross_entropy(
        places, targets, z_loss=z_loss, label_smoothing=label_smoothing, real=real
    )
    right = jnp.argmax(jnp.where(real, places, -jnp.inf), axis=-1) == targets
    return Loss(
        total(entropy.objective, mask) / 2,
        total(entropy.nats, mask) / 2,
        jnp.sum(mask, dtype=jnp.float32),
        {
            "correct": total(right, mask) / 2,
            "exact": total(jnp.all(right, axis=-1, keepdims=True), mask),
        },
    )


def metrics(
    nats: float, bytes_per_token: float | None, *, correct: float, exact: float
) -> dict[str, float]:
    """Loss in nats a place, the share of places that are right, and of exact answers."""
    return {"loss": nats, "accuracy": correct, "exact_match": exact}


SPAN = Task(
    name="span",
    summary="find the span of a text that answers a question",
    batch=batch,
    inputs=inputs,
    loss=loss,
    metrics=metrics,
    metric=Metric("exact_match", lower_is_better=False),
    show=show,
    models=(("encoder", "span"),),
    rows="spans",
    needs=("begin", "separator"),
    token_types=2,
    hits=("correct", "exact"),
)
