"""What a run reads: rows of two splits, in an order that is a pure function of (seed, step)."""

from __future__ import annotations

import abc
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.config import DataConfig
from zoo.data.sources import Split
from zoo.data.tokenizers import NO_FRAME, Frame, PairFrame, Tokenizer, Vocabulary
from zoo.errors import ConfigError, DataError

Batch = dict[str, np.ndarray]
LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class RowSpec:
    """What a task must know of the rows to make a batch of them, and a model of their ends.

    Attributes:
        length, target_length: of a row, in tokens; 0 where there are none.
        separate_documents: whether tokens see their own document only.
        vocabulary: token ids, the special ones included.
        frame: special tokens that a task puts around each text.
        pair_frame: those around two texts that belong together; None where there is one.
        labels: names of the classes, by id.
        image: [height, width, channels].
    """

    length: int
    vocabulary: Vocabulary
    target_length: int = 0
    separate_documents: bool = False
    frame: Frame = NO_FRAME
    pair_frame: PairFrame | None = None
    labels: tuple[str, ...] = ()
    image: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Budget:
    """What a run of some steps takes from the training split.

    `unit` is what the loss counts, tokens or examples. `warning` is None up to one epoch, and
    otherwise says how often the text is seen.
    """

    tokens_available: int
    tokens_asked: int
    epochs: float
    warning: str | None
    unit: str = "tokens"


class Data(abc.ABC):
    """Rows of the two splits of some data; `open_data` makes it.

    A batch is a dict of arrays whose leading axis is the batch. Beside what `read_rows` gives it
    has `draw`, uint64 [batch, 2]: a key for whatever a task draws for a row, a function of the
    seed and of how many rows were trained on before, and in an evaluation of the row alone.
    """

    unit = "tokens"
    """What the loss counts."""

    def __init__(
        self,
        config: DataConfig,
        *,
        seed: int,
        label: str,
        tokenizer: Tokenizer,
        spec: RowSpec,
        notes: tuple[str, ...],
    ) -> None:
        self.config = config
        self.seed = seed
        self.label = label
        """The source's name, for people."""
        self.tokenizer = tokenizer
        self.spec = spec
        self.notes = notes
        """What was done on opening: caches built or rebuilt, a smaller vocabulary."""
        self._orders: dict[int, Any] = {}

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Equal where the rows of both splits are equal, whatever the machine."""

    @abc.abstractmethod
    def rows(self, split: Split) -> int:
        """Rows in `split`: an epoch of training is this many."""

    @abc.abstractmethod
    def read_rows(self, split: Split, indices: np.ndarray) -> Batch:
        """The rows `indices` [batch] as a batch; an index of -1 gives a row of padding."""

    @abc.abstractmethod
    def num_targets(self) -> int:
        """What the loss counts in an epoch of training."""

    @abc.abstractmethod
    def figures(self, split: Split) -> dict[str, str]:
        """What `split` holds, for people."""

    @abc.abstractmethod
    def bytes_per_token(self, split: Split) -> float | None:
        """Bytes of text that a predicted token stands for on average, which turns nats a token
        into bits a byte; None where no text is predicted."""

    def save(self, folder: str | Path) -> None:
        """Write what a model of this data needs beside its weights: tokenizer and labels."""
        self.tokenizer.save(folder)
        if self.spec.labels:
            text = json.dumps(self.spec.labels, ensure_ascii=False, indent=1)
            (Path(folder) / LABELS_FILE).write_text(text + "\n", encoding="utf-8")

    @property
    def tokens_by(self) -> str:
        """What makes the tokens, for people."""
        return self.config.tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of token ids; with `bpe` it may be below the one asked for."""
        return self.spec.vocabulary.size

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

        Those of `config.validation_half`; with `max_batches` below what there is, evenly spaced
        over it, always the same.
        """
        size = self._batch_size(batch_size)
        rows = self.eval_rows(size, max_batches)
        rows = np.pad(rows, (0, -len(rows) % size), constant_values=-1)
        for indices in rows.reshape(-1, size):
            yield self.read_rows("validation", indices) | {"draw": _draws(0, indices + 1)}

    def eval_rows(
        self, batch_size: int | None = None, max_batches: int | None = None
    ) -> np.ndarray:
        """Numbers, int64, of the validation rows that `eval_batches` reads, in order."""
        size = self._batch_size(batch_size)
        rows = self.held_out_rows()
        if max_batches is None or max_batches * size >= len(rows):
            return rows
        return rows[np.arange(max_batches * size) * len(rows) // (max_batches * size)]

    def held_out_rows(self) -> np.ndarray:
        """Numbers, int64, of the validation rows that `config.validation_half` keeps."""
        half, count = self.config.validation_half, self.rows("validation")
        rows = np.arange(count)
        if half == "both":
            return rows
        middle = (count + 1) // 2
        rows = rows[:middle] if half == "first" else rows[middle:]
        if not len(rows):
            raise DataError(
                f"{self.label}: the validation split has {count} row, and data.validation_half = "
                f"{half!r} leaves none of it; hold out more, or use both"
            )
        return rows

    def example_batch(self, size: int) -> Batch:
        """The first training row, `size` times: what a batch looks like."""
        rows = np.zeros(size, np.int64)
        return self.read_rows("train", rows) | {"draw": _draws(0, rows)}

    def epoch_of(self, step: int, *, batch_size: int | None = None) -> int:
        """The epoch, counted from 0, that the first row of `step` belongs to."""
        return step * self._batch_size(batch_size) // self.rows("train")

    def budget(self, steps: int, *, batch_size: int | None = None) -> Budget:
        """What `steps` batches predict, against what the training split has."""
        available = self.num_targets()
        epochs = steps * self._batch_size(batch_size) / self.rows("train")
        asked = round(epochs * available)
        warning = None
        if epochs > 1:
            warning = (
                f"{asked:,} {self.unit} are asked for and the training text has {available:,}: "
                f"it is read {epochs:.3g} times"
            )
        return Budget(available, asked, epochs, warning, self.unit)

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

        def read(step: int, indices: np.ndarray) -> Batch:
            position = step * len(indices) + np.arange(len(indices))
            return self.read_rows("train", indices) | {"draw": _draws(self.seed, position)}

        return self._row_order(batch_size).map_with_index(read)


def _draws(seed: int, positions: np.ndarray) -> np.ndarray:
    return np.stack([np.full(len(positions), seed), positions], axis=1).astype(np.uint64)
