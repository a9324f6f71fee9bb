"""Probes of depth: answer problems that are generated exactly (`zoo.data.probes`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.probes import PROBES, Probe
from zoo.tasks.base import Batch, Loss, Metric, Task
from zoo.tasks.losses import cross_entropy, total


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Problems to inputs and the answers behind them.

    Args:
        rows: of `zoo.data.generated.ProbeData`.

    Returns:
        `inputs`, `targets` int32, `mask` bool, where the target is an answer, and
        `attention_mask` bool, all [batch, length]. A problem's last answer is never seen.
    """
    tokens, places = rows["tokens"], np.arange(spec.length)
    return {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "mask": rows["answers"][:, 1:],
        "attention_mask": places < rows["sizes"][:, None] - 1,
    }


def inputs(batch: Batch) -> dict[str, Any]:
    return {"input_ids": batch["inputs"], "attention_mask": batch["attention_mask"]}


def loss(
    model: Any,
    batch: Batch,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    dropout_key: jax.Array | None = None,
    step: jax.Array | None = None,
) -> Loss:
    """Cross-entropy of the answers, from logits [batch, length, vocab], or those of a classifier,
    [batch, labels], which gives the one answer of each problem.

    `correct` is the number of answers that are right, `exact` of those in problems without a wrong
    one.
    """
    logits = model(**inputs(batch), step=step, dropout_key=dropout_key)
    targets, mask = batch["targets"], batch["mask"]
    if logits.ndim == 2:
        # Labels come first in the vocabulary, so that a label's number is its token.
        logits = logits[:, None]
        targets = jnp.sum(jnp.where(mask, targets, 0), axis=1, keepdims=True)
        mask = jnp.any(mask, axis=1, keepdims=True)
    entropy = cross_entropy(logits, targets, z_loss=z_loss, label_smoothing=label_smoothing)
    right = jnp.argmax(logits, axis=-1) == targets
    exact = jnp.all(right | ~mask, axis=1, keepdims=True)
    return Loss(
        total(entropy.objective, mask),
        total(entropy.nats, mask),
        jnp.sum(mask, dtype=jnp.float32),
        {"correct": total(right, mask), "exact": total(exact, mask)},
    )


def metrics(
    nats: float, bytes_per_token: float | None, *, correct: float, exact: float
) -> dict[str, float]:
    """Loss in nats an answer, the share of answers that are right, and of problems without a wrong
    one: all problems of a probe have equally many answers."""
    return {"loss": nats, "accuracy": correct, "exact_match": exact}


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """The problem with its answers in ‹…›."""
    size = int(rows["sizes"][0])
    tokens, answers = rows["tokens"][0, :size], rows["answers"][0, :size]
    words = (data.tokenizer.decode([token]) for token in tokens)
    shown = (f"‹{word}›" if own else word for word, own in zip(words, answers, strict=True))
    return [f"--- {size} tokens, {int(answers.sum())} to be predicted", " ".join(shown)]


def _task(probe: Probe) -> Task:
    classified = (
        ("encoder", "sequence_classification"),
        ("decoder", "sequence_classification"),
    )
    return Task(
        name=probe.name,
        summary=probe.summary,
        batch=batch,
        inputs=inputs,
        loss=loss,
        metrics=metrics,
        metric=Metric("accuracy", lower_is_better=False),
        show=show,
        models=(("decoder", "language_model"), *(classified if probe.labels else ())),
        rows=probe.name,
        hits=("correct", "exact"),
    )


PROBE_TASKS = tuple(_task(probe) for probe in PROBES.values())
