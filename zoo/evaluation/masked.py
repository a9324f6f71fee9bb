"""Pseudo-perplexity of a masked language model (1910.14659, section 2).

Each token of the text is masked in turn and predicted from all others of its window. What comes
out is no probability of the text, so it compares with other figures of this kind alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.data.tokenizers import SPECIAL, Frame, Tokenizer, vocabulary
from zoo.errors import ConfigError
from zoo.models.tower import Transformer
from zoo.tasks.losses import cross_entropy, total

Array = np.ndarray[Any, Any]
_ROWS = 32


def masked_nats(
    model: Transformer, ids: Array, *, window: int, mask_id: int, frame: Frame
) -> float:
    """The sum over all tokens of the negative log-likelihood in nats, each masked by itself.

    Args:
        ids: int32 [tokens], cut into pieces that fill a window together with the frame.
        window: tokens that the model reads at once.
        frame: special tokens before and after each piece.
    """
    rows = _rows(ids, window, mask_id, frame)
    nats = 0.0
    while batch := list(itertools.islice(rows, _ROWS)):
        # One shape, one compilation: what is missing counts nothing.
        real = np.arange(_ROWS) < len(batch)
        batch += [batch[0]] * (_ROWS - len(batch))
        inputs, seen, places, targets = (jnp.asarray(np.stack(p)) for p in zip(*batch, strict=True))
        nats += float(_nats(model, inputs, seen, places, targets, jnp.asarray(real)))
    return nats


def mask_token(tokenizer: Tokenizer, rows: int, *, own: bool) -> int:
    """The id of the mask token.

    Args:
        rows: of the model's embedding.
        own: whether the model was trained here, where a tokenizer without a mask token gets one
            behind its vocabulary.

    Raises:
        ConfigError: when there is none.
    """
    known = tokenizer.token_id(*SPECIAL["mask"])
    if known is None and own:
        known = vocabulary(tokenizer, ("mask",)).mask
    if known is None or known >= rows:
        raise ConfigError(
            f"text: the tokenizer has no mask token ({', '.join(SPECIAL['mask'])}) of this model"
        )
    return known


def _rows(
    ids: Array, window: int, mask_id: int, frame: Frame
) -> Iterator[tuple[Array, Array, int, int]]:
    """(input [window], which of it is there, place of the mask, what it hides) of each token."""
    front, back = frame
    room = window - len(front) - len(back)
    for start in range(0, len(ids), room):
        piece = ids[start : start + room]
        whole = np.concatenate([front, piece, back]).astype(np.int32)
        seen = (np.arange(window) < len(whole)).astype(np.int32)
        for place, target in enumerate(piece, start=len(front)):
            given = np.zeros(window, np.int32)
            given[: len(whole)] = whole
            given[place] = mask_id
            yield given, seen, place, int(target)


@nnx.jit
def _nats(
    model: Transformer,
    inputs: jax.Array,
    seen: jax.Array,
    places: jax.Array,
    targets: jax.Array,
    real: jax.Array,
) -> jax.Array:
    hidden = model.hidden(inputs, seen)
    logits = model.logits(jnp.take_along_axis(hidden, places[:, None, None], axis=1)[:, 0])
    return total(cross_entropy(logits, targets).nats, real)
