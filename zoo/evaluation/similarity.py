"""Whether near sentences have near vectors: correlation of cosines with people's judgement."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.data.tokenizers import Tokenizer, load_tokenizer
from zoo.errors import ConfigError, DataError
from zoo.hf.files import locate
from zoo.hf.pretrained import load_pretrained
from zoo.models.heads import mean_of_tokens
from zoo.models.tower import Transformer

COLUMNS = ("sentence1", "sentence2", "score")
_ROWS = 32
# Lengths of batches: multiples of this, so that few shapes are compiled.
_STEP = 16


def evaluate_pairs(source: str | Path, file: str | Path) -> dict[str, Any]:
    """Rank and linear correlation of the cosine of two sentences with their score.

    A sentence encoder's own vectors are used; of any other text model the mean of the hidden states
    of a sentence's tokens, special ones included.

    Args:
        source: what `load_pretrained` takes, with a tokenizer in the folder.
        file: UTF-8, tab-separated, `sentence1`, `sentence2` and `score` in columns of these names,
            or in this order without a header.

    Returns:
        `eval_spearman` and `eval_pearson`, then the protocol.

    Raises:
        ConfigError: on a model that reads no single texts.
        DataError: when the file cannot be read, or fewer than two scores differ.
        CheckpointError: when there is nothing to load.
    """
    from scipy import stats

    folder = locate(source)
    model, tokenizer = load_pretrained(folder), load_tokenizer(folder)
    if model.config.architecture not in ("encoder", "decoder"):
        raise ConfigError(
            f"architecture = {model.config.architecture!r} gives no vector of a sentence; use an "
            "encoder or a decoder"
        )
    first, second, scores = read_pairs(Path(file))
    vectors, cut = embed(model, tokenizer, [*first, *second])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = np.sum(unit[: len(first)] * unit[len(first) :], axis=1)
    own = model.config.head == "sentence_embedding"
    return {
        "eval_spearman": float(stats.spearmanr(cosines, scores).statistic),
        "eval_pearson": float(stats.pearsonr(cosines, scores).statistic),
        "pairs": str(file),
        "count": len(scores),
        "similarity": "cosine",
        "vector": "first token" if own and model.config.pooling == "first" else "mean of tokens",
        "longest": model.config.sizes().max_length,
        "cut_sentences": cut,
    }


def embed(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[np.ndarray[Any, Any], int]:
    """(vectors float32 [texts, d_model], how many texts were cut to the model's `max_length`)."""
    longest, last = model.config.sizes().max_length, model.config.sizes().vocab_size - 1
    before, after = (np.asarray(part, np.int32) for part in tokenizer.frame)
    room = longest - len(before) - len(after)
    plain = tokenizer.encode_many([text.encode() for text in texts])
    cut = sum(len(row) > room for row in plain)
    rows = [np.concatenate([before, row[:room], after]) for row in plain]
    for text, row in zip(texts, rows, strict=True):
        if not len(row):
            raise DataError(f"{text!r} has no tokens")
        if int(row.max()) > last:
            raise DataError(f"{text!r} has token {int(row.max())}; ids run from 0 to {last}")
    # Together with others of its length; put back in order at the end.
    order = np.argsort([len(row) for row in rows], kind="stable")
    vectors = np.empty((len(rows), model.config.d_model), np.float32)
    for start in range(0, len(rows), _ROWS):
        chosen = order[start : start + _ROWS]
        width = min(longest, -(-len(rows[chosen[-1]]) // _STEP) * _STEP)
        ids = np.full((_ROWS, width), model.config.pad_id or 0, np.int32)
        mask = np.zeros((_ROWS, width), np.int32)
        mask[:, 0] = 1  # rows that are there for the shape alone see something too
        for place, index in enumerate(chosen):
            ids[place, : len(rows[index])] = rows[index]
            mask[place, : len(rows[index])] = 1
        vectors[chosen] = np.asarray(_vectors(model, jnp.asarray(ids), jnp.asarray(mask)))[
            : len(chosen)
        ]
    return vectors, cut


def read_pairs(file: Path) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    """(first sentences, second sentences, scores) of a tab-separated file.

    Raises:
        DataError: naming the file and the line.
    """
    try:
        text = file.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"pairs = {str(file)!r} cannot be read: {error}") from error
    lines = list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    header = lines[0] if lines and set(COLUMNS) <= set(lines[0]) else None
    places = [header.index(name) for name in COLUMNS] if header else [0, 1, 2]
    first, second, scores = [], [], []
    for number, line in enumerate(lines, start=1):
        if (header and number == 1) or not line:
            continue
        try:
            one, two, score = (line[place] for place in places)
            scores.append(float(score))
            if not math.isfinite(scores[-1]):
                raise ValueError(f"score = {score}")
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{file}, line {number}: {error}; use sentence1, sentence2 and a number as score, "
                "between tabs"
            ) from error
        first.append(one)
        second.append(two)
    if len(set(scores)) < 2:
        raise DataError(
            f"{file} has {len(scores)} pairs; at least two with other scores are needed"
        )
    return first, second, np.asarray(scores)


@nnx.jit
def _vectors(model: Transformer, ids: jax.Array, mask: jax.Array) -> jax.Array:
    if model.config.head == "sentence_embedding":
        return model(ids, mask)
    return mean_of_tokens(model.hidden(ids, mask), mask).astype(jnp.float32)
