"""Labelled examples that every machine has: the source of the Python standard library."""

from __future__ import annotations

import keyword
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from zoo.data.sources import STDLIB_LEFT_OUT, Split, split_by_hash, walk
from zoo.errors import DataError

Labelled = tuple[Split, bytes, Any]
Reader = tuple[list[str], Callable[[], Iterator[Labelled]]]

CLASSES = 8
SNIPPET = 400
# Kinds of token that are no layout.
_KINDS = {
    tokenize.NAME: "name",
    tokenize.NUMBER: "number",
    tokenize.STRING: "string",
    tokenize.COMMENT: "comment",
    tokenize.OP: "operator",
}


def python_classes(root: Path) -> Reader:
    """(files, examples): which of the 8 packages with most files a snippet of code is from."""
    files = _files(root)
    packages = Counter(name.split("/")[0] for name in files if "/" in name)
    kept = {
        name for name, _ in sorted(packages.items(), key=lambda each: (-each[1], each[0]))[:CLASSES]
    }
    files = [name for name in files if name.split("/")[0] in kept and "/" in name]
    splits = split_by_hash(files)

    def examples() -> Iterator[Labelled]:
        for name in files:
            for snippet in _snippets((root / name).read_bytes()):
                yield splits[name], snippet, name.split("/")[0]

    return files, examples


def python_tags(root: Path) -> Reader:
    """(files, examples): what kind of token each word of a snippet of Python is."""
    files = _files(root)
    splits = split_by_hash(files)

    def examples() -> Iterator[Labelled]:
        for name in files:
            source = (root / name).read_bytes()
            tokens = _tokens(source)
            end = 0
            for snippet in _snippets(source):
                start, end = end, end + len(snippet)
                inside = [each for each in tokens if start <= each[0] and each[1] <= end]
                if inside:
                    places = [(first - start, last - start, kind) for first, last, kind in inside]
                    yield splits[name], snippet, places

    return files, examples


def _files(root: Path) -> list[str]:
    files = walk(root, left_out=STDLIB_LEFT_OUT, suffix=".py")
    if not files:
        raise DataError(
            f"the Python standard library at {root} has no .py files; give data.path a file"
        )
    return files


def _snippets(source: bytes) -> Iterator[bytes]:
    """Whole lines, about `SNIPPET` bytes of them together."""
    start = 0
    while source[start:].strip():
        newline = source.find(b"\n", start + SNIPPET)
        end = len(source) if newline < 0 else newline + 1
        yield source[start:end]
        start = end


def _tokens(source: bytes) -> list[tuple[int, int, str]]:
    """(start, end, kind), in bytes, of the tokens of a file; none where it is not UTF-8."""
    try:
        lines = source.decode("utf-8").splitlines(keepends=True)
        tokens = list(tokenize.generate_tokens(iter(lines).__next__))
    except (UnicodeDecodeError, tokenize.TokenError, SyntaxError):
        return []
    starts = [0, *accumulate(len(line.encode()) for line in lines)]

    def place(row: int, column: int) -> int:
        return starts[row - 1] + len(lines[row - 1][:column].encode())

    return [
        (place(*token.start), place(*token.end), _kind(token.type, token.string))
        for token in tokens
        if token.type in _KINDS and token.string
    ]


def _kind(type_: int, word: str) -> str:
    kind = _KINDS[type_]
    return "keyword" if kind == "name" and keyword.iskeyword(word) else kind
