"""Texts and records out of one file, or one split of a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from zoo.data.config import DataConfig
from zoo.errors import DataError

SNIFFED = 8192
PARQUET_ROWS = 1024
TABLES = (".jsonl", ".parquet")

# Setting to the column that it names.
Columns = Mapping[str, str]
# Where a row stands, for people, and the values of its columns.
Record = tuple[str, list[Any]]


class ClassName(str):
    """The name of a class that has a number in its dataset."""

    number: int

    def __new__(cls, name: str, number: int) -> ClassName:
        made = super().__new__(cls, name)
        made.number = number
        return made


def is_text(path: Path) -> bool:
    """Whether a file of a folder is read: JSONL, Parquet, or not empty and without a NUL byte."""
    if path.suffix in TABLES:
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
    if path.suffix in TABLES and not plain:
        for where, (text,) in read_records(path, {"text_column": column}):
            yield encode(text, where)
        return
    try:
        yield _read_text(path, utf8=utf8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def read_records(path: Path, columns: Columns) -> Iterator[Record]:
    """Yield the rows of a .jsonl or .parquet file, as (where it stands, values of `columns`).

    Raises `DataError` with the file (and line) that cannot be read, or that lacks a column.
    """
    try:
        rows = _read_jsonl(path) if path.suffix == ".jsonl" else _read_parquet(path, columns)
        for where, row in rows:
            yield where, _values(row, where, columns)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def iter_dataset(config: DataConfig, name: str, split: str) -> Iterator[bytes]:
    """Yield the documents of one split of a dataset, through `datasets`."""
    for where, (text,) in dataset_records(config, name, split, {"text_column": config.text_column}):
        yield encode(text, where)


def dataset_records(
    config: DataConfig, name: str, split: str, columns: Columns
) -> Iterator[Record]:
    """Yield the rows of one split of a dataset, as `read_records` does those of a file.

    A column of class labels gives their names, as `ClassName`, where the dataset knows them.
    """
    local = Path(name).expanduser().is_dir()
    where = f"data.dataset {name!r}" + (
        f" ({config.dataset_config})" if config.dataset_config else ""
    )
    repo, _, revision = name.partition("@")
    asked: dict[str, Any] = {
        "path": str(Path(name).expanduser()) if local else repo,
        "name": config.dataset_config,
        "streaming": config.streaming,
        "revision": None if local else revision or None,
    }
    return islice(_loaded(where, split, columns, asked), config.max_documents)


def image_folder_records(folder: Path, columns: Columns) -> Iterator[Record]:
    """Yield the pictures below `folder`, whose folders are their labels, through `datasets`."""
    asked = {"path": "imagefolder", "data_dir": str(folder), "streaming": True}
    return _loaded(f"data.path {str(folder)!r}", "train", columns, asked)


def _loaded(where: str, split: str, columns: Columns, asked: dict[str, Any]) -> Iterator[Record]:
    """The rows of one split of what `datasets.load_dataset(**asked)` loads."""
    import datasets

    try:
        rows = datasets.load_dataset(**asked, split=split)
        present = rows.column_names
        if present is None:  # a stream that does not say tells by its first row
            present = list(next(iter(rows), {}))
        names = _present(columns, present, where)
        classes = {
            field: rows.features[column].names
            for field, column in columns.items()
            if rows.features and isinstance(rows.features.get(column), datasets.ClassLabel)
        }
        for number, row in enumerate(rows.select_columns(names), start=1):
            at = f"{where} document {number}"
            values = zip(columns, _values(row, at, columns), strict=True)
            yield at, [_named(classes.get(field), value) for field, value in values]
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{where}: split {split!r} cannot be read: {reason}") from error


def _named(names: Sequence[str] | None, value: Any) -> Any:
    """The name of a class; None where there is none, which `datasets` writes as -1."""
    if names is None or value is None:
        return value
    return ClassName(names[value], value) if value >= 0 else None


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


def _read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path} line {number}", _jsonl_row(path, number, line)


def _jsonl_row(path: Path, number: int, line: bytes) -> Mapping[str, Any]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:  # also raised for bytes that are not UTF-8
        raise DataError(f"{path} line {number} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{path} line {number} holds a {type(row).__name__}; each line must be an object with "
            "a key for each column"
        )
    return row


def _read_parquet(path: Path, columns: Columns) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = _present(columns, file.schema_arrow.names, str(path))
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", row
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error


def _present(columns: Columns, present: Iterable[str], where: str) -> list[str]:
    """The names of the columns to read; of `a.b`, which is no column, it is `a`."""
    known = list(present)
    names = [column if column in known else column.partition(".")[0] for column in columns.values()]
    for (field, column), name in zip(columns.items(), names, strict=True):
        if name not in known:
            raise DataError(_no_column(where, field, column, known))
    return list(dict.fromkeys(names))


def _values(row: Mapping[str, Any], where: str, columns: Columns) -> list[Any]:
    return [_value(row, where, field, column) for field, column in columns.items()]


def _value(row: Mapping[str, Any], where: str, field: str, column: str) -> Any:
    if column in row:
        return row[column]
    name, dot, rest = column.partition(".")
    inner = row.get(name)
    if not dot or not isinstance(inner, Mapping) or rest not in inner:
        raise DataError(_no_column(where, field, column, row))
    return inner[rest]


def encode(text: object, where: str) -> bytes:
    """The bytes of a text; a missing one is empty. Raises `DataError` for what is no text."""
    if text is None:
        return b""
    if not isinstance(text, str):
        raise DataError(f"{where}: the text column holds a {type(text).__name__}, not a string")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: the text is not valid Unicode: {error.reason}") from error


def _no_column(where: str, field: str, column: str, columns: Iterable[str]) -> str:
    return f"{where} has no column {column!r} (data.{field}); it has {', '.join(columns)}"
