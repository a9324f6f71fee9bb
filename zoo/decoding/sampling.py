"""What may come next, and how it is chosen: settings, checked and complete."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from zoo.errors import ConfigError

EarlyStopping = bool | Literal["never"]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How `generate` chooses tokens; names and meanings are those of transformers.

    None means what the checkpoint's generation settings say where it has any (apart from `top_k`,
    `top_p` and `min_p`, which are the call's alone), and otherwise no such rule.

    Attributes:
        top_k: of a draw: only the k likeliest tokens.
        top_p: of a draw: only the likeliest tokens that together have this probability.
        min_p: of a draw: only tokens of at least this share of the likeliest one's probability.
        repetition_penalty: what the scores of tokens of the text so far are divided by (multiplied
            where they are negative); above 1 they become less likely (1909.05858, section 4.1).
        no_repeat_ngram_size: no run of so many tokens comes twice.
        min_new_tokens: how many tokens come before a stop token may.
        num_beams: of beam search; 1: none.
        length_penalty: of beam search: power of the length that a beam's log-probability is
            divided by.
        early_stopping: of beam search: stop at `num_beams` whole texts (True), when the best open
            beam is no longer better at its present length (False), or at no length it could still
            reach ("never").
        forced_bos_id: the token behind a start token.
        forced_eos_id: the last token where the longest text is reached.
        bad_words: runs of tokens that do not come.
        suppress_ids: tokens that do not come.
        begin_suppress_ids: tokens that do not come first.
        pad_id: what fills a text behind its stop token; otherwise the (first) stop token.
        defaults: False: nothing is read from the checkpoint.
    """

    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    min_new_tokens: int | None = None
    num_beams: int = 1
    length_penalty: float | None = None
    early_stopping: EarlyStopping | None = None
    forced_bos_id: int | None = None
    forced_eos_id: int | None = None
    bad_words: tuple[tuple[int, ...], ...] | None = None
    suppress_ids: tuple[int, ...] | None = None
    begin_suppress_ids: tuple[int, ...] | None = None
    pad_id: int | None = None
    defaults: bool = True

    def check(self, *, vocab_size: int, temperature: float) -> None:
        """Raise ConfigError at the first value that cannot work."""
        for field in ("top_k", "num_beams"):
            _at_least(field, getattr(self, field), 1)
        for field in ("no_repeat_ngram_size", "min_new_tokens"):
            _at_least(field, getattr(self, field), 0)
        for field in ("top_p", "min_p"):
            share = getattr(self, field)
            if share is not None and not 0.0 < share <= 1.0:
                raise ConfigError(f"{field} = {share}: a share lies in (0, 1]")
        penalty = self.repetition_penalty
        if penalty is not None and not 0.0 < penalty < math.inf:
            raise ConfigError(f"repetition_penalty = {penalty}: must be above 0, and finite")
        power = self.length_penalty
        if power is not None and not math.isfinite(power):
            raise ConfigError(f"length_penalty = {power}; use a finite number")
        for field in ("top_k", "top_p", "min_p"):
            if getattr(self, field) is not None and temperature == 0.0:
                raise ConfigError(
                    f"{field} = {getattr(self, field)} with temperature = 0, which takes the "
                    "likeliest token; use a temperature above 0, such as 1.0"
                )
        if self.num_beams > 1 and temperature > 0.0:
            raise ConfigError(
                f"num_beams = {self.num_beams} with temperature = {temperature}: beams are not "
                "drawn; use temperature = 0"
            )
        if self.early_stopping not in (None, True, False, "never"):
            raise ConfigError(
                f"early_stopping = {self.early_stopping!r}; use True, False or 'never'"
            )
        for field in ("length_penalty", "early_stopping"):
            if getattr(self, field) is not None and self.num_beams == 1:
                raise ConfigError(
                    f"{field} = {getattr(self, field)!r} has no effect with num_beams = 1, which "
                    "searches nothing; use num_beams = 2 or more, or leave it out"
                )
        for field in ("forced_bos_id", "forced_eos_id", "pad_id"):
            check_ids(
                field, () if getattr(self, field) is None else (getattr(self, field),), vocab_size
            )
        for field in ("suppress_ids", "begin_suppress_ids"):
            check_ids(field, getattr(self, field) or (), vocab_size)
        for word in self.bad_words or ():
            if not word:
                raise ConfigError("bad_words holds a run of no tokens; leave it out")
            check_ids("bad_words", word, vocab_size)


def check_ids(name: str, ids: Sequence[int], vocab_size: int) -> None:
    """Raise ConfigError at an id that has no row."""
    for token in ids:
        if not 0 <= token < vocab_size:
            raise ConfigError(f"{name} = {token}; ids run from 0 to {vocab_size - 1}")


def _at_least(field: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{field} = {value}; use {least} or more")
