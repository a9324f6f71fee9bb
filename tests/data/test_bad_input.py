"""Each kind of bad input gives one clear message, and settings clash before anything is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from zoo.data import DataConfig, open_data
from zoo.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "a", "dataset": "b"}, "data.path = 'a' and data.dataset = 'b' are both set"),
        ({"validation_path": "a"}, "data.validation_path = 'a' needs data.path"),
        ({"validation_path": "a", "dataset": "b"}, "use data.validation_split"),
        ({"path": "a", "validation_path": "a"}, "is the text trained on"),
        ({"dataset_config": "a"}, "data.dataset_config = 'a' needs data.dataset"),
        ({"dataset_split": "a"}, "data.dataset_split = 'a' needs data.dataset"),
        ({"validation_split": "a"}, "data.validation_split = 'a' needs data.dataset"),
        ({"streaming": True}, "data.streaming = True needs data.dataset"),
        ({"max_documents": 3}, "data.max_documents = 3 needs data.dataset"),
        ({"dataset": "a", "streaming": True}, "needs data.max_documents"),
        ({"dataset": "a", "max_documents": 0}, "data.max_documents = 0; use 1 or more"),
        ({"dataset": "a", "validation_split": "train"}, "is the split trained on"),
        ({"batch_size": 0}, "data.batch_size = 0; use 1 or more"),
        ({"length": -1}, "data.length = -1; use 1 or more"),
        ({"prefetch": -1}, "data.prefetch = -1; use 0 or more"),
        ({"path": ""}, "data.path is an empty string"),
        ({"packing": "tight"}, "data.packing = 'tight' is not known; use concat or first_fit"),
        ({"tokenizer": "byts"}, r"data.tokenizer = 'byts'.*did you mean bytes\?"),
        ({"tokenizer": "bpe", "vocab_size": 100}, "data.vocab_size = 100; use 258 or more"),
        ({"vocab_size": 100}, "data.vocab_size = 100 has no effect"),
    ],
)
def test_settings_that_cannot_work_are_refused_unread(
    fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.data.text.open_source", None)
    config = dataclasses.replace(DataConfig(), **fields)
    with pytest.raises(ConfigError, match=message):
        open_data(config)


def test_the_default_settings_are_valid() -> None:
    DataConfig().validate()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=f"seed = {seed}; use a number from 0"):
        open_data(DataConfig(), seed=seed)


ENOUGH = "text enough for a row or two " * 20


@pytest.mark.parametrize(
    ("name", "content", "fields", "message"),
    [
        ("a.txt", None, {}, "data.path: there is no file or folder .*a.txt"),
        ("a.txt", b"", {}, "the file .*a.txt is empty"),
        ("a.jsonl", b"", {}, "the file .*a.jsonl is empty"),
        ("a.txt", b"short", {}, "train split has 4 tokens and needs 17.*data.length = 16"),
        ("a.txt", b"abc\xff" * 99, {"tokenizer": "bpe"}, "is not UTF-8: byte 0xff at offset 3"),
        ("a.jsonl", b'{"text": "a"}\n{"te\n', {}, "a.jsonl line 2 is not JSON"),
        ("a.jsonl", b'{"text": "a"}\n\n\xff\n', {}, "a.jsonl line 3 is not JSON"),
        ("a.jsonl", b'["a"]\n', {}, "a.jsonl line 1 holds a list"),
        ("a.jsonl", b'{"body": "a", "id": 1}\n', {}, "line 1 has no column 'text'.*has body, id"),
        ("a.jsonl", b'{"text": 3}\n', {}, "line 1: the text column holds a int"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', {}, "line 1: the text is not valid Unicode"),
        ("a.jsonl", b'{"text": ""}\n', {}, "the train split holds no text"),
        ("a.parquet", b"PAR1 not really", {}, "a.parquet is not a Parquet file"),
        ("a.txt", ENOUGH.encode(), {"tokenizer": "gone.json"}, "there is no file gone.json"),
        ("a.txt", ENOUGH.encode(), {"validation_path": "gone.txt"}, "data.validation_path: there"),
    ],
)
def test_text_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None, fields: dict[str, Any], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    config = DataConfig(
        path=str(tmp_path / name), length=16, cache_dir=str(tmp_path / "cache"), **fields
    )
    with pytest.raises(DataError, match=message) as caught:
        open_data(config)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_without_the_column_lists_those_it_has(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"], "n": [1]}), tmp_path / "a.parquet")
    config = DataConfig(path=str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"has no column 'text'.*it has body, n"):
        open_data(config)


def test_a_folder_without_text_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(b"\0\1")
    with pytest.raises(DataError, match=r"the folder .*set holds no text files"):
        open_data(DataConfig(path=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache")))


def test_bytes_mode_takes_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 4)
    config = DataConfig(path=str(tmp_path / "a.bin"), length=16, cache_dir=str(tmp_path / "cache"))
    assert (
        open_data(config).num_tokens("train") + open_data(config).num_tokens("validation") == 1024
    )
