"""`data.dataset`, tried on local folders through `datasets`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from zoo.data import DataConfig, open_data
from zoo.errors import DataError

TEXTS = [f"document number {i} of the set. " * 2 for i in range(40)]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()
    folder = tmp_path / "set"
    folder.mkdir()
    for split, texts in (("train", TEXTS), ("test", ["held out text. " * 9])):
        rows = "".join(json.dumps({"body": text, "n": 1}) + "\n" for text in texts)
        (folder / f"{split}.jsonl").write_text(rows)
    return DataConfig(
        dataset=str(folder),
        text_column="body",
        length=16,
        batch_size=2,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_the_last_twentieth_is_held_out_without_a_validation_split(
    config: DataConfig, streaming: bool
) -> None:
    asked = dataclasses.replace(
        config, streaming=streaming, max_documents=100 if streaming else None
    )
    data = open_data(asked)
    assert (data.documents("train"), data.documents("validation")) == (38, 2)
    assert data.num_bytes("train") == sum(map(len, TEXTS[:38]))


def test_max_documents_keeps_the_first(config: DataConfig) -> None:
    data = open_data(dataclasses.replace(config, streaming=True, max_documents=10))
    assert data.num_bytes("train") == sum(map(len, TEXTS[:9]))
    assert data.documents("validation") == 1


def test_a_validation_split_is_read_whole(config: DataConfig) -> None:
    data = open_data(dataclasses.replace(config, validation_split="test"))
    assert data.documents("train") == 40
    assert data.num_bytes("validation") == len("held out text. " * 9)


def test_a_second_opening_does_not_load_the_dataset(config: DataConfig, monkeypatch) -> None:
    open_data(config)
    monkeypatch.setattr("zoo.data.sources.iter_dataset", None)
    assert not open_data(config).notes


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_column": "text"}, r"has no column 'text' .*it has body, n"),
        ({"dataset_split": "nowhere"}, "split 'nowhere' cannot be read"),
        ({"validation_split": "nowhere"}, "split 'nowhere' cannot be read"),
        ({"text_column": "n"}, "document 1: the text column holds a int"),
        ({"dataset": "no-such-owner/no-such-set"}, "no-such-owner/no-such-set"),
        ({"dataset_config": "unheard"}, "cannot be read.*unheard|unheard"),
    ],
)
def test_what_cannot_be_read_is_named(config, fields, message, streaming) -> None:
    asked = dataclasses.replace(
        config, streaming=streaming, max_documents=9 if streaming else None, **fields
    )
    with pytest.raises(DataError, match=message) as caught:
        open_data(asked)
    assert "\n" not in str(caught.value)
    assert not list(Path(str(config.cache_dir)).iterdir())
