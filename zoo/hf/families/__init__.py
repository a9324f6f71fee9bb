"""The families that are known: one file each, or one for several that share their tensors."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from zoo.errors import CheckpointError, choices, near_matches
from zoo.hf.family import Family
from zoo.hf.keys import REQUIRED, Key, Rule, Settings


@functools.cache
def families() -> dict[str, Family]:
    """Every family by its name, from the `FAMILIES` of each module of this package."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(__path__):
        for family in importlib.import_module(f"{__name__}.{module.name}").FAMILIES:
            found[family.name] = family
    return dict(sorted(found.items()))


def list_families() -> list[str]:
    """The name of every family that `load_pretrained` reads: nearly all are a `model_type`."""
    return list(families())


def possible(family: Family, field: str) -> list[Any]:
    """The values that a field of `ModelConfig` can have in a family, its usual one first.

    Of keys that mean something together only the usual one: what their defaults say.
    """
    if field in family.fields:
        return [family.fields[field]]
    usual: Settings = {}
    for entry in family.keys:
        usual |= entry.defaults()
    found: list[Any] = []
    for entry in family.keys:
        if isinstance(entry, Key) and field in (entry.field, *entry.also):
            values = [usual[entry.name]] if entry.values is None else list(entry.values.values())
            first = (entry.values or {}).get(usual[entry.name])
            found += sorted(values, key=lambda value: value != first)
        elif isinstance(entry, Rule) and REQUIRED not in usual.values():
            read = entry.read(usual)
            found += [read[field]] if field in read else []
    return list(dict.fromkeys(found))


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a `config.json`.

    Raises:
        CheckpointError: when its `model_type` is missing or not known.
    """
    name = config.get("model_type")
    known: dict[str, list[Family]] = {}
    for family in families().values():
        known.setdefault(family.model_type, []).append(family)
    if not isinstance(name, str) or name not in known:
        hint = near_matches(name, known) if isinstance(name, str) else ""
        raise CheckpointError(
            f"config.json: model_type = {name!r} is not known{hint}; known: {choices(known)}"
        )
    usual = sorted(known[name], key=lambda family: family.name != name)
    return next((family for family in usual if family.named_heads(config)), usual[0])
