"""The families that are known: one file each, or one for several that share their tensors."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from zoo.errors import CheckpointError, choices, near_matches
from zoo.hf.family import Family


@functools.cache
def families() -> dict[str, Family]:
    """Every family by its `model_type`, from the `FAMILIES` of each module of this package."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(__path__):
        for family in importlib.import_module(f"{__name__}.{module.name}").FAMILIES:
            found[family.name] = family
    return dict(sorted(found.items()))


def list_families() -> list[str]:
    """The `model_type` of every family that `load_pretrained` reads."""
    return list(families())


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a `config.json`.

    Raises:
        CheckpointError: when its `model_type` is missing or not known.
    """
    name = config.get("model_type")
    known = families()
    if not isinstance(name, str) or name not in known:
        hint = near_matches(name, known) if isinstance(name, str) else ""
        raise CheckpointError(
            f"config.json: model_type = {name!r} is not known{hint}; known: {choices(known)}"
        )
    return known[name]
