"""Bytes, a trained byte-level BPE, or an existing tokenizer.json, behind one small protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from zoo.errors import DataError

END_OF_TEXT = "<|endoftext|>"
END_NAMES = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>")
# The special tokens before, and after, every text.
Frame = tuple[tuple[int, ...], tuple[int, ...]]
NO_FRAME: Frame = ((), ())


class PairFrame(NamedTuple):
    """The special tokens before, between and behind two texts.

    Attributes:
        kinds: of token, of these and of the texts, in order: before, first text, between, second
            text, behind.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    kinds: tuple[int, int, int, int, int] = (0, 0, 0, 1, 1)


# Special tokens that a task may need, and what files call them.
SPECIAL: dict[str, tuple[str, ...]] = {
    "begin": ("[CLS]", "<s>", "<|begin_of_text|>", "<bos>"),
    "end": (*END_NAMES, "[SEP]"),
    "separator": ("[SEP]", "</s>", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
}
BYTES_FILE = "byte_tokenizer.json"
TOKENIZER_FILE = "tokenizer.json"
# Long texts are encoded in pieces cut after a newline: the library's memory per character is large.
PIECE_BYTES = 1 << 18
# A vocabulary hardly changes after this much text, and training holds its words in memory.
TRAINING_BYTES = 256 << 20


class Tokenizer(Protocol):
    """Text to token ids and back.

    `eos_id` closes each document in the cache; it is None where a tokenizer has no such token.
    `fingerprint` is equal for tokenizers that encode alike.
    """

    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that stand for no text."""

    @property
    def frame(self) -> Frame:
        """The special tokens that the file puts before, and after, a text."""

    @property
    def pair_frame(self) -> PairFrame | None:
        """The same of two texts; None where nothing stands between them."""

    @property
    def fingerprint(self) -> str: ...
    def token_id(self, *names: str) -> int | None:
        """The id of the first of these special tokens that there is."""

    def encode(self, text: bytes) -> np.ndarray:
        """Token ids, int32 [tokens], of UTF-8 text (any bytes in the byte tokenizer).

        Raises `DataError` on bytes that are none, as the other two do.
        """

    def encode_many(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """`encode` of each text; in parallel where the tokenizer can."""

    def encode_with_ends(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """`encode`, and where in `text` each token ends, in bytes, int64 [tokens]."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of `ids`; bytes that form no character become U+FFFD."""

    def save(self, folder: str | Path) -> None:
        """Write what `load_tokenizer(folder)` reads."""


class ByteTokenizer:
    """Each byte is a token: 256 ids, no end-of-document token."""

    vocab_size = 256
    eos_id = None
    special_ids: tuple[int, ...] = ()
    frame = NO_FRAME
    pair_frame = None
    fingerprint = "bytes"

    def token_id(self, *names: str) -> int | None:
        return None

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, dtype=np.uint8).astype(np.int32)

    def encode_many(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        return [self.encode(text) for text in texts]

    def encode_with_ends(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        return self.encode(text), np.arange(1, len(text) + 1)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        # A model may have more rows than 256; such an id has no byte.
        return b"".join(
            bytes([int(i)]) if 0 <= int(i) < 256 else "\N{REPLACEMENT CHARACTER}".encode()
            for i in ids
        ).decode("utf-8", errors="replace")

    def save(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / BYTES_FILE).write_text(json.dumps({"tokenizer": "bytes"}) + "\n")


class FileTokenizer:
    """A `tokenizers.Tokenizer`, read from or trained into a tokenizer.json."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.text: str = inner.to_str()
        # Some files cut and fill every text to one length, which is for whoever makes batches.
        inner.no_truncation()
        inner.no_padding()
        self.vocab_size: int = 1 + max(inner.get_vocab(with_added_tokens=True).values(), default=-1)
        self.eos_id: int | None = self.token_id(*END_NAMES)
        added = inner.get_added_tokens_decoder()
        self.special_ids = tuple(sorted(i for i, token in added.items() if token.special))
        self.frame = _frame(inner)
        self.pair_frame = _pair_frame(inner)
        self.fingerprint = hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()

    def token_id(self, *names: str) -> int | None:
        found = (self._inner.token_to_id(name) for name in names)
        return next((i for i in found if i is not None), None)

    def encode(self, text: bytes) -> np.ndarray:
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        pieces = [list(_pieces(text)) for text in texts]
        flat = [_characters(piece) for parts in pieces for piece in parts]
        encoded = iter(self._inner.encode_batch_fast(flat, add_special_tokens=False))
        return [
            np.asarray([i for _ in parts for i in next(encoded).ids], dtype=np.int32)
            for parts in pieces
        ]

    def encode_with_ends(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        characters = _characters(text)
        # The library counts characters.
        ends = np.cumsum([0, *(len(c.encode()) for c in characters)])
        made = self._inner.encode(characters, add_special_tokens=False)
        return np.asarray(made.ids, np.int32), ends[[end for _, end in made.offsets]]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        text: str = self._inner.decode([int(i) for i in ids], skip_special_tokens=False)
        return text

    def save(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / TOKENIZER_FILE).write_text(self.text, encoding="utf-8")
        (Path(folder) / BYTES_FILE).unlink(missing_ok=True)  # it would be preferred on loading


@dataclass(frozen=True)
class Vocabulary:
    """The token ids of a task: the tokenizer's, and the special ones that the task needs.

    Attributes:
        size: number of ids.
        special: ids that stand for no text, sorted.
        begin, end, separator, mask: -1 where the task does not need it.
    """

    size: int
    special: tuple[int, ...] = ()
    begin: int = -1
    end: int = -1
    separator: int = -1
    mask: int = -1

    def text_ids(self) -> np.ndarray:
        """The ids that stand for text, int32, in order."""
        return np.setdiff1d(np.arange(self.size, dtype=np.int32), self.special)


def vocabulary(tokenizer: Tokenizer, needs: Sequence[str] = ()) -> Vocabulary:
    """The tokenizer's ids and the special tokens `needs`, keys of `SPECIAL`.

    What the tokenizer has under one of its usual names is used; any other gets the next id past
    its vocabulary, in the order of `SPECIAL`, so that bytes have room for them too.
    """
    size = tokenizer.vocab_size
    found: dict[str, int] = {}
    for name in (name for name in SPECIAL if name in needs):
        own = tokenizer.token_id(*SPECIAL[name])
        found[name] = size if own is None else own
        size += own is None
    special = tuple(sorted({*tokenizer.special_ids, *found.values()}))
    return Vocabulary(size=size, special=special, **found)


def tokenizer_json(tokenizer: Tokenizer, needs: Sequence[str] = ()) -> str:
    """A tokenizer.json of the same ids, for other libraries.

    Bytes become a byte-level vocabulary of 256 that merges nothing, and the special tokens that
    `vocabulary(tokenizer, needs)` adds get the first of their usual names.
    """
    import tokenizers

    if isinstance(tokenizer, FileTokenizer):
        inner = tokenizers.Tokenizer.from_str(tokenizer.text)
    else:
        inner = _byte_level(tokenizers.models.BPE(vocab=_characters_of_bytes(), merges=[]))
    found = vocabulary(tokenizer, needs)
    for name in (name for name in SPECIAL if name in needs):
        if getattr(found, name) >= tokenizer.vocab_size:
            inner.add_special_tokens([SPECIAL[name][0]])
    return str(inner.to_str())


def _byte_level(model: Any) -> Any:
    import tokenizers
    from tokenizers import decoders, pre_tokenizers

    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _characters_of_bytes() -> dict[str, int]:
    """The visible character that stands for each byte in byte-level vocabularies, as GPT-2's."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {chr(byte if byte in visible else next(others)): byte for byte in range(256)}


def train_bpe(documents: Iterable[bytes], *, vocab_size: int) -> FileTokenizer:
    """Byte-level BPE over UTF-8 `documents` (their first 256 MiB), with an end-of-document token.

    The vocabulary is smaller than `vocab_size` when the text has no more pairs to merge.
    """
    from tokenizers import models, pre_tokenizers, trainers

    inner = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_training_text(documents), trainer=trainer)
    return FileTokenizer(inner)


def read_tokenizer_file(path: Path, *, named: str) -> FileTokenizer:
    """The tokenizer of a tokenizer.json; `named` says in an error where the path came from."""
    import tokenizers

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{named}: there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{named}: cannot read {path}: {error}") from error
    try:
        if "model" not in json.loads(text):
            raise DataError(f"{named}: {path} is JSON but not a tokenizer.json: it has no `model`")
        return FileTokenizer(tokenizers.Tokenizer.from_str(text))
    except json.JSONDecodeError as error:
        raise DataError(f"{named}: {path} is not JSON: {error}") from error
    except DataError:
        raise
    except Exception as error:  # the library raises bare Exceptions for a malformed file
        if type(error) is not Exception and not isinstance(error, (ValueError, TypeError)):
            raise
        raise DataError(f"{named}: {path} is not a tokenizer.json: {error}") from error


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer saved in `folder` (a workdir of ours, or any folder with a tokenizer.json).

    Raises `DataError` when there is none.
    """
    folder = Path(folder).expanduser()
    if (folder / BYTES_FILE).is_file():
        return ByteTokenizer()
    if not (folder / TOKENIZER_FILE).is_file():
        raise DataError(f"no tokenizer in {folder}: looked for {BYTES_FILE} and {TOKENIZER_FILE}")
    return read_tokenizer_file(folder / TOKENIZER_FILE, named="tokenizer")


def _frame(inner: Any) -> Frame:
    """What a file puts around a text: what it makes of none, cut where a text comes in."""
    around, text = inner.encode("").ids, inner.encode("a").ids
    before = 0
    while before < len(around) and around[before] == text[before]:
        before += 1
    return tuple(around[:before]), tuple(around[before:])


def _pair_frame(inner: Any) -> PairFrame | None:
    """What a file puts around two texts, and the kinds of token that it tells apart."""
    made = inner.encode("a", "a")
    # 0 and 1 are the texts; None is a special token.
    texts = list(made.sequence_ids)
    if 0 not in texts or 1 not in texts:
        return None
    first, second = texts.index(0), texts.index(1)
    ends = first + texts.count(0), second + texts.count(1)
    parts = (slice(first), slice(ends[0], second), slice(ends[1], None))
    if not made.ids[parts[1]]:
        return None
    before, between, after = (tuple(made.ids[part]) for part in parts)
    kind = made.type_ids
    kinds = (kind[0], kind[first], kind[ends[0]], kind[second], kind[-1])
    return PairFrame(before, between, after, kinds)


def _characters(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"text = {text[:40]!r} is not UTF-8, which this tokenizer reads: {error}"
        ) from error


def _pieces(text: bytes) -> Iterator[bytes]:
    start = 0
    while len(text) - start > PIECE_BYTES:
        newline = text.rfind(b"\n", start, start + PIECE_BYTES)
        # A line longer than a piece stays whole: a cut elsewhere could split a character.
        newline = newline if newline >= 0 else text.find(b"\n", start)
        if newline < 0:
            break
        yield text[start : newline + 1]
        start = newline + 1
    if start < len(text):
        yield text[start:]


def _training_text(documents: Iterable[bytes]) -> Iterator[str]:
    read = 0
    for document in documents:
        for piece in _pieces(document):
            yield piece.decode("utf-8")
            read += len(piece)
            if read >= TRAINING_BYTES:
                return
