"""From a `DataConfig` to batches whose order is a pure function of (seed, step)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.cache import Store, StoreWriter, open_or_build
from zoo.data.config import DataConfig, cache_root
from zoo.data.packing import Rows, WindowRows, cached_first_fit
from zoo.data.sources import SPLITS, Source, Split, open_source
from zoo.data.tokenizers import (
    ByteTokenizer,
    Tokenizer,
    load_tokenizer,
    read_tokenizer_file,
    train_bpe,
)
from zoo.errors import ConfigError, DataError

Batch = dict[str, np.ndarray]
ENCODED_AT_ONCE = 4 << 20


@dataclass(frozen=True)
class Budget:
    """What a run of some steps takes from the training split.

    `warning` is None up to one epoch, and otherwise says how often the text is seen.
    """

    tokens_available: int
    tokens_asked: int
    epochs: float
    warning: str | None


class TextData:
    """Token rows of the two splits of a text; `open_data` makes it.

    A batch is `{"tokens": int32 [batch, length + 1], "segment_ids": int32 [batch, length + 1]}`.
    Segments count from 1 in each row and 0 is padding. They number the row's documents when
    `separate_documents` is set; otherwise every real token is in segment 1.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        seed: int,
        label: str,
        tokenizer: Tokenizer,
        store: Store,
        rows: dict[Split, Rows],
        notes: tuple[str, ...],
    ) -> None:
        self.config = config
        self.seed = seed
        self.label = label
        """The source's name, for people."""
        self.tokenizer = tokenizer
        self.notes = notes
        """What was done on opening: caches built or rebuilt, a smaller vocabulary."""
        self._store = store
        self._rows = rows
        self._orders: dict[int, Any] = {}

    @property
    def vocab_size(self) -> int:
        """Number of token ids; with `bpe` it may be below the one asked for."""
        return self.tokenizer.vocab_size

    @property
    def fingerprint(self) -> str:
        """Equal where the tokens of both splits are equal, whatever the machine."""
        sums = [self._store.meta["splits"][s][k] for s in SPLITS for k in ("crc32", "tokens")]
        return _digest(sums, self.tokenizer.fingerprint)

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

    def train_rows(self, step: int, *, batch_size: int | None = None) -> np.ndarray:
        """Row numbers, int64 [batch], in the batch of `step`."""
        rows: np.ndarray = self._row_order(batch_size)[step]
        return rows

    def train_batch(self, step: int, *, batch_size: int | None = None) -> Batch:
        """The batch of `step` (from 0)."""
        batch: Batch = self._order(batch_size)[step]
        return batch

    def train_batches(
        self, start_step: int = 0, *, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """The batches of `start_step`, `start_step + 1`, ... without an end.

        `config.prefetch` of them are prepared ahead in a thread, which ends with the iterator.
        """
        import grain

        ahead = self.config.prefetch
        options = grain.ReadOptions(num_threads=min(1, ahead), prefetch_buffer_size=ahead)
        iterator = iter(self._order(batch_size).to_iter_dataset(options))
        iterator.set_state({"next_index": start_step})
        with closing(iterator):
            yield from iterator

    def eval_batches(
        self, batch_size: int | None = None, max_batches: int | None = None
    ) -> Iterator[Batch]:
        """Validation rows in order, the last batch filled up with rows of padding.

        With `max_batches` below what there is, rows evenly spaced over the split, always the same.
        """
        size = self._batch_size(batch_size)
        rows = np.arange(self.rows("validation"))
        if max_batches is not None and max_batches * size < len(rows):
            rows = np.arange(max_batches * size) * len(rows) // (max_batches * size)
        rows = np.pad(rows, (0, -len(rows) % size), constant_values=-1)
        for indices in rows.reshape(-1, size):
            yield self.read_rows("validation", indices)

    def epoch_of(self, step: int, *, batch_size: int | None = None) -> int:
        """The epoch, counted from 0, that the first row of `step` belongs to."""
        return step * self._batch_size(batch_size) // self.rows("train")

    def budget(self, steps: int, *, batch_size: int | None = None) -> Budget:
        """Tokens that `steps` batches predict, against those that the training split has."""
        available = self._rows["train"].num_targets
        epochs = steps * self._batch_size(batch_size) / self.rows("train")
        asked = round(epochs * available)
        warning = None
        if epochs > 1:
            warning = (
                f"{asked:,} tokens are asked for and the training text has {available:,}: "
                f"it is read {epochs:.3g} times"
            )
        return Budget(available, asked, epochs, warning)

    def _batch_size(self, batch_size: int | None) -> int:
        size = self.config.batch_size if batch_size is None else batch_size
        if size < 1:
            raise ConfigError(f"batch_size = {size}; use 1 or more")
        return size

    def _row_order(self, batch_size: int | None) -> Any:
        """A grain dataset whose element `step` is the row numbers of that step's batch.

        grain shuffles row numbers, each epoch anew by (seed, epoch).
        """
        import grain

        size = self._batch_size(batch_size)
        if size not in self._orders:
            self._orders[size] = (
                grain.MapDataset.range(self.rows("train"))
                .seed(self.seed)
                .shuffle()
                .repeat()
                .batch(size, batch_fn=np.asarray)
            )
        return self._orders[size]

    def _order(self, batch_size: int | None) -> Any:
        """The same with the batches themselves; the rows of one are read together, for speed."""
        return self._row_order(batch_size).map(lambda indices: self.read_rows("train", indices))


def open_data(config: DataConfig, *, seed: int = 0) -> TextData:
    """Open the text of `config`, reading and tokenising it only where the cache has it not.

    `seed` (0 to 2**32 - 1) orders the training rows. Raises `ConfigError` for clashing settings,
    and `DataError` for a source that is missing, unreadable, or too small for one row.
    """
    config.validate()
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed = {seed}; use a number from 0 to {2**32 - 1}")
    notes: list[str] = []
    root = cache_root(config)
    source = open_source(config)
    text = open_or_build(
        root / f"text-{source.fingerprint}",
        lambda folder: _write_text(source, folder),
        notes,
        what=source.label,
    )
    tokenizer, store = _tokenize(config, text, root, notes, label=source.label)
    if config.tokenizer == "bpe" and tokenizer.vocab_size < config.vocab_size:
        notes.append(
            f"the trained vocabulary has {tokenizer.vocab_size} tokens, not {config.vocab_size}: "
            "the text has no more pairs to merge"
        )
    for note in notes:
        logging.getLogger(__name__).info(note)
    return TextData(
        config,
        seed=seed,
        label=source.label,
        tokenizer=tokenizer,
        store=store,
        rows=_rows(config, store, root, label=source.label),
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


def _tokenize(
    config: DataConfig, text: Store, root: Path, notes: list[str], *, label: str
) -> tuple[Tokenizer, Store]:
    if config.tokenizer == "bytes":
        return ByteTokenizer(), text
    if config.tokenizer != "bpe":
        path = Path(config.tokenizer).expanduser()
        tokenizer = read_tokenizer_file(path, named="data.tokenizer")
        key = _digest(text.folder.name, tokenizer.fingerprint)
    else:
        tokenizer = None
        key = _digest(text.folder.name, "bpe", config.vocab_size)

    def build(folder: Path) -> None:
        used = tokenizer or train_bpe(
            (document.tobytes() for document in text.documents("train")),
            vocab_size=config.vocab_size,
        )
        used.save(folder)
        _write_tokens(used, text, folder)

    what = f"the tokens of {label} by {config.tokenizer}"
    store = open_or_build(root / f"tokens-{key}", build, notes, what=what)
    return load_tokenizer(store.folder), store


def _write_tokens(tokenizer: Tokenizer, text: Store, folder: Path) -> None:
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    with StoreWriter(folder, max_id=tokenizer.vocab_size - 1) as writer:
        for split in SPLITS:
            for documents in _groups(text.documents(split)):
                for document, ids in zip(documents, tokenizer.encode_many(documents), strict=True):
                    writer.add(split, np.append(ids, end).astype(np.int64), len(document))
    writer.finish()


def _groups(documents: Iterator[np.ndarray]) -> Iterator[list[bytes]]:
    """Documents in lists of about 4 MiB: enough to keep the tokenizer's threads busy."""
    group: list[bytes] = []
    size = 0
    for document in documents:
        group.append(document.tobytes())
        size += len(document)
        if size >= ENCODED_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _rows(config: DataConfig, store: Store, root: Path, *, label: str) -> dict[Split, Rows]:
    length = config.length
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
        path = root / f"rows-{_digest(store.folder.name, store.meta, split, length)}.npz"
        rows[split] = cached_first_fit(path, store.offsets[split], length=length)
        if rows[split].count == 0:
            raise DataError(f"{label}: the {split} split has no document of two tokens or more")
    return rows


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
