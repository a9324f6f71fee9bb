"""Pairs and labelled texts: what a row holds, what is held out, what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.data import DataConfig, open_data
from zoo.data.examples import ExampleData
from zoo.errors import ConfigError, DataError

SOURCES = [f"source {'x' * (i % 7)} {i}" for i in range(60)]
TARGETS = [f"ziel {'ü' * (i % 5)} {i}" for i in range(60)]
Open = Callable[..., ExampleData]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    def make(kind: str = "pairs", *, seed: int = 0, **fields: Any) -> ExampleData:
        (tmp_path / "a.en").write_text("\n".join(SOURCES) + "\n")
        (tmp_path / "a.de").write_text("\n".join(TARGETS) + "\n")
        places: dict[str, Any] = {"cache_dir": str(tmp_path / "cache"), "prefetch": 0}
        if "path" not in fields and kind == "pairs":
            places |= {"path": str(tmp_path / "a.en"), "target_path": str(tmp_path / "a.de")}
        config = DataConfig(**{"batch_size": 4, "length": 32, **places, **fields})
        data = open_data(config, kind=kind, seed=seed)  # type: ignore[arg-type]
        assert isinstance(data, ExampleData)
        return data

    return make


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_row_is_a_line_of_each_file(opened: Open) -> None:
    data = opened(target_length=12)
    assert (data.rows("train"), data.rows("validation")) == (57, 3)  # the last 5 % is held out
    batch = data.read_rows("train", np.asarray([3, -1]))
    first, second = SOURCES[3].encode(), TARGETS[3].encode()
    assert batch["first"].shape == (2, 32)
    assert bytes(batch["first"][0, : len(first)].astype(np.uint8)) == first
    assert not batch["first"][0, len(first) :].any()
    assert batch["first_length"].tolist() == [len(first), 0]
    assert batch["second"].shape == (2, 12)
    assert bytes(batch["second"][0].astype(np.uint8)) == second[:12]
    assert batch["second_length"].tolist() == [len(second), 0]


def test_pairs_in_columns_are_those_of_two_files(opened: Open, tmp_path: Path) -> None:
    rows = [{"t": {"en": en, "de": de}} for en, de in zip(SOURCES, TARGETS, strict=True)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    lines, columns = opened(), opened(path=path, text_column="t.en", target_column="t.de")
    assert lines.fingerprint == columns.fingerprint


def test_pairs_resume_in_the_order_of_seed_and_step(opened: Open) -> None:
    data = opened(seed=5)
    whole = [batch["first"] for batch, _ in zip(data.train_batches(), range(30), strict=False)]
    again = next(opened(seed=5).train_batches(21))
    np.testing.assert_array_equal(again["first"], whole[21])
    seen = np.concatenate([data.train_rows(step) for step in range(57)]).reshape(4, 57)
    assert all(sorted(epoch) == list(range(57)) for epoch in seen.tolist())


def test_long_texts_are_cut_and_counted(opened: Open) -> None:
    room = max(map(len, SOURCES))  # the longest has no room for its end token
    cut = sum(len(text) == room for text in SOURCES[:57])
    assert cut
    assert f"{cut} of 57 sources are cut to data.length = {room}" in opened(length=room).notes


def test_bytes_a_token_are_of_the_target_and_its_end(opened: Open) -> None:
    held = [len(text.encode()) for text in TARGETS[57:]]
    assert opened().bytes_per_token("validation") == pytest.approx(sum(held) / (sum(held) + 3))


def test_a_bpe_is_trained_on_both_sides_and_shared(opened: Open) -> None:
    data = opened(tokenizer="bpe", vocab_size=300)
    batch = data.read_rows("train", np.asarray([6]))
    for name, text in (("first", SOURCES[6]), ("second", TARGETS[6])):
        kept = batch[name][0, : batch[f"{name}_length"][0]]
        assert data.tokenizer.decode(kept) == text
        assert len(kept) < len(text.encode())


def test_labels_are_numbered_in_order(opened: Open, tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": [10, 9, "z", "b"][i % 4]} for i in range(40)]
    data = opened("classes", path=write_rows(tmp_path / "c.jsonl", rows))
    assert data.spec.labels == ("9", "10", "b", "z")
    assert data.rows("validation") == 2  # every twentieth
    batch = data.read_rows("train", np.arange(4))
    assert batch["second"][:, 0].tolist() == [1, 0, 3, 2]


def test_the_first_token_of_a_word_carries_its_label(opened: Open, tmp_path: Path) -> None:
    rows = [{"text": ["größe", "in", "Metern"], "label": ["N", "P", "N"]}] * 20
    path = write_rows(tmp_path / "t.jsonl", rows)
    plain = opened("tags", path=path)
    tags = plain.read_rows("train", np.asarray([0]))["second"][0]
    assert plain.spec.labels == ("N", "P")
    assert {place: tags[place] for place in np.flatnonzero(tags)} == {0: 1, 8: 2, 11: 1}
    merged = opened("tags", path=path, tokenizer="bpe", vocab_size=400)
    row = merged.read_rows("train", np.asarray([0]))
    first, second = row["first"][0], row["second"][0]
    words = [merged.tokenizer.decode(first[[place]]).strip() for place in np.flatnonzero(second)]
    assert words == ["größe", "in", "Metern"]


def test_an_answer_is_found_among_the_tokens(opened: Open, tmp_path: Path) -> None:
    text = "Die Brücke über den Fluß ist alt."
    rows = [
        {"question": "Wo?", "text": text, "label": {"text": ["Fluß"], "answer_start": [20]}},
        {"question": "Wer?", "text": text, "label": {"text": [], "answer_start": []}},
    ] * 20
    path = write_rows(tmp_path / "s.jsonl", rows)
    for fields in ({}, {"tokenizer": "bpe", "vocab_size": 400}):
        data = opened("spans", path=path, length=64, **fields)
        batch = data.read_rows("train", np.asarray([0, 1]))
        border, first, last = batch["second"][0]
        answer = batch["first"][0, border + first - 1 : border + last]
        assert data.tokenizer.decode(answer).strip() == "Fluß"
        assert batch["second"][1, 1:].tolist() == [0, 0]


def lines_differ(root: Path) -> dict[str, Any]:
    (root / "b.de").write_text("eins\nzwei\n")
    return {"path": str(root / "a.en"), "target_path": str(root / "b.de")}


def empty_line(root: Path) -> dict[str, Any]:
    (root / "b.en").write_text("one\n \nthree\n")
    (root / "b.de").write_text("eins\nzwei\ndrei\n")
    return {"path": str(root / "b.en"), "target_path": str(root / "b.de")}


def no_column(root: Path) -> dict[str, Any]:
    return {"path": write_rows(root / "b.jsonl", [{"text": "a", "label": 1}] * 20)}


@pytest.mark.parametrize(
    ("kind", "make", "message"),
    [
        ("pairs", lines_differ, r"a\.en has 60 lines and .*b\.de has 2"),
        ("pairs", empty_line, r"b\.en line 2: the text is empty"),
        ("pairs", no_column, r"b\.jsonl line 1 has no column 'target' \(data\.target_column\)"),
        ("spans", no_column, r"no column 'question' \(data\.question_column\)"),
        ("classes", lambda root: {"path": str(root / "a.en")}, r"a\.en has no columns"),
        ("pairs", lambda root: {"path": str(root), "target_path": "b"}, "is a folder"),
    ],
)
def test_what_cannot_be_read_is_named(
    opened: Open, tmp_path: Path, kind: str, make: Callable[[Path], Any], message: str
) -> None:
    opened()  # writes the files
    with pytest.raises(DataError, match=message):
        opened(kind, **make(tmp_path))


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("classes", {"text": "a", "label": 0.5}, r"line 20: the label 0\.5 is a float"),
        ("classes", {"text": "a", "label": "new"}, "'new' of the validation split is in no train"),
        ("classes", {"text": "", "label": "x"}, "line 20: the text is empty"),
        ("tags", {"text": ["a", "b"], "label": ["x"]}, "2 words and 1 labels"),
        ("tags", {"text": "a b", "label": ["x", "x"]}, "holds a str, not a list"),
        (
            "spans",
            {"question": "a", "text": "b", "label": {"text": ["c"], "answer_start": [0]}},
            "the answer 'c' is not at character 0",
        ),
        (
            "spans",
            {"question": "a", "text": "b", "label": {"text": ["b"], "answer_start": []}},
            r"text = \['b'\] and answer_start = \[\] of the label; use lists of equal length",
        ),
        (
            "spans",
            {"question": "a", "text": "b", "label": {"text": ["b"], "answer_start": ["x"]}},
            "use lists of equal length",
        ),
    ],
)
def test_labels_that_make_no_sense_are_refused(
    opened: Open, tmp_path: Path, kind: str, row: dict[str, Any], message: str
) -> None:
    good: dict[str, Any] = {
        "classes": {"text": "a", "label": "x"},
        "tags": {"text": ["a"], "label": ["x"]},
        "spans": {"question": "q", "text": "b", "label": {"text": ["b"], "answer_start": [0]}},
    }[kind]
    path = write_rows(tmp_path / "rows.jsonl", [good] * 19 + [row])
    with pytest.raises(DataError, match=message):
        opened(kind, path=path)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("text", {"target_path": "b"}, "target_path = 'b' has no effect on running text"),
        ("pairs", {"packing": "first_fit"}, "packing = 'first_fit' has no effect on pairs"),
        ("pairs", {"path": None, "target_path": None}, "give data.path and data.target_path"),
        ("pairs", {"target_path": None}, "holds one half of the pairs"),
        ("pairs", {"path": "a.jsonl"}, "goes with lines of text"),
        ("spans", {}, "give data.path or data.dataset"),
        ("tags", {"text_pair_column": "b"}, "text_pair_column = 'b' has no effect on words"),
        ("classes", {"text_pair_column": "b"}, "'b' needs data.path or data.dataset"),
        ("pairs", {"image_size": 8}, "image_size = 8 has no effect on pairs of texts"),
    ],
)
def test_settings_of_another_kind_are_refused(
    kind: Any, fields: dict[str, Any], message: str
) -> None:
    base = {"path": "a", "target_path": "b"} if kind == "pairs" else {}
    config = dataclasses.replace(DataConfig(), **{**base, **fields})
    with pytest.raises(ConfigError, match=message):
        open_data(config, kind=kind)
