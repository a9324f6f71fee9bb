"""Bytes of documents out of one file, or one split of a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from zoo.data.config import DataConfig
from zoo.errors import DataError

SNIFFED = 8192
PARQUET_ROWS = 1024


def is_text(path: Path) -> bool:
    """Whether a file of a folder is read: JSONL, Parquet, or not empty and without a NUL byte."""
    if path.suffix in (".jsonl", ".parquet"):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(SNIFFED)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return bool(head) and b"\0" not in head


def read_file(path: Path, *, column: str, utf8: bool, plain: bool = False) -> Iterator[bytes]:
    """Yield the documents of one file, by its suffix: .jsonl, .parquet, or one text (`plain`).

    Raises `DataError` with the file (and line) that cannot be read; with `utf8` also for a text
    file that is not UTF-8.
    """
    try:
        if path.suffix == ".jsonl" and not plain:
            yield from _read_jsonl(path, column)
        elif path.suffix == ".parquet" and not plain:
            yield from _read_parquet(path, column)
        else:
            yield _read_text(path, utf8=utf8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def iter_dataset(config: DataConfig, name: str, split: str) -> Iterator[bytes]:
    """Yield the documents of one split of a dataset, through `datasets`."""
    import datasets

    repo, _, revision = name.partition("@")
    local = Path(name).expanduser().is_dir()
    where = f"data.dataset {name!r}" + (
        f" ({config.dataset_config})" if config.dataset_config else ""
    )
    try:
        rows = datasets.load_dataset(
            str(Path(name).expanduser()) if local else repo,
            config.dataset_config,
            split=split,
            streaming=config.streaming,
            revision=None if local else revision or None,
        )
        columns = rows.column_names
        if columns is None:  # a stream that does not say tells by its first row
            columns = list(next(iter(rows), {}))
        if config.text_column not in columns:
            raise DataError(_no_column(where, config.text_column, columns))
        texts = (row[config.text_column] for row in rows.select_columns([config.text_column]))
        yield from _numbered(islice(texts, config.max_documents), where, "document")
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{where}: split {split!r} cannot be read: {reason}") from error


def _read_text(path: Path, *, utf8: bool) -> bytes:
    text = path.read_bytes()
    if utf8:
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not UTF-8: byte 0x{text[error.start]:02x} at offset {error.start}; "
                "convert it, or use data.tokenizer = bytes, which takes any bytes"
            ) from error
    return text


def _read_jsonl(path: Path, column: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _jsonl_document(path, number, line, column)


def _jsonl_document(path: Path, number: int, line: bytes, column: str) -> bytes:
    try:
        row: Any = json.loads(line)
    except ValueError as error:  # also raised for bytes that are not UTF-8
        raise DataError(f"{path} line {number} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{path} line {number} holds a {type(row).__name__}; each line must be an object with "
            f"the column {column!r}"
        )
    if column not in row:
        raise DataError(_no_column(f"{path} line {number}", column, row))
    return _encode(row[column], f"{path} line {number}")


def _read_parquet(path: Path, column: str) -> Iterator[bytes]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                raise DataError(_no_column(str(path), column, file.schema_arrow.names))
            batches = file.iter_batches(batch_size=PARQUET_ROWS, columns=[column])
            texts = (text for batch in batches for text in batch.column(0).to_pylist())
            yield from _numbered(texts, str(path), "row")
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error


def _numbered(texts: Iterable[object], where: str, unit: str) -> Iterator[bytes]:
    for number, text in enumerate(texts, start=1):
        yield _encode(text, f"{where} {unit} {number}")


def _encode(text: object, where: str) -> bytes:
    """A missing text is an empty document, which the cache leaves out."""
    if text is None:
        return b""
    if not isinstance(text, str):
        raise DataError(f"{where}: the text column holds a {type(text).__name__}, not a string")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: the text is not valid Unicode: {error.reason}") from error


def _no_column(where: str, column: str, columns: Iterable[str]) -> str:
    return f"{where} has no column {column!r} (data.text_column); it has {', '.join(columns)}"
