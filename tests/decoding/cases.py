"""What is generated here and in transformers alike: `scripts/goldens_decoding.py` writes theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parent / "goldens.npz"

# One step of three rows, the second with padding on the left.
VOCAB, BEGIN, INDEX, TOTAL = 24, 4, 9, 14
STOPS = (3, 5)
# Settings of transformers -> fields of Sampling (temperature: of the call).
RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "temperature": ({"temperature": 0.7}, {"temperature": 0.7}),
    "top_k": ({"top_k": 5}, {"top_k": 5}),
    "top_p": ({"top_p": 0.6}, {"top_p": 0.6}),
    "little": ({"top_p": 1e-6}, {"top_p": 1e-6}),
    "min_p": ({"min_p": 0.2}, {"min_p": 0.2}),
    "repetition": ({"repetition_penalty": 1.7}, {"repetition_penalty": 1.7}),
    "bigrams": ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
    "trigrams": ({"no_repeat_ngram_size": 3}, {"no_repeat_ngram_size": 3}),
    "unigrams": ({"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 1}),
    "early": ({"min_new_tokens": 6}, {"min_new_tokens": 6}),
    "late": ({"min_new_tokens": 5}, {"min_new_tokens": 5}),
    "words": (
        {"bad_words_ids": [[7], [5], [11, 12], [2, 11, 13]]},
        {"bad_words": ((7,), (5,), (11, 12), (2, 11, 13))},
    ),
    "suppressed": (
        {"suppress_tokens": [1, 9], "begin_suppress_tokens": [4]},
        {"suppress_ids": (1, 9), "begin_suppress_ids": (4,)},
    ),
    "order": (
        {
            "temperature": 1.8,
            "top_k": 12,
            "top_p": 0.8,
            "min_p": 0.05,
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 2,
            "suppress_tokens": [20],
        },
        {
            "temperature": 1.8,
            "top_k": 12,
            "top_p": 0.8,
            "min_p": 0.05,
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 2,
            "suppress_ids": (20,),
        },
    ),
}


def step() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(logits [3, vocab], tokens [3, TOTAL], seen [3, TOTAL]); texts that repeat themselves."""
    rng = np.random.default_rng(0)
    logits = (2.0 * rng.normal(size=(3, VOCAB))).astype(np.float32)
    tokens = rng.integers(6, VOCAB, size=(3, TOTAL)).astype(np.int32)
    tokens[0, :INDEX] = [8, 9, 10, 8, 9, 14, 10, 8, 9]
    tokens[1, :INDEX] = [0, 0, 9, 9, 7, 2, 11, 2, 11]
    tokens[2, :INDEX] = [11, 12, 2, 2, 11, 13, 6, 2, 11]
    seen = np.ones_like(tokens, bool)
    seen[1, :2] = False
    return logits, tokens, seen


@dataclasses.dataclass(frozen=True)
class Search:
    """Beam search on a model of `tests.hf.cases`; settings as transformers names them."""

    case: str
    settings: Mapping[str, Any]


NEW = 8
# Some of 48 tokens, so that texts end at different lengths.
ENDS = [6, 11, 17, 23, 29, 35, 41]
PAD = 1
SEARCHES = {
    "bart": Search("bart", {"num_beams": 3, "no_repeat_ngram_size": 1}),
    "bart, early": Search("bart", {"num_beams": 3, "early_stopping": True, "length_penalty": 2.0}),
    "bart, ruled": Search("bart", {"num_beams": 2, "no_repeat_ngram_size": 2, "min_new_tokens": 4}),
    "marian": Search(
        "marian", {"num_beams": 4, "early_stopping": "never", "no_repeat_ngram_size": 2}
    ),
    "marian, short": Search(
        "marian", {"num_beams": 4, "early_stopping": "never", "length_penalty": -1.0}
    ),
    "gpt2": Search("gpt2", {"num_beams": 3, "repetition_penalty": 1.3}),
    "gpt2, unscaled": Search("gpt2", {"num_beams": 2, "length_penalty": 0.0}),
    "llama": Search("llama", {"num_beams": 5, "repetition_penalty": 1.5}),
}
