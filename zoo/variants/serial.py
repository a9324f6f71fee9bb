"""Frozen dataclasses of numbers, words and each other to JSON and back, by their annotations."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

# Written even at their defaults, as the first release did: an identity is compared key by key.
_ALWAYS = ("skip", "branch", "init_gains", "gain", "value", "learned")


def encode(record: Any) -> dict[str, Any]:
    """A JSON object of the fields that are not at their defaults; pairs become objects."""
    made = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if value != field.default or field.name in _ALWAYS:
            made[field.name] = _encoded(value, _is_pairs(_hints(record.__class__)[field.name]))
    return made


def decode(kind: Any, data: Mapping[str, Any]) -> Any:
    """The record of type `kind` that `encode` wrote.

    Raises:
        KeyError: on a field that `kind` does not have.
    """
    hints = _hints(kind)
    return kind(**{name: _decoded(value, hints[name]) for name, value in data.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _encoded(value: Any, pairs: bool) -> Any:
    if dataclasses.is_dataclass(value):
        return encode(value)
    if pairs:
        return {name: _encoded(each, False) for name, each in value}
    return list(value) if isinstance(value, tuple) else value


def _decoded(value: Any, hint: Any) -> Any:
    if _is_pairs(hint):
        (pair, _) = get_args(hint)
        return tuple((name, _decoded(each, get_args(pair)[1])) for name, each in value.items())
    if isinstance(value, Mapping):
        return decode(_record_of(hint), value)
    return tuple(value) if isinstance(value, list) else value


def _is_pairs(hint: Any) -> bool:
    """Whether it is tuple[tuple[str, ...], ...]."""
    arguments = get_args(hint)
    return get_origin(hint) is tuple and get_origin(arguments[0]) is tuple


def _record_of(hint: Any) -> Any:
    """The dataclass in `Record` or `Record | None`."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next(option for option in options if dataclasses.is_dataclass(option))
