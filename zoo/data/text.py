"""Running text: rows of tokens out of one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import Batch, Data, RowSpec
from zoo.data.cache import Store, StoreWriter, open_or_build
from zoo.data.config import DataConfig, cache_root
from zoo.data.encoding import digest, groups, tokenized
from zoo.data.packing import Rows, WindowRows, cached_first_fit
from zoo.data.sources import SPLITS, Source, Split, open_source
from zoo.data.tokenizers import NO_FRAME, ByteTokenizer, Tokenizer, vocabulary
from zoo.errors import DataError


class TextData(Data):
    """Token rows of the two splits of a text; `open_data` makes it.

    Rows are `{"tokens": int32 [batch, length + 1], "segment_ids": int32 [batch, length + 1]}`, less
    the special tokens of `spec.frame`, which a task puts around them.
    Segments count from 1 in each row and 0 is padding. They number the row's documents when
    `separate_documents` is set; otherwise every real token is in segment 1.
    """

    def __init__(
        self, config: DataConfig, *, store: Store, rows: dict[Split, Rows], **common: Any
    ) -> None:
        super().__init__(config, **common)
        self._store = store
        self._rows = rows

    @property
    def fingerprint(self) -> str:
        """Equal where the tokens of both splits are equal, whatever the machine."""
        sums = [self._store.meta["splits"][s][k] for s in SPLITS for k in ("crc32", "tokens")]
        return digest(sums, self.tokenizer.fingerprint)

    def num_tokens(self, split: Split) -> int:
        """Tokens in `split`."""
        return len(self._store.tokens[split])

    def num_bytes(self, split: Split) -> int:
        """Bytes of text in `split`."""
        return self._store.num_bytes(split)

    def bytes_per_token(self, split: Split) -> float:
        """Bytes of text that a token stands for on average: turns nats a token into bits a byte."""
        return self.num_bytes(split) / self.num_tokens(split)

    def rows(self, split: Split) -> int:
        """Rows in `split`: an epoch of training is this many."""
        return self._rows[split].count

    def documents(self, split: Split) -> int:
        """Documents in `split`."""
        return len(self._store.offsets[split]) - 1

    def read_rows(self, split: Split, indices: np.ndarray) -> Batch:
        """The rows `indices` [batch] as a batch; an index of -1 gives a row of padding."""
        positions = self._rows[split].positions(np.maximum(indices, 0))
        positions[indices < 0] = -1
        real = positions >= 0
        tokens = np.where(real, self._store.tokens[split][np.maximum(positions, 0)], 0)
        segments = real.astype(np.int32)
        if self.config.separate_documents:
            documents = self.document_index(split, positions)
            border = (np.diff(documents, axis=1) != 0) & real[:, 1:]
            segments[:, 1:] += np.cumsum(border, axis=1, dtype=np.int32) * real[:, 1:]
        return {"tokens": tokens.astype(np.int32), "segment_ids": segments}

    def row_positions(self, split: Split, index: int) -> np.ndarray:
        """Positions in the token stream, int64 [length + 1], of row `index`; -1 is padding."""
        (row,) = self._rows[split].positions(np.asarray([index]))
        return np.asarray(row)

    def document_index(self, split: Split, positions: np.ndarray) -> np.ndarray:
        """The document, counted from 0, that each position of the token stream lies in."""
        found: np.ndarray = np.searchsorted(self._store.offsets[split], positions, side="right") - 1
        return found

    def figures(self, split: Split) -> dict[str, str]:
        """Sizes of `split`, for people."""
        return {
            "documents": f"{self.documents(split):,}",
            "bytes": f"{self.num_bytes(split):,}",
            "tokens": f"{self.num_tokens(split):,}",
            "bytes/token": f"{self.bytes_per_token(split):.3f}",
            "rows": f"{self.rows(split):,}",
        }

    def num_targets(self) -> int:
        """Tokens that an epoch predicts, document borders not taken out."""
        return self._rows["train"].num_targets


def open_text(
    config: DataConfig, *, seed: int, needs: tuple[str, ...], notes: list[str]
) -> TextData:
    """The text of `config`; arguments and errors as for `zoo.data.loader.open_data`."""
    root = cache_root(config)
    source = open_source(config)
    text = open_or_build(
        root / f"text-{source.fingerprint}",
        lambda folder: _write_text(source, folder),
        notes,
        what=source.label,
    )
    tokenizer: Tokenizer = ByteTokenizer()
    store = text  # the bytes of the text are its tokens
    if config.tokenizer != "bytes":
        tokenizer, store = tokenized(
            config,
            text,
            root,
            notes,
            what=f"the tokens of {source.label}",
            write=lambda tokenizer, folder: _write_tokens(tokenizer, text, folder),
        )
    frame = tokenizer.frame if config.framing == "tokenizer" else NO_FRAME
    special = sum(map(len, frame))
    room = config.length - special
    if room < 1:
        raise DataError(
            f"data.length = {config.length} leaves no room beside the {special} special tokens "
            "around a row; give it more"
        )
    return TextData(
        config,
        seed=seed,
        label=source.label,
        tokenizer=tokenizer,
        spec=RowSpec(
            length=config.length,
            separate_documents=config.separate_documents,
            frame=frame,
            vocabulary=vocabulary(tokenizer, needs),
        ),
        store=store,
        rows=_rows(config, store, root, length=room, label=source.label),
        notes=tuple(notes),
    )


def _write_text(source: Source, folder: Path) -> None:
    """Every source becomes a store of bytes first: read once, also when a BPE is trained on it."""
    with StoreWriter(folder, max_id=255) as writer:
        for split, document in source.read():
            writer.add(split, np.frombuffer(document, np.uint8), len(document))
    writer.finish()
    for split in SPLITS:
        if not writer.num_tokens(split):
            raise DataError(f"{source.label}: the {split} split holds no text")


def _write_tokens(tokenizer: Tokenizer, text: Store, folder: Path) -> None:
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    with StoreWriter(folder, max_id=tokenizer.vocab_size - 1) as writer:
        for split in SPLITS:
            for documents in groups(text.documents(split)):
                for document, ids in zip(documents, tokenizer.encode_many(documents), strict=True):
                    writer.add(split, np.append(ids, end).astype(np.int64), len(document))
    writer.finish()


def _rows(
    config: DataConfig, store: Store, root: Path, *, length: int, label: str
) -> dict[Split, Rows]:
    least: dict[Split, int] = {"train": length + 1, "validation": 2}
    for split in SPLITS:
        tokens = len(store.tokens[split])
        if tokens < least[split]:
            raise DataError(
                f"{label}: the {split} split has {tokens} tokens and needs {least[split]} "
                f"(data.length = {length}); give more text or a smaller data.length"
            )
    if config.packing == "concat":
        return {
            split: WindowRows(len(store.tokens[split]), length, partial=split == "validation")
            for split in SPLITS
        }
    rows: dict[Split, Rows] = {}
    for split in SPLITS:
        path = root / f"rows-{digest(store.folder.name, store.meta, split, length)}.npz"
        rows[split] = cached_first_fit(path, store.offsets[split], length=length)
        if rows[split].count == 0:
            raise DataError(f"{label}: the {split} split has no document of two tokens or more")
    return rows
