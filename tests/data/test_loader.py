"""Rows, segments and the order of batches."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.data import DataConfig, TextData, open_data
from zoo.errors import DataError

DOCUMENTS = [chr(97 + i) * (3 + 7 * (i % 5)) for i in range(26)]


def make(tmp_path: Path, *, seed: int = 0, **fields: Any) -> TextData:
    path = tmp_path / "a.jsonl"
    if not path.exists():
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    base = DataConfig(path=str(path), cache_dir=str(tmp_path / "cache"), batch_size=3, length=16)
    return open_data(dataclasses.replace(base, **fields), seed=seed)


def flat(data: TextData) -> np.ndarray:
    text = "".join(DOCUMENTS[:24]).encode()  # 26 documents: two are held out
    assert data.num_tokens("train") == len(text)
    return np.frombuffer(text, np.uint8)


def take(data: TextData, start: int, count: int) -> list[np.ndarray]:
    return [batch["tokens"] for batch in islice(data.train_batches(start), count)]


def test_row_i_is_the_window_at_i_times_length(tmp_path: Path) -> None:
    data = make(tmp_path)
    tokens = flat(data)
    assert data.rows("train") == (len(tokens) - 1) // 16
    for row in range(data.rows("train")):
        batch = data.read_rows("train", np.asarray([row]))
        assert batch["tokens"].dtype == batch["segment_ids"].dtype == np.int32
        np.testing.assert_array_equal(batch["tokens"][0], tokens[row * 16 : row * 16 + 17])
        assert (batch["segment_ids"] == 1).all()


def test_segments_number_the_documents_of_a_row_from_one(tmp_path: Path) -> None:
    """Oracle: each document is a run of one letter, so a border is where the letter changes."""
    data = make(tmp_path, separate_documents=True)
    seen = 0
    for row in range(data.rows("train")):
        batch = data.read_rows("train", np.asarray([row]))
        tokens, segments = batch["tokens"][0], batch["segment_ids"][0]
        expected = 1
        for position in range(17):
            expected += position > 0 and tokens[position] != tokens[position - 1]
            assert segments[position] == expected
        seen = max(seen, expected)
    assert seen >= 3


@pytest.mark.parametrize("prefetch", [0, 4])
@pytest.mark.parametrize("start", [0, 1, 7])
def test_iterating_from_a_step_gives_the_tail(tmp_path: Path, prefetch: int, start: int) -> None:
    data = make(tmp_path, prefetch=prefetch)
    whole = take(data, 0, 20)
    for batch, expected in zip(take(data, start, 20 - start), whole[start:], strict=True):
        np.testing.assert_array_equal(batch, expected)


def test_random_access_equals_iteration(tmp_path: Path) -> None:
    data = make(tmp_path)
    for step, batch in enumerate(take(data, 0, 12)):
        np.testing.assert_array_equal(data.train_batch(step)["tokens"], batch)


def test_order_is_the_same_in_another_process(tmp_path: Path) -> None:
    data = make(tmp_path, seed=5)
    program = (
        "import json, sys; from zoo.data import *;"
        "d = open_data(DataConfig(**json.loads(sys.argv[1])), seed=5);"
        "print(json.dumps([d.train_rows(s).tolist() for s in range(15)]))"
    )
    settings = json.dumps(dataclasses.asdict(data.config))
    output = subprocess.run(
        [sys.executable, "-c", program, settings],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    assert json.loads(output) == [data.train_rows(step).tolist() for step in range(15)]


def test_each_epoch_is_every_row_once_in_another_order(tmp_path: Path) -> None:
    data = make(tmp_path)
    rows = data.rows("train")
    drawn = np.concatenate([data.train_rows(step) for step in range(rows)])  # 3 epochs of batch 3
    epochs = drawn.reshape(3, rows)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(rows))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3
    assert [data.epoch_of(step) for step in range(rows)] == [s * 3 // rows for s in range(rows)]


def test_another_seed_is_another_order(tmp_path: Path) -> None:
    first, second = (
        np.concatenate([make(tmp_path, seed=seed).train_rows(s) for s in range(6)])
        for seed in (0, 1)
    )
    assert first.tolist() != second.tolist()


def test_a_batch_may_be_larger_than_the_corpus(tmp_path: Path) -> None:
    data = make(tmp_path)
    rows = data.rows("train")
    assert data.train_batch(0, batch_size=2 * rows + 1)["tokens"].shape == (2 * rows + 1, 17)


def test_evaluation_predicts_each_validation_token_once(tmp_path: Path) -> None:
    data = make(tmp_path, separate_documents=False)
    targets: list[int] = []
    for batch in data.eval_batches(4):
        assert batch["tokens"].shape == (4, 17)
        real = batch["segment_ids"][:, 1:] > 0
        targets += batch["tokens"][:, 1:][real].tolist()
    held = "".join(DOCUMENTS[24:]).encode()
    assert targets == list(held[1:])


def test_a_short_evaluation_is_spread_over_the_split(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("".join(chr(97 + i) * 16 for i in range(20)) + "!")
    data = make(tmp_path, validation_path=str(tmp_path / "held.txt"))
    firsts = [
        chr(row[0]) for batch in data.eval_batches(2, max_batches=2) for row in batch["tokens"]
    ]
    assert firsts == ["a", "f", "k", "p"]
    assert len(list(data.eval_batches(2))) == 10


def test_the_halves_of_the_held_out_rows_are_apart_and_make_up_the_whole(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("".join(chr(97 + i) * 16 for i in range(9)) + "!")

    def firsts(half: str, max_batches: int | None = None) -> str:
        data = make(tmp_path, validation_path=str(tmp_path / "held.txt"), validation_half=half)
        batches = data.eval_batches(2, max_batches=max_batches)
        return "".join(
            chr(tokens[0])
            for batch in batches
            for tokens, segments in zip(batch["tokens"], batch["segment_ids"], strict=True)
            if segments[0]
        )

    assert [firsts(half) for half in ("first", "second", "both")] == ["abcde", "fghi", "abcdefghi"]
    assert [firsts(half, max_batches=1) for half in ("first", "second")] == ["ac", "fh"]


def test_a_half_without_rows_is_refused_on_opening(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("a single row")
    more = {"validation_path": str(tmp_path / "held.txt")}
    make(tmp_path, validation_half="first", **more)
    with pytest.raises(DataError, match=r"has 1 row, and data\.validation_half = 'second'"):
        make(tmp_path, validation_half="second", **more)


def test_bytes_per_token_counts_text_and_not_document_ends(tmp_path: Path) -> None:
    data = make(tmp_path, tokenizer="bpe", vocab_size=300)
    plain = make(tmp_path)
    assert data.num_bytes("train") == plain.num_bytes("train") == plain.num_tokens("train")
    assert data.bytes_per_token("train") == data.num_bytes("train") / data.num_tokens("train")
    row = data.read_rows("train", np.arange(data.rows("train")))["tokens"]
    assert data.tokenizer.eos_id in row
    assert row.max() < data.vocab_size


def test_the_bpe_vocabulary_is_that_of_the_training_split_alone(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abababab " * 100)
    (tmp_path / "held.txt").write_text("xyxyxyxy " * 100)
    config = DataConfig(
        path=str(tmp_path / "train.txt"),
        validation_path=str(tmp_path / "held.txt"),
        tokenizer="bpe",
        vocab_size=260,
        length=8,
        cache_dir=str(tmp_path / "cache"),
    )
    data = open_data(config)
    assert len(data.tokenizer.encode(b"abab")) < 4
    assert len(data.tokenizer.encode(b"xyxy")) == 4


def test_more_than_one_epoch_is_said(tmp_path: Path) -> None:
    data = make(tmp_path)
    rows = data.rows("train")
    within, beyond = data.budget(rows // 3), data.budget(rows)
    assert within.warning is None
    assert within.tokens_asked == rows // 3 * 3 * 16
    assert within.tokens_available == rows * 16
    assert beyond.epochs == 3
    assert beyond.warning is not None
    assert "3 times" in beyond.warning


def test_importing_the_room_imports_no_heavy_library() -> None:
    program = (
        "import sys, zoo.data;"
        "print({'jax', 'grain', 'datasets', 'tokenizers', 'pyarrow', 'absl'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    assert output.strip() == "set()"
