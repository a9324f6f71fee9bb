"""What a model will see: the data in figures, and rows in words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from zoo.data.base import Batch, Data
from zoo.data.packing import loss_mask
from zoo.data.sources import SPLITS
from zoo.data.text import TextData
from zoo.data.tokenizers import Tokenizer

WIDTH = 96
# `(data, number of the row, that row as a batch of one) -> lines`.
Show = Callable[[Data, int, Batch], list[str]]


def preview(data: Data, show: Show, *, steps: int | None = None, examples: int = 3) -> str:
    """Plain text: the data in figures, what is asked for against the budget, and training rows.

    `steps`: length of the planned run, for the budget. `examples`: rows of the first batch shown.
    """
    lines = [data.label, ""]
    figures = {split: data.figures(split) for split in SPLITS}
    widths = {name: max(15, len(name) + 2) for name in figures["train"]}
    lines.append(f"{'split':<12}" + "".join(f"{name:>{size}}" for name, size in widths.items()))
    for split, figure in figures.items():
        lines.append(f"{split:<12}" + "".join(f"{figure[n]:>{size}}" for n, size in widths.items()))
    lines.append("")
    if data.vocab_size:
        lines.append(f"vocabulary  {data.vocab_size:,} ({data.tokens_by})")
    if data.spec.labels:
        lines.append(f"labels      {len(data.spec.labels)}: {', '.join(data.spec.labels)}")
    lines += [f"note        {note}" for note in data.notes]
    if steps is not None:
        budget = data.budget(steps)
        size = f" x {data.config.length}" if isinstance(data, TextData) else " examples"
        lines.append(
            f"budget      {steps:,} steps of {data.config.batch_size}{size} = "
            f"{budget.tokens_asked:,} {budget.unit} of {budget.tokens_available:,} "
            f"({budget.epochs:.3g} epochs)"
        )
        if budget.warning is not None:
            lines.append(f"warning     {budget.warning}")
    batch = data.train_batch(0)
    for number, index in enumerate(data.train_rows(0)[:examples]):
        row = {name: array[number : number + 1] for name, array in batch.items()}
        lines.append("")
        lines.append(f"=== example {number + 1}: row {index:,} of {data.rows('train'):,}")
        lines += show(data, int(index), row)
    return "\n".join(lines)


def show_text(data: Data, index: int, batch: Batch) -> list[str]:
    """A row of running text: a line of dashes is a document's border, ‹…› carries no loss."""
    assert isinstance(data, TextData)
    row = {name: array[0] for name, array in batch.items()}
    positions = data.row_positions("train", index)
    counted = loss_mask(row["segment_ids"])
    padding = int((positions < 0).sum())
    lines = [f"loss on {counted.sum()} of {data.config.length} targets; {padding} padding"]
    documents = data.document_index("train", positions)
    for document in dict.fromkeys(documents[positions >= 0].tolist()):
        inside = (documents == document) & (positions >= 0)
        segment = int(row["segment_ids"][inside][0])
        title = f"--- document {document:,}, segment {segment}, {int(inside.sum())} tokens "
        lines.append(title.ljust(WIDTH, "-"))
        lines += marked(data.tokenizer, row["tokens"][inside], ~counted[inside])
    return lines


def marked(tokenizer: Tokenizer, tokens: np.ndarray, enclosed: np.ndarray) -> list[str]:
    """The lines of a text with ‹…› around the runs of tokens that are `enclosed`.

    A run is decoded together, so that no character is torn within one.
    """
    edges = [0, *(np.flatnonzero(np.diff(enclosed)) + 1).tolist(), len(tokens)]
    text = ""
    for start, end in pairwise(edges):
        decoded = tokenizer.decode(tokens[start:end])
        text += f"‹{decoded}›" if start < end and enclosed[start] else decoded
    return printable(text)


def printable(text: str) -> list[str]:
    """The lines of a text without what a terminal would act on: escapes, carriage returns."""
    return [
        "".join(c if c.isprintable() or c == "\t" else "·" for c in line)
        for line in text.split("\n")
    ]
