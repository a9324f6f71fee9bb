"""What a model will see: packed rows decoded, with their borders and their mask."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from zoo.data.loader import TextData
from zoo.data.packing import loss_mask

WIDTH = 96


def preview(data: TextData, *, steps: int | None = None, examples: int = 3) -> str:
    """Plain text: the corpus in figures, tokens against the budget, and decoded training rows.

    `steps`: length of the planned run, for the budget. `examples`: rows of the first batch shown.
    In a row a line of dashes marks a document's border, and ‹…› encloses tokens that carry no loss.
    """
    lines = [data.label, ""]
    lines.append(
        f"{'split':<12}{'documents':>11}{'bytes':>15}{'tokens':>15}{'bytes/token':>13}{'rows':>11}"
    )
    for split in ("train", "validation"):
        lines.append(
            f"{split:<12}{data.documents(split):>11,}{data.num_bytes(split):>15,}"
            f"{data.num_tokens(split):>15,}{data.bytes_per_token(split):>13.3f}"
            f"{data.rows(split):>11,}"
        )
    lines += ["", f"vocabulary  {data.vocab_size:,} ({data.config.tokenizer})"]
    lines += [f"note        {note}" for note in data.notes]
    if steps is not None:
        budget = data.budget(steps)
        lines.append(
            f"budget      {steps:,} steps of {data.config.batch_size} x {data.config.length} = "
            f"{budget.tokens_asked:,} tokens of {budget.tokens_available:,} "
            f"({budget.epochs:.3g} epochs)"
        )
        if budget.warning is not None:
            lines.append(f"warning     {budget.warning}")
    for number, index in enumerate(data.train_rows(0)[:examples]):
        lines += ["", *_example(data, number, int(index))]
    return "\n".join(lines)


def _example(data: TextData, number: int, index: int) -> list[str]:
    row = {key: value[0] for key, value in data.read_rows("train", np.asarray([index])).items()}
    positions = data.row_positions("train", index)
    counted = loss_mask(row["segment_ids"])
    padding = int((positions < 0).sum())
    lines = [
        f"=== example {number + 1}: row {index:,} of {data.rows('train'):,}; loss on "
        f"{counted.sum()} of {data.config.length} targets; {padding} padding"
    ]
    documents = data.document_index("train", positions)
    for document in dict.fromkeys(documents[positions >= 0].tolist()):
        inside = (documents == document) & (positions >= 0)
        segment = int(row["segment_ids"][inside][0])
        title = f"--- document {document:,}, segment {segment}, {int(inside.sum())} tokens "
        lines.append(title.ljust(WIDTH, "-"))
        lines += _masked_text(data, row["tokens"][inside], counted[inside])
    return lines


def _masked_text(data: TextData, tokens: np.ndarray, counted: np.ndarray) -> list[str]:
    """Decode runs of equally masked tokens together, so that no character is torn within one."""
    edges = [0, *(np.flatnonzero(np.diff(counted)) + 1).tolist(), len(tokens)]
    text = ""
    for start, end in pairwise(edges):
        decoded = data.tokenizer.decode(tokens[start:end])
        text += decoded if counted[start] else f"‹{decoded}›"
    # A terminal must not act on what a file holds: no escape sequences, no carriage returns.
    return [
        "".join(c if c.isprintable() or c == "\t" else "·" for c in line)
        for line in text.split("\n")
    ]
