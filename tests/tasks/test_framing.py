"""Special tokens around rows, against what the tokenizers library makes of the same texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from tests.word_pieces import write_tokenizer
from zoo.data import DataConfig, open_data
from zoo.data.tokenizers import load_tokenizer
from zoo.errors import ConfigError, DataError
from zoo.tasks import TASKS
from zoo.tasks.framing import framed
from zoo.tasks.seq2seq import SEQ2SEQ

TEXTS = ["a b", "c", "d e f a b c d e f a b", "b b b"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path) / "tokenizer.json"


def rows(
    tmp_path: Path,
    tokenizer: Path | None,
    task: str,
    records: list[dict[str, object]],
    *,
    token_types: int = 1,
    **fields: Any,
):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    places = {
        "path": str(path),
        "validation_path": str(path.with_name("held.jsonl")),
        "cache_dir": str(tmp_path / "cache"),
        "tokenizer": "bytes" if tokenizer is None else str(tokenizer),
        "framing": "tokenizer",
        "batch_size": len(records) if fields else len(TEXTS),
        "length": 8,
        "prefetch": 0,
    }
    config = DataConfig(**(places | fields))
    path.with_name("held.jsonl").write_text(path.read_text())
    own = TASKS[task]
    data = open_data(config, needs=own.special(config), kind=own.rows, token_types=token_types)
    return data, own.batch(next(iter(data.eval_batches())), data.spec)


def test_a_file_says_what_stands_around_a_text(tokenizer: Path) -> None:
    known = load_tokenizer(tokenizer.parent)
    assert known.frame == ((known.token_id("[CLS]"),), (known.token_id("[SEP]"),))


def test_a_classified_text_stands_as_the_tokenizer_frames_it(
    tmp_path: Path, tokenizer: Path
) -> None:
    records = [{"text": text, "label": "even" if n % 2 else "odd"} for n, text in enumerate(TEXTS)]
    data, batch = rows(tmp_path, tokenizer, "sequence_classification", records)
    for ids, mask, text in zip(batch["inputs"], batch["attention_mask"], TEXTS, strict=True):
        whole = tokenizers.Tokenizer.from_file(str(tokenizer)).encode(text).ids
        # What is too long loses its end, not the token behind it.
        want = whole if len(whole) <= 8 else [*whole[:7], whole[-1]]
        np.testing.assert_array_equal(ids[mask], want)
        assert not ids[~mask].any()
    # Nothing is added to what the file knows.
    assert data.spec.vocabulary.size == load_tokenizer(tokenizer.parent).vocab_size


TWO = [("a", "b c"), ("a b c d e f", "g"), ("a", "b c d e f g h"), ("a b c d", "e f g h i")]


@pytest.mark.parametrize("kinds", [1, 2])
def test_two_texts_stand_as_the_tokenizer_frames_them(
    tmp_path: Path, tokenizer: Path, kinds: int
) -> None:
    records = [{"a": one, "b": two, "label": n % 2} for n, (one, two) in enumerate(TWO)]
    data, _ = rows(
        tmp_path,
        tokenizer,
        "sequence_classification",
        records,
        text_column="a",
        text_pair_column="b",
        token_types=kinds,
    )
    batch = TASKS["sequence_classification"].batch(next(iter(data.eval_batches())), data.spec)
    whole = tokenizers.Tokenizer.from_file(str(tokenizer))
    whole.enable_truncation(8, strategy="longest_first")
    for row, (one, two) in enumerate(TWO):
        want, seen = whole.encode(one, two), batch["attention_mask"][row]
        np.testing.assert_array_equal(batch["inputs"][row][seen], want.ids)
        assert not batch["inputs"][row][~seen].any()
        if kinds == 2:
            np.testing.assert_array_equal(batch["token_type_ids"][row][seen], want.type_ids)
    # A model without kinds of token is told of none.
    assert ("token_type_ids" in batch) == (kinds == 2)
    np.testing.assert_array_equal(batch["targets"], [row["label"] for row in records])
    assert "3 of 4 texts are cut to data.length = 8" in data.notes


def test_two_texts_of_bytes_have_a_separator_of_their_own(tmp_path: Path) -> None:
    records = [{"text": "ab", "b": "c", "label": "x"}, {"text": "d", "b": "ef", "label": "y"}]
    fields = {"text_pair_column": "b", "framing": "own"}
    data, batch = rows(tmp_path, None, "sequence_classification", records, **fields)
    begin, separator = 256, 257
    np.testing.assert_array_equal(
        batch["inputs"],
        [[begin, *b"ab", separator, *b"c", 0, 0, 0], [begin, *b"d", separator, *b"ef", 0, 0, 0]],
    )
    shown = TASKS["sequence_classification"].show(data, 0, next(iter(data.eval_batches(1))))
    assert shown == ["--- x: 5 tokens of 8", "--- first text", "ab", "--- second text", "c"]


def test_a_tokenizer_that_parts_no_texts_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    content = json.loads(tokenizer.read_text())
    content["post_processor"] = None
    tokenizer.write_text(json.dumps(content))
    records = [{"text": "a", "b": "b", "label": "x"}] * 2
    with pytest.raises(ConfigError, match="puts nothing between two texts"):
        rows(tmp_path, tokenizer, "sequence_classification", records, text_pair_column="b")


def test_tags_move_with_their_words(tmp_path: Path, tokenizer: Path) -> None:
    records = [{"text": text.split(), "label": list(text.replace(" ", ""))} for text in TEXTS]
    data, batch = rows(tmp_path, tokenizer, "token_classification", records)
    known = load_tokenizer(tokenizer.parent)
    for ids, targets, mask in zip(batch["inputs"], batch["targets"], batch["mask"], strict=True):
        assert [data.spec.labels[t] for t in targets[mask]] == known.decode(ids[mask]).split()
        assert not mask[0]
    assert batch["mask"][2].sum() == 6  # of 8 places


def test_a_masked_row_stands_between_the_special_tokens(tmp_path: Path, tokenizer: Path) -> None:
    records = [{"text": " ".join(TEXTS * 8)}]
    _, batch = rows(tmp_path, tokenizer, "masked_lm", records)
    known = load_tokenizer(tokenizer.parent)
    (begin,), (end,) = known.frame
    stream = known.encode(records[0]["text"].encode())
    for number, (targets, mask, seen) in enumerate(
        zip(batch["targets"], batch["mask"], batch["attention_mask"], strict=True)
    ):
        # Rows follow each other without a gap.
        text = stream[6 * number : 6 * (number + 1)]
        np.testing.assert_array_equal(targets[seen], [begin, *text, end])
        assert not mask[0]
        assert not mask[seen.sum() - 1]
    assert batch["inputs"].shape == (4, 8)


def test_pairs_stand_as_the_tokenizer_frames_them(tmp_path: Path, tokenizer: Path) -> None:
    records = [{"text": text, "target": text.swapcase().lower()} for text in TEXTS]
    data, _ = rows(tmp_path, tokenizer, "seq2seq", records)
    data = open_data(data.config, needs=SEQ2SEQ.needs, kind="pairs", begin=7)
    batch = SEQ2SEQ.batch(next(iter(data.eval_batches())), data.spec)
    for name in ("inputs", "targets"):
        mask = batch["attention_mask" if name == "inputs" else "mask"]
        for ids, seen, text in zip(batch[name], mask, TEXTS, strict=True):
            whole = tokenizers.Tokenizer.from_file(str(tokenizer)).encode(text).ids
            want = whole[:8]
            if name == "inputs" and len(whole) > 8:
                want = [*whole[:7], whole[-1]]  # a source that is cut ends, a target does not
            np.testing.assert_array_equal(ids[seen], want)
    np.testing.assert_array_equal(batch["decoder_inputs"][:, 0], 7)
    np.testing.assert_array_equal(batch["decoder_inputs"][:, 1:], batch["targets"][:, :-1])
    assert data.spec.vocabulary.size == load_tokenizer(tokenizer.parent).vocab_size


def test_rows_of_padding_stay_empty() -> None:
    made = framed(np.zeros((1, 4), np.int32), np.asarray([0]), ((7,), (8,)), 4)
    assert not made.tokens.any()
    assert not made.seen.any()


def test_framing_that_cannot_work_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    path = str(tokenizer)
    with pytest.raises(ConfigError, match=r"data.framing.*'bytes'"):
        DataConfig(framing="tokenizer").validate()
    with pytest.raises(ConfigError, match=r"data.framing.*separate_documents"):
        DataConfig(framing="tokenizer", tokenizer=path, separate_documents=True).validate()
    text = tmp_path / "text.txt"
    text.write_text("a b c d e f " * 40)
    config = DataConfig(
        path=str(text), framing="tokenizer", tokenizer=path, length=2, cache_dir=str(tmp_path / "c")
    )
    with pytest.raises(DataError, match="2 special tokens"):
        open_data(config, needs=("mask",))
