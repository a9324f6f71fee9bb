"""`data.dataset`, tried on local folders through `datasets`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from zoo.data import DataConfig, open_data
from zoo.data.examples import ExampleData
from zoo.errors import DataError

TEXTS = [f"document number {i} of the set. " * 2 for i in range(40)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
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


def test_classes_keep_the_order_and_names_of_the_dataset(tmp_path: Path) -> None:
    """GLUE's files: sentences, class labels, -1 where there is none."""
    import datasets

    names = ["not_equivalent", "equivalent"]
    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
            "idx": datasets.Value("int32"),
        }
    )
    for split, labels in (("train", [1, 0, 1]), ("validation", [0, 1]), ("test", [-1, -1])):
        rows = [
            {"sentence1": f"one {i}", "sentence2": f"two {i}", "label": label, "idx": i}
            for i, label in enumerate(labels)
        ]
        made = datasets.Dataset.from_list(rows, features=features)
        made.to_parquet(str(tmp_path / "set" / "mrpc" / f"{split}-00000-of-00001.parquet"))
    asked = DataConfig(
        dataset=str(tmp_path / "set"),
        validation_split="validation",
        text_column="sentence1",
        text_pair_column="sentence2",
        length=32,
        cache_dir=str(tmp_path / "cache"),
    )
    data = open_data(asked, kind="classes", needs=("begin", "separator"))
    assert data.spec.labels == tuple(names)
    rows = data.read_rows("train", np.arange(3))
    assert rows["second"][:, 0].tolist() == [1, 0, 1]
    assert bytes(rows["second"][2, 1:6].astype(np.uint8)) == b"two 2"
    with pytest.raises(DataError, match="the label None is a NoneType"):
        open_data(dataclasses.replace(asked, validation_split="test"), kind="classes")


@pytest.mark.parametrize("streaming", [False, True])
def test_pairs_of_a_dataset_of_translations_are_read(tmp_path: Path, streaming: bool) -> None:
    """The column of WMT, IWSLT and OPUS; they have empty lines here and there."""
    import datasets

    features = datasets.Features({"translation": datasets.Translation(languages=["de", "en"])})
    pairs = [{"de": f"Satz {i}", "en": f"sentence {i}"} for i in range(9)]
    rows = [{"translation": pair} for pair in (*pairs, {"de": " ", "en": "nothing"})]
    for split in ("train", "validation"):
        made = datasets.Dataset.from_list(rows, features=features)
        made.to_parquet(str(tmp_path / "set" / f"{split}.parquet"))
    asked = DataConfig(
        dataset=str(tmp_path / "set"),
        validation_split="validation",
        text_column="translation.en",
        target_column="translation.de",
        streaming=streaming,
        max_documents=100 if streaming else None,
        tokenizer="bpe",
        vocab_size=260,
        length=32,
        cache_dir=str(tmp_path / "cache"),
    )
    data = open_data(asked, kind="pairs", needs=("begin", "end"))
    assert (data.rows("train"), data.rows("validation")) == (9, 9)
    assert isinstance(data, ExampleData)
    assert data.texts("validation", np.asarray([3, 0]), 1) == ["Satz 3", "Satz 0"]
    label = str(tmp_path / "set")
    assert f"2 examples of {label} have an empty text and are left out" in data.notes


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
