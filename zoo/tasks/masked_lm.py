"""Masked language modelling: restore tokens that were hidden (BERT, 1810.04805, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.preview import marked, printable
from zoo.tasks.base import Batch, Metric, Task
from zoo.tasks.framing import framed
from zoo.tasks.language_model import segmented
from zoo.tasks.losses import entropy_loss, perplexity

# Of the tokens of text so many are to be restored; of those 80 % are shown as the mask token,
# 10 % as a token drawn at random, and the rest as they are.
CHOSEN, MASKED, RANDOM = 0.15, 0.8, 0.1


def batch(rows: Mapping[str, np.ndarray], spec: RowSpec) -> Batch:
    """Hide some tokens of each row.

    Args:
        rows: `tokens` and `segment_ids`, int32 [batch, length + 1], and `draw`, which decides
            what is hidden. The last token of a row begins the next one and is left out.
        spec: the mask token, the special ones that are never hidden or drawn, and what stands
            around a row.

    Returns:
        `inputs`, `targets` int32 and `mask` bool, all [batch, length], mask where a token is
        to be restored; and `attention_mask` bool, or with separate_documents `segment_ids`
        and `positions`, int32.
    """
    tokens, segments = rows["tokens"][:, :-1], rows["segment_ids"][:, :-1]
    text = spec.vocabulary.text_ids()
    share, form = np.empty((2, *tokens.shape))
    drawn = np.empty_like(tokens)
    for row, key in enumerate(rows["draw"]):
        generator = np.random.Generator(np.random.Philox(key=key))
        share[row], form[row] = generator.random((2, tokens.shape[1]))
        drawn[row] = text[generator.integers(len(text), size=tokens.shape[1])]
    mask = (segments > 0) & (share < CHOSEN) & ~np.isin(tokens, spec.vocabulary.special)
    shown = np.where(form < MASKED, spec.vocabulary.mask, drawn)
    hidden = mask & (form < MASKED + RANDOM)
    shown = np.where(hidden, shown, tokens).astype(np.int32)
    if spec.separate_documents:
        # Padding is a segment of its own, so segments need no other mask.
        return {"inputs": shown, "targets": tokens, "mask": mask} | segmented(segments)
    before, width = len(spec.frame[0]), tokens.shape[1] + sum(map(len, spec.frame))
    sizes = np.sum(segments > 0, axis=1)
    made = framed(shown, sizes, spec.frame, width)
    return {
        "inputs": made.tokens,
        "targets": framed(tokens, sizes, spec.frame, width).tokens,
        "mask": made.spread(mask, before).astype(bool),
        "attention_mask": made.seen,
    }


def show(data: Data, index: int, rows: Batch) -> list[str]:
    """The text with ‹…› around what is to be restored, and what the model is shown."""
    made = {name: array[0] for name, array in batch(rows, data.spec).items()}
    mask, given = made["mask"], made["inputs"]
    masked = int((mask & (given == data.spec.vocabulary.mask)).sum())
    changed = int((mask & (given != made["targets"])).sum()) - masked
    return [
        f"{int(mask.sum())} of {len(mask)} tokens to restore: {masked} shown as the mask token, "
        f"{changed} as another, the rest as they are",
        *marked(data.tokenizer, made["targets"], mask),
        "--- the model is shown",
        *_shown(data, given),
    ]


def _shown(data: Data, tokens: np.ndarray) -> list[str]:
    """Decoded between mask tokens, which have no text of their own."""
    parts = np.split(tokens, np.flatnonzero(tokens == data.spec.vocabulary.mask))
    pieces = [data.tokenizer.decode(parts[0])]
    pieces += [f"[MASK]{data.tokenizer.decode(part[1:])}" for part in parts[1:]]
    return printable("".join(pieces))


def inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch["inputs"],
        "attention_mask": batch.get("attention_mask"),
        "segment_ids": batch.get("segment_ids"),
        "positions": batch.get("positions"),
    }


def metrics(nats: float, bytes_per_token: float | None, *, correct: float) -> dict[str, float]:
    """Loss in nats, perplexity and accuracy of the hidden tokens.

    Bits a byte are not defined: the model gives no probability to a whole text.
    """
    return {"loss": nats, "perplexity": perplexity(nats), "accuracy": correct}


MASKED_LM = Task(
    name="masked_lm",
    summary="restore tokens that were hidden, from both sides",
    batch=batch,
    inputs=inputs,
    loss=entropy_loss(inputs, ranked=True),
    metrics=metrics,
    metric=Metric("loss", lower_is_better=True, unit="nats a token"),
    show=show,
    models=(("encoder", "masked_lm"),),
    needs=("mask",),
    framed=True,
    hits=("correct",),
)
