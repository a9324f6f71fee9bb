"""Special tokens around rows of text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zoo.data.tokenizers import Frame


class Framed(NamedTuple):
    """Rows with special tokens around them; arrays [batch, width].

    Attributes:
        tokens: int32, 0 where there is padding.
        text: bool, where the row's own tokens are.
        seen: bool, where there is no padding.
    """

    tokens: np.ndarray
    text: np.ndarray
    seen: np.ndarray

    def spread(self, values: np.ndarray, before: int) -> np.ndarray:
        """What belongs to the row's own tokens, [batch, tokens], where they are now; 0 beside."""
        return np.where(self.text, _moved(values, self.tokens.shape[1], before), 0)


def framed(tokens: np.ndarray, sizes: np.ndarray, frame: Frame, width: int) -> Framed:
    """Rows of tokens between those of a frame, cut at their end to what fits.

    Args:
        tokens: int32 [batch, tokens].
        sizes: [batch], how many of them are real; a row of none stays padding.
        width: of the rows that are made.
    """
    before, after = frame
    kept = np.minimum(sizes, width - len(before) - len(after))[:, None]
    place = np.arange(width) - len(before)
    text = (place >= 0) & (place < kept)
    made = np.where(text, _moved(tokens, width, len(before)), 0)
    for index, token in enumerate(before):
        made[:, index] = token
    for index, token in enumerate(after):
        made = np.where(place == kept + index, token, made)
    seen = (place < kept + len(after)) & (sizes > 0)[:, None]
    return Framed(np.where(seen, made, 0).astype(np.int32), text & seen, seen)


def _moved(values: np.ndarray, width: int, by: int) -> np.ndarray:
    """[batch, n] to [batch, width], moved to the right and cut."""
    room = np.zeros((len(values), width + by + values.shape[1]), values.dtype)
    room[:, by : by + values.shape[1]] = values
    return room[:, :width]
