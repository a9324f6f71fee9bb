"""Sequence to sequence: write the target that belongs to a source (1706.03762)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.preview import printable
from zoo.tasks.base import Batch, Metric, Task
from zoo.tasks.framing import framed
from zoo.tasks.judging import judge_targets
from zoo.tasks.losses import entropy_loss, perplexity


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Pairs to the two stacks' inputs and the decoder's next tokens.

    Args:
        rows: pairs of `zoo.data.examples.ExampleData`.
        spec: the begin token, and what stands around a text: behind it an end token.

    Returns:
        `inputs` int32 and `attention_mask` bool [batch, length]: the source and an end token;
        `decoder_inputs`, `targets` int32 and `mask` bool [batch, target length]: a begin
        token and the target, and the target and an end token. A part that is too long is cut,
        a source keeping its end token, a target losing it: it does not end there.
    """
    first, second = rows["first"], rows["second"]
    source = framed(first, rows["first_length"], spec.frame, first.shape[1])
    # Made with room for all, then cut at its end.
    width = second.shape[1]
    whole = framed(second, rows["second_length"], spec.frame, width + sum(map(len, spec.frame)))
    targets, begin = whole.tokens[:, :width], spec.vocabulary.begin
    before = np.concatenate([np.full((len(targets), 1), begin), targets[:, :-1]], axis=1)
    return {
        "inputs": source.tokens,
        "attention_mask": source.seen,
        "decoder_inputs": before.astype(np.int32),
        "targets": targets,
        "mask": whole.seen[:, :width],
    }


def inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch["inputs"],
        "decoder_input_ids": batch["decoder_inputs"],
        "attention_mask": batch["attention_mask"],
    }


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """The two texts of a pair, as far as they are kept."""
    made = {name: array[0] for name, array in batch(rows, data.spec).items()}
    lines = []
    for name, tokens, mask, length in (
        ("source", made["inputs"], made["attention_mask"], rows["first_length"][0]),
        ("target", made["targets"], made["mask"], rows["second_length"][0]),
    ):
        size = int(mask.sum())
        text = tokens[:size][tokens[:size] != data.spec.vocabulary.end]
        cut = f", {length - len(text)} cut off" if length > len(text) else ""
        lines.append(f"--- {name}, {size} tokens of {len(mask)}{cut}")
        lines += printable(data.tokenizer.decode(text))
    return lines


def metrics(nats: float, bytes_per_token: float | None) -> dict[str, float]:
    """Loss in nats a target token, bits a byte of target, and perplexity, all unsmoothed."""
    figures = {"loss": nats, "perplexity": perplexity(nats)}
    if bytes_per_token is not None:
        figures["bits_per_byte"] = nats / math.log(2.0) / bytes_per_token
    return figures


SEQ2SEQ = Task(
    name="seq2seq",
    summary="write the target that belongs to a source: translation and the like",
    batch=batch,
    inputs=inputs,
    loss=entropy_loss(inputs),
    metrics=metrics,
    metric=Metric("bleu", lower_is_better=False, unit="BLEU"),
    show=show,
    models=(("encoder_decoder", "language_model"),),
    rows="pairs",
    needs=("begin", "end"),
    framed=True,
    judge=judge_targets(batch),
)
