"""The indexed cache: one flat file of token ids per split, memory-mapped, with document offsets.

A store is a folder named by the fingerprint of what it holds. It is written beside its place and
renamed into it, so that a half-written one is never found and two writers cannot mix.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.data.sources import SPLITS, Split
from zoo.errors import DataError

FORMAT = 1
META = "meta.json"
# A store up to this size is checksummed whenever it is opened (some 20 ms); of a larger one only
# the sizes are compared.
CHECKED_BYTES = 64 << 20
CHUNK = 1 << 24
STALE_SECONDS = 86_400


@dataclass(frozen=True)
class Store:
    """An opened store.

    `tokens[split]`: unsigned integers [tokens], memory-mapped. `offsets[split]`: int64
    [documents + 1], where document d is tokens[offsets[d]:offsets[d + 1]]. `meta`: counts.
    """

    folder: Path
    tokens: dict[Split, np.ndarray]
    offsets: dict[Split, np.ndarray]
    meta: dict[str, Any]

    def num_bytes(self, split: Split) -> int:
        """Bytes of text behind the tokens of `split`."""
        return int(self.meta["splits"][split]["bytes"])

    def documents(self, split: Split) -> Iterator[np.ndarray]:
        """The token ids of each document, in order."""
        offsets = self.offsets[split]
        for start, end in pairwise(offsets):
            yield self.tokens[split][start:end]


class StoreWriter:
    """Writes documents of token ids into the files of a store, one after another."""

    def __init__(self, folder: Path, *, max_id: int) -> None:
        self.dtype = np.dtype(np.min_scalar_type(max_id))
        self.folder = folder
        self._files: dict[Split, IO[bytes]] = {}
        self._offsets = {split: array("q", [0]) for split in SPLITS}
        self._bytes = dict.fromkeys(SPLITS, 0)
        self._checksums = dict.fromkeys(SPLITS, 0)

    def __enter__(self) -> StoreWriter:
        for split in SPLITS:
            self._files[split] = (self.folder / f"{split}.bin").open("wb")
        return self

    def __exit__(self, *unused: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, split: Split, ids: np.ndarray, num_bytes: int) -> None:
        """Append one document: its ids [tokens] and the bytes of text that they stand for."""
        if not len(ids):
            return
        data = ids.astype(self.dtype, copy=False).tobytes()
        self._files[split].write(data)
        self._checksums[split] = zlib.crc32(data, self._checksums[split])
        self._offsets[split].append(self._offsets[split][-1] + len(ids))
        self._bytes[split] += num_bytes

    def num_tokens(self, split: Split) -> int:
        """Tokens written so far."""
        return self._offsets[split][-1]

    def finish(self) -> None:
        """Write the offsets and, last, the meta file that makes the store complete."""
        splits = {}
        for split in SPLITS:
            offsets = np.frombuffer(self._offsets[split], dtype=np.int64)
            (self.folder / f"{split}.offsets").write_bytes(offsets.tobytes())
            splits[split] = {
                "bytes": self._bytes[split],
                "tokens": int(offsets[-1]),
                "documents": len(offsets) - 1,
                "crc32": self._checksums[split],
                "offsets_crc32": zlib.crc32(offsets.tobytes()),
            }
        # Whatever else lies here (a trained tokenizer) belongs to the store and is checked with it.
        own = {f"{split}.{kind}" for split in SPLITS for kind in ("bin", "offsets")}
        files = {
            path.name: zlib.crc32(path.read_bytes())
            for path in sorted(self.folder.iterdir())
            if path.name not in own
        }
        meta = {"format": FORMAT, "dtype": self.dtype.name, "splits": splits, "files": files}
        (self.folder / META).write_text(json.dumps(meta, indent=1) + "\n")


def open_or_build(
    folder: Path, build: Callable[[Path], None], notes: list[str], *, what: str
) -> Store:
    """Open the store at `folder`, or let `build` write it into an empty folder first.

    A damaged store is rebuilt; `notes` is told so and told of a new one. Raises `DataError` when
    the cache cannot be written.
    """
    if folder.exists():
        try:
            return read_store(folder)
        except DataError as error:
            notes.append(f"the cache of {what} is damaged ({error}); building it again")
    start = time.perf_counter()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        fresh = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
        try:
            build(fresh)
            store = _put_in_place(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot write the token cache in {folder.parent}: {error.strerror or error}; "
            "data.cache_dir sets another folder"
        ) from error
    notes.append(f"read {what} into {folder} in {time.perf_counter() - start:.1f} s")
    return store


def read_store(folder: Path) -> Store:
    """Open a complete store; `DataError` says what is missing or damaged."""
    try:
        meta = json.loads((folder / META).read_text())
        if meta["format"] != FORMAT:
            raise DataError(f"format {meta['format']}, not {FORMAT}")
        for name, checksum in meta["files"].items():
            if zlib.crc32((folder / name).read_bytes()) != checksum:
                raise DataError(f"{name} does not match its checksum")
        dtype = np.dtype(meta["dtype"])
        tokens, offsets = {}, {}
        for split in SPLITS:
            counts = meta["splits"][split]
            offsets[split] = _read_offsets(folder / f"{split}.offsets", counts)
            tokens[split] = _map_tokens(folder / f"{split}.bin", counts, dtype)
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{type(error).__name__}: {error}") from error
    return Store(folder=folder, tokens=tokens, offsets=offsets, meta=meta)


def _read_offsets(path: Path, counts: dict[str, int]) -> np.ndarray:
    data = path.read_bytes()
    if len(data) != 8 * (counts["documents"] + 1) or zlib.crc32(data) != counts["offsets_crc32"]:
        raise DataError(f"{path.name} does not match its record")
    return np.frombuffer(data, dtype=np.int64)


def _map_tokens(path: Path, counts: dict[str, int], dtype: np.dtype[Any]) -> np.ndarray:
    size = counts["tokens"] * dtype.itemsize
    if path.stat().st_size != size:
        raise DataError(f"{path.name} has {path.stat().st_size} bytes, not {size}")
    if size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype)
    tokens = np.memmap(path, dtype=dtype, mode="r")
    if size <= CHECKED_BYTES:
        checksum = 0
        raw: Any = tokens.view(np.uint8)
        for start in range(0, size, CHUNK):
            checksum = zlib.crc32(raw[start : start + CHUNK], checksum)
        if checksum != counts["crc32"]:
            raise DataError(f"{path.name} does not match its checksum")
    return tokens


def _put_in_place(fresh: Path, folder: Path) -> Store:
    """Rename `fresh` to `folder`; a whole store that another process put there first is used."""
    while True:
        try:
            fresh.rename(folder)
            return read_store(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        try:
            return read_store(folder)
        except DataError:
            # Moved away first: a reader that has the damaged files mapped keeps them.
            aside = fresh.with_name(f"{fresh.name}-replaced")
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                folder.rename(aside)
            if aside.is_dir():
                shutil.rmtree(aside)
            else:
                aside.unlink(missing_ok=True)


def _sweep(root: Path) -> None:
    """Remove what writers that were killed left behind more than a day ago."""
    for left in root.glob(".building-*"):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(left).st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
