"""Tiny models of every family: what their goldens are made of and live parity is held on.

One module for each family (or for several that share a file), with `CASES`. The weights are not
stored: they are drawn from their names, so that both sides make the same ones.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Case:
    """One model class under one config.

    Attributes:
        cls: of transformers.
        config: arguments of its config class.
        takes: what it is called on.
        generates: whether its greedy tokens are held too.
        generation: what its `generation_config.json` says.
        untied: a weight that its class ties to another's, and files of this kind do not.
        computed: ends of the names of tensors that follow from the config and are not drawn.
    """

    cls: str
    config: Mapping[str, Any]
    takes: Literal["text", "pairs", "image"] = "text"
    generates: bool = False
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    untied: str | None = None
    computed: tuple[str, ...] = ()


VOCAB, LENGTH, NEW_TOKENS = 48, 9, 24
# Ids below this are special in some family: padding, begin, end.
_FIRST = 5


def all_cases() -> dict[str, Case]:
    """Every case by its name, which begins with the family's."""
    found: dict[str, Case] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= importlib.import_module(f"{__name__}.{module.name}").CASES
    return found


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Every tensor by its name: matrices that keep signals of order 1, the rest noised."""
    return {name: _draw(name, tuple(shape)) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...]) -> Array:
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    if len(shape) >= 2:
        return (noise / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return (noise * 0.2 + (1.0 if name.endswith("weight") else 0.0)).astype(np.float32)


def inputs(case: Case) -> Inputs:
    """Two rows; of texts the second is shorter and padded on the right with the pad id."""
    rng = np.random.default_rng(1)
    config = case.config
    if case.takes == "image":
        size, channels = config.get("image_size", 224), config.get("num_channels", 3)
        return {"pixel_values": rng.normal(size=(2, size, size, channels)).astype(np.float32)}
    made = _text(rng, config)
    if case.takes == "pairs":
        target = _text(rng, config)
        made |= {f"decoder_{name}": array for name, array in target.items()}
    elif config.get("type_vocab_size", 0) > 1:
        made["token_type_ids"] = (np.arange(LENGTH) > 3).astype(np.int32) * made["attention_mask"]
    return made


def _text(rng: np.random.Generator, config: Mapping[str, Any]) -> Inputs:
    ids = rng.integers(_FIRST, VOCAB, (2, LENGTH)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, -3:] = 0
    pad = config.get("pad_token_id")
    ids[mask == 0] = 1 if pad is None else pad
    return {"input_ids": ids, "attention_mask": mask}


def prompt(case: Case) -> Inputs:
    """For generation: padded on the left; a source on the right."""
    made = {name: inputs(case)[name] for name in ("input_ids", "attention_mask")}
    return made if case.takes == "pairs" else {name: a[:, ::-1].copy() for name, a in made.items()}
