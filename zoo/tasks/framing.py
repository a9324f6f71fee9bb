"""Special tokens around rows of text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zoo.data.tokenizers import Frame, PairFrame


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


class FramedPair(NamedTuple):
    """Rows of two texts with special tokens around them; arrays [batch, width].

    Attributes:
        tokens: int32, 0 where there is padding.
        part: int32, where a token is from: 0 before the texts, 1 the first, 2 between, 3 the
            second, 4 behind; -1 is padding.
        seen: bool, where there is no padding.
    """

    tokens: np.ndarray
    part: np.ndarray
    seen: np.ndarray


def framed_pair(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    frame: PairFrame,
    width: int,
) -> FramedPair:
    """Two texts a row between the tokens of a frame; the longer one is cut first, as the tokenizers
    library has it.

    Args:
        first, second: tokens int32 [batch, tokens] and how many of them are real [batch]; a row
            whose first text has none stays padding.
        width: of the rows that are made.
    """
    tokens = np.zeros((len(first[0]), width), np.int32)
    part = np.full_like(tokens, -1)
    room = width - sum(map(len, frame[:3]))
    for row, (size, other) in enumerate(zip(first[1], second[1], strict=True)):
        if size == 0:
            continue
        half = room // 2 if size <= other else room - room // 2
        kept = min(size, max(room - other, half))
        texts = first[0][row, :kept], second[0][row, : min(other, room - kept)]
        parts = (frame.before, texts[0], frame.between, texts[1], frame.after)
        sizes = [len(each) for each in parts]
        tokens[row, : sum(sizes)] = np.concatenate(parts)
        part[row, : sum(sizes)] = np.repeat(range(5), sizes)
    return FramedPair(tokens, part, part >= 0)


def _moved(values: np.ndarray, width: int, by: int) -> np.ndarray:
    """[batch, n] to [batch, width], moved to the right and cut."""
    room = np.zeros((len(values), width + by + values.shape[1]), values.dtype)
    room[:, by : by + values.shape[1]] = values
    return room[:, :width]
