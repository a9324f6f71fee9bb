"""Documents from where they lie: the standard library, files, folders and datasets.

A source is opened cheaply (its files are listed, not read) and read once, into the cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal, TypeVar

from zoo.data.config import DataConfig
from zoo.data.readers import is_text, iter_dataset, read_file
from zoo.errors import DataError

Item = TypeVar("Item")
Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
HELD_OUT = 0.05
# Left out of the default corpus: installed packages, compiled files and test suites.
STDLIB_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
)


@dataclass(frozen=True)
class Source:
    """Text that can be read.

    `label` names it for people. `fingerprint` changes when the text may have changed. `read`
    yields (split, document's bytes); it raises `DataError` for what cannot be read.
    """

    label: str
    fingerprint: str
    read: Callable[[], Iterator[tuple[Split, bytes]]]


def open_source(config: DataConfig) -> Source:
    """The source that `config` asks for.

    Raises `DataError` for a path that is missing, an empty file or a folder without text.
    """
    utf8 = config.tokenizer != "bytes"
    if config.dataset is not None:
        return _dataset_source(config, config.dataset)
    if config.path is None:
        return _stdlib_source(Path(sysconfig.get_path("stdlib")), utf8=utf8)
    return _path_source(config, config.path, utf8=utf8)


def path_fraction(relative: str) -> float:
    """A number in [0, 1) that depends on the posix path `relative` alone; < 0.05 is held out."""
    digest = hashlib.blake2b(relative.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def hold_out_tail(documents: Iterable[bytes]) -> Iterator[tuple[Split, bytes]]:
    """Stream documents; the last 5 % of them (at least one) are validation.

    A single document is cut at 95 % of its bytes, not inside a UTF-8 character. Only the held-out
    part is kept in memory, so the number of documents need not be known.
    """
    full = filter(None, documents)
    first = list(islice(full, 2))
    if len(first) == 1:
        (whole,) = first
        cut = int(len(whole) * (1 - HELD_OUT))
        for _ in range(3):  # a UTF-8 character has at most three continuation bytes
            if cut and whole[cut] & 0xC0 == 0x80:
                cut -= 1
        yield "train", whole[:cut]
        yield "validation", whole[cut:]
        return
    yield from hold_out_last(chain(first, full))


def hold_out_last(items: Iterable[Item]) -> Iterator[tuple[Split, Item]]:
    """Stream items; the last 5 % of them (at least one) are validation."""
    waiting: deque[Item] = deque()
    for seen, item in enumerate(items, start=1):
        waiting.append(item)
        # seen - held never falls, so what leaves here is never among the last 5 % of the whole.
        while len(waiting) > _held(seen):
            yield "train", waiting.popleft()
    for item in waiting:
        yield "validation", item


def _held(seen: int) -> int:
    return max(1, -(-seen // round(1 / HELD_OUT)))


def _stdlib_source(root: Path, *, utf8: bool) -> Source:
    files = walk(root, left_out=STDLIB_LEFT_OUT, suffix=".py")
    if not files:
        raise DataError(
            f"the Python standard library at {root} has no .py files; give data.path a text file"
        )
    splits = split_by_hash(files)

    def read() -> Iterator[tuple[Split, bytes]]:
        for name in files:
            for document in read_file(root / name, column="text", utf8=utf8, plain=True):
                yield splits[name], document

    return Source(
        label=f"the Python standard library's source ({platform.python_version()})",
        fingerprint=fingerprint("stdlib", utf8, stamps(root, files)),
        read=read,
    )


def _path_source(config: DataConfig, path: str, *, utf8: bool) -> Source:
    root, files = _list_path(path, "path")
    column = config.text_column
    held_root, held_files = (
        _list_path(config.validation_path, "validation_path")
        if config.validation_path is not None
        else (root, [])
    )
    splits = split_by_hash(files)

    def read() -> Iterator[tuple[Split, bytes]]:
        if not held_files and len(files) == 1:
            yield from hold_out_tail(read_file(root / files[0], column=column, utf8=utf8))
            return
        for name in files:
            split: Split = "train" if held_files else splits[name]
            for document in read_file(root / name, column=column, utf8=utf8):
                yield split, document
        for name in held_files:
            for document in read_file(held_root / name, column=column, utf8=utf8):
                yield "validation", document

    marks = (stamps(root, files), stamps(held_root, held_files))
    return Source(label=path, fingerprint=fingerprint("path", utf8, column, marks), read=read)


def _dataset_source(config: DataConfig, name: str) -> Source:
    local = Path(name).expanduser()
    # A Hub dataset is known by its name and revision: looking for news on every start would need
    # the network, and a resumed run must not find other text than it began with.
    marks = stamps(local, walk(local)) if local.is_dir() else []
    identity = (
        config.dataset_config,
        config.dataset_split,
        config.validation_split,
        config.text_column,
        config.max_documents,
        config.streaming,
    )

    def read() -> Iterator[tuple[Split, bytes]]:
        training = iter_dataset(config, name, config.dataset_split)
        if config.validation_split is None:
            yield from hold_out_tail(training)
            return
        for document in training:
            yield "train", document
        for document in iter_dataset(config, name, config.validation_split):
            yield "validation", document

    resolved = str(local.resolve()) if local.is_dir() else name
    return Source(
        label=name if config.dataset_config is None else f"{name} ({config.dataset_config})",
        fingerprint=fingerprint("dataset", resolved, identity, marks),
        read=read,
    )


def split_by_hash(files: list[str]) -> dict[str, Split]:
    """About 5 % of the files to validation; with few files at least one, and never all of them."""
    fractions = {name: path_fraction(name) for name in files}
    held = {name for name in files if fractions[name] < HELD_OUT}
    if not held or len(held) == len(files):
        held = {min(files, key=lambda name: fractions[name])}
    return {name: "validation" if name in held else "train" for name in files}


def _list_path(path: str, field: str) -> tuple[Path, list[str]]:
    """(root, sorted posix names relative to it) of a file or folder."""
    root = Path(path).expanduser()
    if root.is_dir():
        files = [name for name in walk(root) if is_text(root / name)]
        if not files:
            raise DataError(
                f"data.{field}: the folder {path} holds no text files (hidden, empty and binary "
                "files are left out)"
            )
        return root, files
    if not root.exists():
        raise DataError(f"data.{field}: there is no file or folder {path}")
    if not root.is_file():
        raise DataError(f"data.{field}: {path} is neither a file nor a folder")
    if root.stat().st_size == 0:
        raise DataError(f"data.{field}: the file {path} is empty")
    return root.parent, [root.name]


def walk(root: Path, *, left_out: frozenset[str] = frozenset(), suffix: str = "") -> list[str]:
    """Sorted posix paths, relative to `root`, of the files that are not hidden."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in left_out and not f.startswith(".")]
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in files
            if name.endswith(suffix) and not name.startswith(".")
        ]
    return sorted(found)


def stamps(root: Path, files: list[str]) -> list[tuple[str, int, int]]:
    """(path, bytes, modification time) of each file: cheap, and changes when a file is written."""
    base = str(root.resolve())
    stamps = []
    for name in files:
        try:
            status = os.stat(os.path.join(base, name))
        except OSError as error:
            raise DataError(f"cannot read {root / name}: {error.strerror}") from error
        stamps.append((os.path.join(base, name), status.st_size, status.st_mtime_ns))
    return stamps


def fingerprint(*parts: object) -> str:
    text = repr(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
