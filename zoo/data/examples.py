"""Rows that are examples of their own: pairs of texts, and texts with labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import LABELS_FILE, Batch, Data, RowSpec
from zoo.data.cache import Store, StoreWriter, open_or_build
from zoo.data.config import DataConfig, RowKind, cache_root
from zoo.data.encoding import digest, groups, tokenized
from zoo.data.records import ExampleSource, class_of, number_labels, open_examples
from zoo.data.sources import SPLITS, Split
from zoo.data.tokenizers import NO_FRAME, Frame, PairFrame, Tokenizer, Vocabulary, vocabulary
from zoo.errors import ConfigError, DataError


class ExampleData(Data):
    """Examples of the two splits; `zoo.data.loader.open_data` makes it.

    Rows are `first` int32 [batch, length], token ids, and `second` int32 [batch, width], cut or
    padded with 0, and `first_length`, `second_length` int32 [batch] as they were before; 0 of both
    is a row of padding. The second part is of pairs the target's tokens, of classes the label's
    number and then the tokens of the second text, of tags for each token its label's number + 1 or
    0, of spans [tokens of the question; first token of the answer + 1, counted in the rest, or 0
    where there is none; its last].
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        kind: RowKind,
        width: int,
        text: Store,
        store: Store,
        **common: Any,
    ) -> None:
        super().__init__(config, **common)
        self.kind = kind
        self.unit = "tokens" if kind in ("pairs", "tags") else "examples"
        self._text = text
        self._store = store
        self._widths = (config.length, width)

    @property
    def fingerprint(self) -> str:
        """Equal where the examples of both splits are equal, whatever the machine."""
        return digest(
            [self._store.meta["splits"][s] for s in SPLITS],
            self.tokenizer.fingerprint,
            self.spec.labels,
        )

    def rows(self, split: Split) -> int:
        """Examples in `split`."""
        return (len(self._store.offsets[split]) - 1) // 2

    def read_rows(self, split: Split, indices: np.ndarray) -> Batch:
        """The examples `indices` [batch]; an index of -1 gives a row of padding."""
        row: Batch = {}
        for part, (name, width) in enumerate(zip(("first", "second"), self._widths, strict=True)):
            document = 2 * np.maximum(indices, 0) + part
            start, end = (self._store.offsets[split][document + more] for more in (0, 1))
            length = np.where(indices < 0, 0, end - start)
            place = np.arange(width)
            real = place < length[:, None]
            tokens = self._store.tokens[split][np.where(real, start[:, None] + place, 0)]
            row[name] = np.where(real, tokens, 0).astype(np.int32)
            row[f"{name}_length"] = length.astype(np.int32)
        return row

    def texts(self, split: Split, indices: np.ndarray, part: int) -> list[str]:
        """The first (0) or second (1) part of the examples `indices` as it was read, uncut; of
        pairs the source or the target."""
        offsets, stored = self._text.offsets[split], self._text.tokens[split]
        return [
            stored[offsets[document] : offsets[document + 1]].tobytes().decode("utf-8")
            for document in 2 * indices + part
        ]

    def lengths(self, split: Split, part: int) -> np.ndarray:
        """Tokens of the first (0) or second (1) part of each example, int64 [rows]."""
        lengths: np.ndarray = np.diff(self._store.offsets[split])[part::2]
        return lengths

    def num_targets(self) -> int:
        """What the loss counts in an epoch: tokens of pairs and tags, examples of the others."""
        lengths = self.lengths("train", 1)
        if self.kind == "pairs":
            return int(np.minimum(lengths + self._around(), self._widths[1]).sum())
        return (
            int(np.minimum(lengths, self._widths[1]).sum()) if self.kind == "tags" else len(lengths)
        )

    def bytes_per_token(self, split: Split) -> float | None:
        """Of targets, the tokens around them counted; None where no text is predicted."""
        if self.kind != "pairs":
            return None
        size = int(np.diff(self._text.offsets[split])[1::2].sum())
        return size / int((self.lengths(split, 1) + self._around()).sum())

    def _around(self) -> int:
        return sum(map(len, self.spec.frame))

    def figures(self, split: Split) -> dict[str, str]:
        """Sizes of `split`, for people."""
        first, second = (self.lengths(split, part) for part in (0, 1))
        shown = {
            "examples": f"{len(first):,}",
            "tokens": f"{first.sum():,}",
            "longest": f"{first.max(initial=0):,}",
        }
        if self.kind == "pairs":
            shown["target tokens"] = f"{second.sum():,}"
            shown["longest target"] = f"{second.max(initial=0):,}"
        return shown

    def cut(self, split: Split, *, room: int = 0) -> tuple[int, int]:
        """Examples of `split` whose first, and second, part loses tokens.

        `room`: special tokens that go into each row.
        """
        first, second = (self.lengths(split, part) for part in (0, 1))
        if self.spec.pair_frame is not None:
            first = first + second - 1  # two texts share a row, and a label is no token of it
        widths = self._widths
        return int((first + room > widths[0]).sum()), int((second + room > widths[1]).sum())


def open_example_data(
    config: DataConfig,
    kind: RowKind,
    *,
    seed: int,
    needs: tuple[str, ...],
    notes: list[str],
    begin: int | None = None,
    token_types: int = 1,
) -> ExampleData:
    """The examples of `config`; arguments and errors as for `zoo.data.loader.open_data`."""
    root = cache_root(config)
    source = open_examples(config, kind)
    text = open_or_build(
        root / f"examples-{source.fingerprint}",
        lambda folder: _write_examples(source, folder, notes),
        notes,
        what=source.label,
    )
    tokenizer, store = tokenized(
        config,
        text,
        root,
        notes,
        what=f"the tokens of {source.label}",
        write=lambda tokenizer, folder: _write_tokens(tokenizer, text, folder, kind, source.label),
        training=(lambda: _training(text, kind)) if kind != "pairs" else None,
        form=(kind,),
    )
    labels = json.loads((store.folder / LABELS_FILE).read_text(encoding="utf-8"))
    target_length = config.target_length or config.length
    two = config.text_pair_column is not None
    widths = {"pairs": target_length, "tags": config.length, "spans": 3}
    width = widths.get(kind, 1 + (config.length if two else 0))
    whole = config.framing == "tokenizer"
    if whole and (kind == "classes" or begin is not None):
        # A begin token of our own would be one more than the model has seen.
        needs = tuple(name for name in needs if name != "begin")
    known = vocabulary(tokenizer, needs)
    frame: Frame = NO_FRAME
    if whole:
        frame = tokenizer.frame
    elif kind in ("classes", "pairs"):
        frame = ((known.begin,), ()) if kind == "classes" else ((), (known.end,))
    if whole and begin is not None:
        known = dataclasses.replace(known, begin=begin)
    data = ExampleData(
        config,
        seed=seed,
        label=source.label,
        tokenizer=tokenizer,
        spec=RowSpec(
            length=config.length,
            target_length=target_length if kind == "pairs" else 0,
            vocabulary=known,
            frame=frame,
            pair_frame=_pair_frame(tokenizer, known, config, token_types) if two else None,
            labels=tuple(map(str, labels)),
        ),
        notes=(),
        kind=kind,
        width=width,
        text=text,
        store=store,
    )
    data.notes = (*notes, *_cut_notes(data))
    return data


def _pair_frame(
    tokenizer: Tokenizer, known: Vocabulary, config: DataConfig, token_types: int
) -> PairFrame:
    """What stands around two texts."""
    made = PairFrame((known.begin,), (known.separator,), ())
    if config.framing == "tokenizer":
        if tokenizer.pair_frame is None:
            raise ConfigError(
                f"data.text_pair_column = {config.text_pair_column!r} with data.framing = "
                f"'tokenizer': data.tokenizer = {config.tokenizer!r} puts nothing between two "
                "texts; use data.framing = 'own'"
            )
        made = tokenizer.pair_frame
    known_kinds = max(made.kinds) < token_types
    return made if known_kinds else made._replace(kinds=(0, 0, 0, 0, 0))


def _cut_notes(data: ExampleData) -> list[str]:
    # Spans get a begin token and two separators.
    parts = data.spec.frame if data.spec.pair_frame is None else data.spec.pair_frame[:3]
    room = {"spans": 3}.get(data.kind, sum(map(len, parts)))
    first, second = data.cut("train", room=room)
    count = data.rows("train")
    notes = []
    if first:
        name = "sources" if data.kind == "pairs" else "texts"
        notes.append(f"{first:,} of {count:,} {name} are cut to data.length = {data.config.length}")
    if data.kind == "pairs" and second:
        notes.append(
            f"{second:,} of {count:,} targets are cut to data.target_length = "
            f"{data.spec.target_length}"
        )
    return notes


def _write_examples(source: ExampleSource, folder: Path, notes: list[str]) -> None:
    empty = 0
    with StoreWriter(folder, max_id=255) as writer:
        for split, example in source.read():
            empty += example is None
            for document in example or ():
                writer.add(split, np.frombuffer(document, np.uint8), len(document))
    writer.finish()
    if empty:
        notes.append(f"{empty:,} examples of {source.label} have an empty text and are left out")
    for split in SPLITS:
        if not writer.num_tokens(split):
            raise DataError(
                f"{source.label}: the {split} split holds no example; give more of them, or "
                "held-out ones of their own"
            )


def _write_tokens(
    tokenizer: Tokenizer, text: Store, folder: Path, kind: RowKind, label: str
) -> None:
    found: dict[Split, set[str | int]] = {split: set() for split in SPLITS}
    if kind in ("classes", "tags"):
        for split in SPLITS:
            for document in _documents(text, split, 1):
                found[split].update(_names(document, kind))
    labels, _ = number_labels(found, label)
    (folder / LABELS_FILE).write_text(json.dumps(labels), encoding="utf-8")
    known = {name: number for number, name in enumerate(labels)}
    longest = max(int(np.diff(text.offsets[split]).max()) for split in SPLITS)
    with StoreWriter(folder, max_id=max(tokenizer.vocab_size, len(labels), longest)) as writer:
        for split in SPLITS:
            for number, parts in enumerate(_encoded(tokenizer, text, split, kind, known)):
                for ids in parts:
                    if not len(ids):
                        raise DataError(
                            f"{label}: example {number + 1} of the {split} split has no tokens by "
                            "this tokenizer; leave it out"
                        )
                    writer.add(split, np.asarray(ids, np.int64), 0)
    writer.finish()


def _names(document: bytes, kind: RowKind) -> list[str | int]:
    """The labels of one example."""
    if kind == "classes":
        return [class_of(document)[0]]
    return [label for _, _, label in json.loads(document)]


def _encoded(
    tokenizer: Tokenizer,
    text: Store,
    split: Split,
    kind: RowKind,
    known: dict[str | int, int],
) -> Iterator[tuple[Any, Any]]:
    """The token ids and the answers of each example, as `ExampleData` describes them."""
    if kind == "pairs":
        for documents in groups(text.documents(split), multiple=2):
            encoded = iter(tokenizer.encode_many(documents))
            yield from zip(encoded, encoded, strict=True)
        return
    for first, second in zip(_documents(text, split, 0), _documents(text, split, 1), strict=True):
        if kind == "classes":
            label, pair = class_of(second)
            more = () if pair is None else tokenizer.encode(pair)
            yield tokenizer.encode(first), [known[label], *more]
            continue
        answer = json.loads(second)
        if kind == "tags":
            ids, ends = tokenizer.encode_with_ends(first)
            tags = np.zeros(len(ids), np.int64)
            starts = np.asarray([start for start, _, _ in answer])
            # A word's first token carries its label (BERT, section 5.3).
            tags[np.searchsorted(ends, starts, side="right")] = [
                1 + known[name] for _, _, name in answer
            ]
            yield ids, tags
        else:
            border, start, end = answer
            question = tokenizer.encode(first[:border])
            ids, ends = tokenizer.encode_with_ends(first[border:])
            # The answer's last token holds the byte before its end.
            found = np.searchsorted(ends, [start, end - 1], side="right") + 1
            yield (
                np.concatenate([question, ids]),
                [len(question), *(found if end > start else (0, 0))],
            )


def _training(text: Store, kind: RowKind) -> Iterator[bytes]:
    """The texts of the training split that are no pairs: of two together, both."""
    for first, second in zip(
        _documents(text, "train", 0), _documents(text, "train", 1), strict=True
    ):
        yield first
        pair = class_of(second)[1] if kind == "classes" else None
        if pair is not None:
            yield pair


def _documents(text: Store, split: Split, part: int) -> Iterator[bytes]:
    for number, document in enumerate(text.documents(split)):
        if number % 2 == part:
            yield document.tobytes()
