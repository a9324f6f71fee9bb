"""From a `DataConfig` to rows whose order is a pure function of (seed, step)."""

from __future__ import annotations

import logging

from zoo.data.config import DataConfig
from zoo.data.text import TextData, open_text
from zoo.errors import ConfigError


def open_data(config: DataConfig, *, seed: int = 0, needs: tuple[str, ...] = ()) -> TextData:
    """Open the text of `config`, reading and tokenising it only where the cache has it not.

    Args:
        seed: 0 to 2**32 - 1; orders the training rows.
        needs: special tokens that the vocabulary must have, of `zoo.data.tokenizers.SPECIAL`.

    Raises:
        ConfigError: for clashing settings.
        DataError: for a source that is missing, unreadable, or too small for one row.
    """
    config.validate()
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed = {seed}; use a number from 0 to {2**32 - 1}")
    notes: list[str] = []
    data = open_text(config, seed=seed, needs=needs, notes=notes)
    for note in data.notes:
        logging.getLogger(__name__).info(note)
    return data
