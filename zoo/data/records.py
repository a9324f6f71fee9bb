"""Examples from where they lie: pairs of texts, and texts with their labels.

An example is two documents of bytes, which the cache keeps side by side: (source, target) of a
pair, else (text, JSON of its labels). The JSON is of `classes` what `class_of` reads; of `tags` a
list of [start, end, label], where the words lie in the text, in bytes; of `spans` [length of the
question, which the text begins with; start, end of the answer in the rest], in bytes, start = end
where there is none.
"""

from __future__ import annotations

import json
import platform
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.config import KINDS, DataConfig, RowKind
from zoo.data.python_source import python_classes, python_tags
from zoo.data.readers import TABLES, ClassName, Record, dataset_records, encode, read_records
from zoo.data.sources import Split, fingerprint, hold_out_last, stamps, walk
from zoo.errors import DataError

# One labelled example of so many is held out: a file may be sorted by its labels.
EVERY = 20
Example = tuple[bytes, bytes]


@dataclass(frozen=True)
class ExampleSource:
    """Examples that can be read; fields as of `zoo.data.sources.Source`.

    None is an example of a dataset, which nobody can edit, with an empty text: it is left out.
    """

    label: str
    fingerprint: str
    read: Callable[[], Iterator[tuple[Split, Example | None]]]


class _EmptyText(DataError):
    """A text without a character to read."""


def open_examples(config: DataConfig, kind: RowKind) -> ExampleSource:
    """The source of examples that `config` asks for.

    Raises `DataError` for a file that is missing or that cannot hold examples.
    """
    if config.dataset is not None:
        return _dataset_source(config, config.dataset, kind)
    if config.path is None:
        return _stdlib_source(kind)
    paths, held_paths = (
        [_file(field, getattr(config, field), kind) for field in fields if getattr(config, field)]
        for fields in (("path", "target_path"), ("validation_path", "validation_target_path"))
    )

    def read() -> Iterator[tuple[Split, Example | None]]:
        training = _read_paths(config, paths, kind)
        if not held_paths:
            yield from hold_out(training, kind)
            return
        for example in training:
            yield "train", example
        for example in _read_paths(config, held_paths, kind):
            yield "validation", example

    marks = [stamps(path.parent, [path.name]) for path in (*paths, *held_paths)]
    identity = (_columns(config, kind), len(paths), marks)
    label = config.path if config.target_path is None else f"{config.path}, {config.target_path}"
    return ExampleSource(label, fingerprint("examples", kind, identity), read)


def hold_out(
    examples: Iterable[Example | None], kind: RowKind
) -> Iterator[tuple[Split, Example | None]]:
    """Keep the last 5 % of pairs for validation, or every twentieth labelled example."""
    if kind == "pairs":
        yield from hold_out_last(examples)
        return
    for number, example in enumerate(examples, start=1):
        yield ("validation" if number % EVERY == 0 else "train"), example


def _dataset_source(config: DataConfig, name: str, kind: RowKind) -> ExampleSource:
    columns = _columns(config, kind)

    def read() -> Iterator[tuple[Split, Example | None]]:
        def examples(split: str) -> Iterator[Example | None]:
            for record in dataset_records(config, name, split, columns):
                try:
                    yield _example(record, kind)
                except _EmptyText:
                    yield None

        if config.validation_split is None:
            yield from hold_out(examples(config.dataset_split), kind)
            return
        for example in examples(config.dataset_split):
            yield "train", example
        for example in examples(config.validation_split):
            yield "validation", example

    local = Path(name).expanduser()
    identity = (
        (str(local.resolve()), stamps(local, walk(local))) if local.is_dir() else name,
        (config.dataset_config, config.dataset_split, config.validation_split),
        (config.max_documents, config.streaming),
        columns,
    )
    label = name if config.dataset_config is None else f"{name} ({config.dataset_config})"
    return ExampleSource(label, fingerprint("dataset", kind, identity), read)


def _stdlib_source(kind: RowKind) -> ExampleSource:
    root = Path(sysconfig.get_path("stdlib"))
    reader = {"classes": python_classes, "tags": python_tags}[kind]
    files, examples = reader(root)

    def read() -> Iterator[tuple[Split, Example]]:
        for split, text, labels in examples():
            yield split, (text, json.dumps(labels).encode())

    label = f"the Python standard library's source ({platform.python_version()})"
    return ExampleSource(label, fingerprint("stdlib", kind, stamps(root, files)), read)


def _columns(config: DataConfig, kind: RowKind) -> dict[str, str]:
    """Setting to column, in the order in which `_example` takes them."""
    fields: dict[RowKind, tuple[str, ...]] = {
        "pairs": ("text_column", "target_column"),
        "classes": ("text_column", "label_column"),
        "tags": ("text_column", "label_column"),
        "spans": ("question_column", "text_column", "label_column"),
        "images": ("image_column", "label_column"),
    }
    chosen = fields[kind]
    if config.text_pair_column is not None:
        chosen = (*chosen, "text_pair_column")
    return {field: getattr(config, field) for field in chosen}


def _file(field: str, name: str, kind: RowKind) -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        raise DataError(f"data.{field}: there is no file {name}")
    if not path.is_file():
        raise DataError(f"data.{field}: {name} is a folder; {KINDS[kind]} are read from a file")
    if path.stat().st_size == 0:
        raise DataError(f"data.{field}: the file {name} is empty")
    if kind != "pairs" and path.suffix not in TABLES:
        raise DataError(
            f"data.{field}: {name} has no columns; {KINDS[kind]} are read from .jsonl or .parquet"
        )
    return path


def _read_paths(config: DataConfig, paths: list[Path], kind: RowKind) -> Iterator[Example]:
    if len(paths) == 2:
        return _aligned(*paths)
    return (_example(record, kind) for record in read_records(paths[0], _columns(config, kind)))


def _aligned(source: Path, target: Path) -> Iterator[Example]:
    """Line i of one file with line i of the other; lines end with a newline and nothing else."""
    lines = [_lines(path) for path in (source, target)]
    if len(lines[0]) != len(lines[1]):
        raise DataError(
            f"{source} has {len(lines[0]):,} lines and {target} has {len(lines[1]):,}; line i of "
            "one must belong to line i of the other"
        )
    for number, (first, second) in enumerate(zip(*lines, strict=True), start=1):
        _refuse_empty(first, f"{source} line {number}")
        _refuse_empty(second, f"{target} line {number}")
        yield first, second


def _lines(path: Path) -> list[bytes]:
    try:
        text = path.read_bytes()
        text.decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: byte at offset {error.start}; convert it") from error
    return [line.removesuffix(b"\r") for line in text.removesuffix(b"\n").split(b"\n")]


def _example(record: Record, kind: RowKind) -> Example:
    makers: dict[RowKind, Callable[..., Example]] = {
        "pairs": _pair,
        "classes": _class,
        "tags": _tags,
        "spans": _span,
    }
    where, values = record
    return makers[kind](where, *values)


def _pair(where: str, source: object, target: object) -> Example:
    return _text(source, f"{where}, source"), _text(target, f"{where}, target")


def _class(where: str, text: object, label: object, *pair: object) -> Example:
    name = label_of(label, where)
    answer: dict[str, Any] = {"label": name}
    if isinstance(name, ClassName):
        answer["number"] = name.number
    for second in pair:
        answer["pair"] = _text(second, f"{where}, second text").decode("utf-8")
    return _text(text, where), json.dumps(answer).encode()


def class_of(document: bytes) -> tuple[str | int, bytes | None]:
    """The label in the second document of a text that is classified, and the second text."""
    answer = json.loads(document)
    if not isinstance(answer, dict):
        return answer, None
    label, pair = answer["label"], answer.get("pair")
    if "number" in answer:
        label = ClassName(label, answer["number"])
    return label, None if pair is None else pair.encode("utf-8")


def _tags(where: str, words: object, labels: object) -> Example:
    for name, value in (("text", words), ("label", labels)):
        if not isinstance(value, list):
            raise DataError(
                f"{where}: the {name} column holds a {type(value).__name__}, not a list with an "
                "entry for each word"
            )
    assert isinstance(words, list)
    assert isinstance(labels, list)
    if len(words) != len(labels):
        raise DataError(f"{where} has {len(words)} words and {len(labels)} labels")
    text, places = b"", []
    for word, label in zip(words, labels, strict=True):
        start = len(text) + bool(text)
        text += (b" " if text else b"") + _text(word, where)
        places.append([start, len(text), label_of(label, where)])
    _refuse_empty(text, where)
    return text, json.dumps(places).encode()


def _span(where: str, question: object, context: object, answers: object) -> Example:
    asked, text = _text(question, f"{where}, question"), _text(context, f"{where}, text")
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        raise DataError(
            f"{where}: the label column must hold an object with the lists text and answer_start"
        )
    found, starts = answers["text"], answers["answer_start"]
    if not (
        isinstance(found, list)
        and isinstance(starts, list)
        and len(found) == len(starts)
        and all(isinstance(answer, str) for answer in found)
        and all(isinstance(start, int) for start in starts)
    ):
        raise DataError(
            f"{where}: text = {found!r} and answer_start = {starts!r} of the label; use lists of "
            "equal length, of texts and of whole numbers"
        )
    if not found:
        return asked + text, json.dumps([len(asked), 0, 0]).encode()
    answer, first = found[0], starts[0]
    characters = text.decode("utf-8")
    if not answer or characters[first : first + len(answer)] != answer:
        raise DataError(f"{where}: the answer {answer!r} is not at character {first} of the text")
    start = len(characters[:first].encode())
    return asked + text, json.dumps([len(asked), start, start + len(answer.encode())]).encode()


def label_of(label: Any, where: str) -> str | int:
    """A label as JSON keeps it. Raises `DataError` for what is neither a name nor a number."""
    if hasattr(label, "item"):  # a NumPy scalar
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, (str, int)):
        raise DataError(
            f"{where}: the label {label!r} is a {type(label).__name__}; use a name (text) or a "
            "whole number"
        )
    return label


def number_labels(
    found: Mapping[Split, Iterable[str | int]], where: str
) -> tuple[list[str | int], dict[Split, list[int]]]:
    """The training labels, and the number among them of each label of each split.

    Numbers stand before names, and classes of a dataset in its order.

    Raises `DataError` for a label that no training example has.
    """
    labels = sorted(set(found["train"]), key=_place)
    known = {label: number for number, label in enumerate(labels)}
    for split, names in found.items():
        for name in names:
            if name not in known:
                raise DataError(
                    f"{where}: the label {name!r} of the {split} split is in no training example; "
                    f"those have {', '.join(map(str, labels))}"
                )
    return labels, {split: [known[name] for name in names] for split, names in found.items()}


def _place(label: str | int) -> tuple[bool, int, str | int]:
    return isinstance(label, str), getattr(label, "number", 0), label


def _text(text: object, where: str) -> bytes:
    encoded = encode(text, where)
    _refuse_empty(encoded, where)
    return encoded


def _refuse_empty(text: bytes, where: str) -> None:
    if not text.strip():
        raise _EmptyText(f"{where}: the text is empty; leave the example out")
