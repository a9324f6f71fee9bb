"""Tokenizers round trip, persist and stay within their vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.data.tokenizers import ByteTokenizer, load_tokenizer, read_tokenizer_file, train_bpe
from zoo.errors import DataError

TEXT = "Der Fluß, das 山, and a line\n\twith tabs 😀 and  spaces\n"


def test_byte_ids_are_the_bytes() -> None:
    ids = ByteTokenizer().encode(b"\x00a\xff")
    assert ids.tolist() == [0, 97, 255]
    assert ByteTokenizer().decode(ids) == "\x00a\N{REPLACEMENT CHARACTER}"


def test_byte_decoding_survives_ids_that_no_byte_has() -> None:
    assert ByteTokenizer().decode([104, 300, 105]) == "h\N{REPLACEMENT CHARACTER}i"


def test_bpe_round_trips_any_text_and_is_shorter_than_bytes() -> None:
    tokenizer = train_bpe([(TEXT * 20).encode()], vocab_size=280)
    unseen = "Ünseen ☃ text\r\n" + TEXT
    assert tokenizer.decode(tokenizer.encode(unseen.encode())) == unseen
    assert len(tokenizer.encode(TEXT.encode())) < len(TEXT.encode())
    assert tokenizer.vocab_size == 280
    assert int(tokenizer.encode(unseen.encode()).max()) < 280


def test_long_texts_are_encoded_as_short_ones_line_by_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = train_bpe([(TEXT * 20).encode()], vocab_size=300)
    text = "".join(f"line {i} of text\n" for i in range(50)).encode()
    whole = tokenizer.encode(text)
    monkeypatch.setattr("zoo.data.tokenizers.PIECE_BYTES", 64)
    np.testing.assert_array_equal(tokenizer.encode(text), whole)


def test_encode_many_equals_encode_for_each() -> None:
    tokenizer = train_bpe([(TEXT * 20).encode()], vocab_size=300)
    texts = [b"", b"one", TEXT.encode(), b"\n"]
    for many, text in zip(tokenizer.encode_many(texts), texts, strict=True):
        np.testing.assert_array_equal(many, tokenizer.encode(text))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_a_saved_tokenizer_loads_as_itself(tmp_path: Path, kind: str) -> None:
    tokenizer = ByteTokenizer() if kind == "bytes" else train_bpe([TEXT.encode()], vocab_size=280)
    tokenizer.save(tmp_path / "new")
    loaded = load_tokenizer(tmp_path / "new")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.eos_id == tokenizer.eos_id
    np.testing.assert_array_equal(loaded.encode(TEXT.encode()), tokenizer.encode(TEXT.encode()))


def test_saving_replaces_the_tokenizer_that_was_there(tmp_path: Path) -> None:
    ByteTokenizer().save(tmp_path)
    train_bpe([TEXT.encode()], vocab_size=280).save(tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 280
    ByteTokenizer().save(tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 256


def test_bpe_training_is_repeatable() -> None:
    documents = [(TEXT * 5).encode(), b"another document\n" * 9]
    first, second = (train_bpe(documents, vocab_size=290) for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_ids_come_from_an_existing_file_without_its_special_tokens(tmp_path: Path) -> None:
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    inner = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "ein": 1, "haus": 2}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(["</s>"])
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 3)]
    )
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer_file(tmp_path / "tokenizer.json", named="data.tokenizer")
    assert tokenizer.encode(b"ein haus ein baum").tolist() == [1, 2, 1, 0]
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (4, 3)


def test_bytes_that_are_no_utf8_are_shown() -> None:
    tokenizer = train_bpe([TEXT.encode()], vocab_size=280)
    for encode in (tokenizer.encode, tokenizer.encode_with_ends):
        with pytest.raises(DataError, match=r"text = b'a\\xff' is not UTF-8.*position 1"):
            encode(b"a\xff")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"a": 1}', "has no `model`"),
        ("[1]", "has no `model`"),
        ('{"model": {"type": "Unheard"}}', "is not a tokenizer.json"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_tokenizer_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for byte_tokenizer.json and tokenizer.json"):
        load_tokenizer(tmp_path)
