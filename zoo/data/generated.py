"""Rows that are computed where they are read: problems of a probe, without an end."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from zoo.data.base import Batch, Data, RowSpec
from zoo.data.config import DataConfig, ProbeKind
from zoo.data.encoding import digest
from zoo.data.probes import PROBES, Probe, Problem
from zoo.data.sources import SPLITS, Split
from zoo.data.tokenizers import FileTokenizer, Tokenizer, Vocabulary
from zoo.errors import ConfigError

# More training rows than any run reads, yet a number that the shuffle (of 32 bits) can hold.
TRAINING_ROWS = 1 << 30
# A share of exact answers is then known to 0.8 % or better, each half's to 1.1 %.
VALIDATION_ROWS = 4096
# Each problem is of one part by its hash, and a part is of one stream: the two halves of
# validation have one each, training has the rest.
PARTS = 8
# To be changed whenever other problems are made.
VERSION = 1
UNKNOWN = "[UNK]"


class ProbeData(Data):
    """Problems of a probe; `zoo.data.loader.open_data` makes it.

    Rows are `tokens` int32 and `answers` bool, [batch, length + 1], padded with 0, and `sizes`
    int32 [batch], how many are real; 0 is a row of padding. A row is a function of its split and
    number: all seeds have the same rows, in different orders. No problem is in two of training and
    the first and the second half of validation.
    """

    unit = "answers"

    def __init__(self, config: DataConfig, *, probe: Probe, **common: Any) -> None:
        super().__init__(config, **common)
        self.probe = probe
        # Read again at every evaluation, and found by trying.
        self._held: dict[int, Problem] = {}

    @property
    def fingerprint(self) -> str:
        """Equal where the problems of both splits are equal, whatever the machine."""
        first = [self.problem(split, 0).tokens.tolist() for split in SPLITS]
        return digest(VERSION, self.probe.name, self.config.length, first)

    @property
    def tokens_by(self) -> str:
        """`symbols`: every word of a problem is a token."""
        return "symbols"

    def rows(self, split: Split) -> int:
        """Problems in `split`."""
        return TRAINING_ROWS if split == "train" else VALIDATION_ROWS

    def problem(self, split: Split, index: int) -> Problem:
        """Problem `index` of `split`: the first one of its stream of draws that is of its part."""
        key = np.asarray([index, SPLITS.index(split)], np.uint64)
        draws = np.random.Generator(np.random.Philox(key=key)).random
        half = 2 * index >= VALIDATION_ROWS
        wanted = range(2, PARTS) if split == "train" else (int(half),)
        while True:
            made = self.probe.problem(draws, self.config.length)
            if _part(made) in wanted:
                return made

    def read_rows(self, split: Split, indices: np.ndarray) -> Batch:
        """The problems `indices` [batch]; an index of -1 gives a row of padding."""
        shape = (len(indices), self.config.length + 1)
        tokens, answers = np.zeros(shape, np.int32), np.zeros(shape, bool)
        sizes = np.zeros(len(indices), np.int32)
        for row, index in enumerate(indices.tolist()):
            if index >= 0:
                made = self._held.get(index) if split == "validation" else None
                if made is None:
                    made = self.problem(split, index)
                if split == "validation":
                    self._held[index] = made
                sizes[row] = len(made.tokens)
                tokens[row, : sizes[row]], answers[row, : sizes[row]] = made
        return {"tokens": tokens, "answers": answers, "sizes": sizes}

    def num_targets(self) -> int:
        """Answers in an epoch; every problem has as many."""
        return self.rows("train") * int(self.problem("train", 0).answers.sum())

    def bytes_per_token(self, split: Split) -> float | None:
        """None: no text is predicted."""
        return None

    def figures(self, split: Split) -> dict[str, str]:
        """Sizes of `split`, for people."""
        answers = int(self.problem(split, 0).answers.sum())
        return {"problems": f"{self.rows(split):,}", "answers each": f"{answers:,}"}


def open_probe_data(config: DataConfig, kind: ProbeKind, *, seed: int) -> ProbeData:
    """The probe `kind`; arguments and errors as for `zoo.data.loader.open_data`."""
    probe = PROBES[kind]
    if config.length < probe.shortest:
        raise ConfigError(
            f"data.length = {config.length} leaves too few problems of {kind!r} to hold some out; "
            f"use {probe.shortest} or more"
        )
    words = (*probe.words(config.length), UNKNOWN)
    return ProbeData(
        config,
        seed=seed,
        label=probe.label(config.length),
        tokenizer=_symbols(words),
        spec=RowSpec(length=config.length, vocabulary=Vocabulary(len(words)), labels=probe.labels),
        notes=(),
        probe=probe,
    )


def _part(problem: Problem) -> int:
    question = problem.tokens[~problem.answers].astype("<i4").tobytes()
    return hashlib.blake2b(question, digest_size=1).digest()[0] % PARTS


def _symbols(words: tuple[str, ...]) -> Tokenizer:
    """The tokenizer to which each word between spaces is a token."""
    import tokenizers

    vocabulary = {word: number for number, word in enumerate(words)}
    model = tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN)
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return FileTokenizer(inner)
