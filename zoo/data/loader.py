"""From a `DataConfig` to rows whose order is a pure function of (seed, step)."""

from __future__ import annotations

import logging
from typing import Literal, overload

from zoo.data.base import Data
from zoo.data.config import PROBE_KINDS, DataConfig, RowKind, check_kind
from zoo.data.examples import open_example_data
from zoo.data.generated import open_probe_data
from zoo.data.images import open_image_data
from zoo.data.text import TextData, open_text
from zoo.errors import ConfigError


@overload
def open_data(
    config: DataConfig,
    *,
    seed: int = 0,
    needs: tuple[str, ...] = (),
    kind: Literal["text"] = "text",
) -> TextData: ...
@overload
def open_data(
    config: DataConfig,
    *,
    seed: int = 0,
    needs: tuple[str, ...] = (),
    kind: RowKind,
    begin: int | None = None,
    token_types: int = 1,
) -> Data: ...
def open_data(
    config: DataConfig,
    *,
    seed: int = 0,
    needs: tuple[str, ...] = (),
    kind: RowKind = "text",
    begin: int | None = None,
    token_types: int = 1,
) -> Data:
    """Open the data of `config`, reading and tokenising it only where the cache has it not.

    Args:
        kind: of rows to make of it.
        seed: 0 to 2**32 - 1; orders the training rows.
        needs: special tokens that the vocabulary must have, of `zoo.data.tokenizers.SPECIAL`.
        begin: the token that targets begin behind where a pretrained model has one, whatever its
            name; used with `data.framing` = tokenizer.
        token_types: kinds of token that the model knows; two texts are told apart by them where
            they are enough.

    Raises:
        ConfigError: for clashing settings.
        DataError: for a source that is missing, unreadable, or too small for one row.
    """
    config.validate()
    check_kind(config, kind)
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed = {seed}; use a number from 0 to {2**32 - 1}")
    notes: list[str] = []
    data: Data
    if kind == "text":
        data = open_text(config, seed=seed, needs=needs, notes=notes)
    elif kind == "images":
        data = open_image_data(config, seed=seed, notes=notes)
    elif kind in PROBE_KINDS:
        data = open_probe_data(config, kind, seed=seed)
    else:
        data = open_example_data(
            config,
            kind,
            seed=seed,
            needs=needs,
            notes=notes,
            begin=begin,
            token_types=token_types,
        )
    data.held_out_rows()  # refuses a half without rows before anything is compiled
    for note in data.notes:
        logging.getLogger(__name__).info(note)
    return data
