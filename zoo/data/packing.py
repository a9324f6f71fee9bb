"""Which tokens make up row i: windows of the token stream, or whole documents packed by grain."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from zoo.errors import DataError
from zoo.files import replacing

# Open rows that grain's first-fit packer keeps; more of them waste less padding.
PACKING_BINS = 128


def loss_mask(segment_ids: np.ndarray) -> np.ndarray:
    """bool [..., length + 1]: tokens that are targets, i.e. follow one of their own segment."""
    mask = np.zeros(segment_ids.shape, bool)
    same = segment_ids[..., 1:] == segment_ids[..., :-1]
    mask[..., 1:] = same & (segment_ids[..., 1:] > 0)
    return mask


class Rows(Protocol):
    """A fixed list of rows over a flat token stream."""

    @property
    def count(self) -> int:
        """Number of rows."""

    @property
    def num_targets(self) -> int:
        """Tokens that all rows together predict, document borders not taken out."""

    def positions(self, indices: np.ndarray) -> np.ndarray:
        """Positions in the token stream, int64 [rows, length + 1], of the rows `indices`.

        -1 is padding, and only at the end of a row.
        """


@dataclass(frozen=True)
class WindowRows:
    """Row i covers tokens [i * length, i * length + length + 1): each token is predicted once.

    With `partial` a last row that is not full is kept.
    """

    num_tokens: int
    length: int
    partial: bool

    @property
    def count(self) -> int:
        full, rest = divmod(max(0, self.num_tokens - 1), self.length)
        return full + (self.partial and rest > 0)

    @property
    def num_targets(self) -> int:
        return min(self.count * self.length, max(0, self.num_tokens - 1))

    def positions(self, indices: np.ndarray) -> np.ndarray:
        starts = indices.astype(np.int64)[:, None] * self.length
        positions = starts + np.arange(self.length + 1)
        return np.where(positions < self.num_tokens, positions, -1)


@dataclass(frozen=True)
class PackedRows:
    """Row i is the pieces row_starts[i]:row_starts[i + 1]; a piece is a run of tokens."""

    row_starts: np.ndarray
    piece_starts: np.ndarray
    piece_lengths: np.ndarray
    length: int

    @property
    def count(self) -> int:
        return len(self.row_starts) - 1

    @property
    def num_targets(self) -> int:
        return int(self.piece_lengths.sum()) - self.count

    def positions(self, indices: np.ndarray) -> np.ndarray:
        positions = np.full((len(indices), self.length + 1), -1, np.int64)
        for row, index in zip(positions, indices, strict=True):
            filled = 0
            for piece in range(self.row_starts[index], self.row_starts[index + 1]):
                start, size = self.piece_starts[piece], self.piece_lengths[piece]
                row[filled : filled + size] = np.arange(start, start + size)
                filled += size
        return positions


def pack_first_fit(offsets: np.ndarray, *, length: int) -> PackedRows:
    """Pack documents whole into rows of length + 1 tokens with grain's first-fit packer.

    `offsets`: int64 [documents + 1]. A longer document is cut into pieces that overlap by one
    token, so that each of its tokens but the first is predicted. Single tokens are left out.
    """
    import grain
    from grain.experimental import FirstFitPackIterDataset

    pieces = _cut(offsets, length)
    packed = FirstFitPackIterDataset(
        grain.MapDataset.range(len(pieces))
        .map(lambda i: {"positions": np.arange(pieces[i][0], pieces[i][1])})
        .to_iter_dataset(grain.ReadOptions(num_threads=0)),
        length_struct={"positions": length + 1},
        num_packing_bins=PACKING_BINS,
        shuffle_bins=False,
    )
    row_starts, starts, lengths = [0], [], []
    for row in packed:
        segments, positions = row["positions_segment_ids"], row["positions"]
        first = np.flatnonzero(np.diff(segments, prepend=0) > 0)
        starts += positions[first].tolist()
        lengths += np.bincount(segments)[1:].tolist()
        row_starts.append(len(starts))
    return PackedRows(
        row_starts=np.asarray(row_starts, np.int64),
        piece_starts=np.asarray(starts, np.int64),
        piece_lengths=np.asarray(lengths, np.int64),
        length=length,
    )


def cached_first_fit(path: Path, offsets: np.ndarray, *, length: int) -> PackedRows:
    """`pack_first_fit`, kept at `path` (.npz, written beside it and renamed)."""
    names = ("row_starts", "piece_starts", "piece_lengths")
    try:
        with np.load(path) as saved:  # the zip format checks its own CRC-32
            return PackedRows(**{name: saved[name] for name in names}, length=length)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # absent or damaged: packed again
    rows = pack_first_fit(offsets, length=length)
    try:
        # Opened here: savez would add an ending to a name.
        with replacing(path) as fresh, fresh.open("wb") as out:
            np.savez(out, **{name: getattr(rows, name) for name in names})
    except OSError as error:
        raise DataError(f"cannot write the row index {path}: {error.strerror}") from error
    return rows


def _cut(offsets: np.ndarray, length: int) -> list[tuple[int, int]]:
    return [
        (start, min(start + length + 1, int(end)))
        for first, end in pairwise(offsets)
        for start in range(int(first), int(end) - 1, length)
    ]
