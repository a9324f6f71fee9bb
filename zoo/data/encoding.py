"""From the store of a source's bytes to the store of its token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from zoo.data.cache import Store, open_or_build
from zoo.data.config import DataConfig
from zoo.data.tokenizers import (
    ByteTokenizer,
    Tokenizer,
    load_tokenizer,
    read_tokenizer_file,
    train_bpe,
)

ENCODED_AT_ONCE = 4 << 20


def tokenized(
    config: DataConfig,
    text: Store,
    root: Path,
    notes: list[str],
    *,
    what: str,
    write: Callable[[Tokenizer, Path], None],
    training: Callable[[], Iterable[bytes]] | None = None,
    form: tuple[object, ...] = (),
) -> tuple[Tokenizer, Store]:
    """The tokenizer that `config` asks for, and the store that `write(tokenizer, folder)` made.

    Args:
        text: the store of the bytes.
        root: folder of the caches.
        what: is tokenised, for people.
        training: documents that a BPE is trained on; default: all of the training split.
        form: whatever else the written tokens depend on.
    """
    known: Tokenizer | None = None
    if config.tokenizer == "bytes":
        known = ByteTokenizer()
    elif config.tokenizer != "bpe":
        path = Path(config.tokenizer).expanduser()
        known = read_tokenizer_file(path, named="data.tokenizer")
    kind = ("bpe", config.vocab_size) if known is None else (known.fingerprint,)

    def documents() -> Iterator[bytes]:
        return (document.tobytes() for document in text.documents("train"))

    def build(folder: Path) -> None:
        used = known or train_bpe((training or documents)(), vocab_size=config.vocab_size)
        used.save(folder)
        write(used, folder)

    key = digest(text.folder.name, *kind, *form)
    store = open_or_build(
        root / f"tokens-{key}", build, notes, what=f"{what} by {config.tokenizer}"
    )
    tokenizer = load_tokenizer(store.folder)
    if config.tokenizer == "bpe" and tokenizer.vocab_size < config.vocab_size:
        notes.append(
            f"the trained vocabulary has {tokenizer.vocab_size} tokens, not {config.vocab_size}: "
            "the text has no more pairs to merge"
        )
    return tokenizer, store


def groups(documents: Iterator[np.ndarray], *, multiple: int = 1) -> Iterator[list[bytes]]:
    """Documents in lists of about 4 MiB: enough to keep the tokenizer's threads busy.

    A list has a `multiple` of documents, where there are so many.
    """
    group: list[bytes] = []
    size = 0
    for document in documents:
        group.append(document.tobytes())
        size += len(document)
        if size >= ENCODED_AT_ONCE and len(group) % multiple == 0:
            yield group
            group, size = [], 0
    if group:
        yield group


def digest(*parts: object) -> str:
    """32 hex digits of the parts' `repr`."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
