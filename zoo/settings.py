"""Settings are frozen dataclasses; here their values are held against their annotations."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import numbers
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo.errors import ConfigError, choices, near_matches

_WORDS = {int: "a whole number", float: "a number", str: "text", type(None): "None"}


def check_types(config: Any, prefix: str = "") -> None:
    """Refuse a value that its field's annotation does not allow, in nested dataclasses too.

    A bool is no whole number, a whole number may stand for a number, and numpy's scalars count
    as what they hold.

    Args:
        config: an instance of a dataclass whose fields are int, float, str, bool, Literal, a
            tuple of one of these, a mapping, a union of some with None, or another such dataclass.
        prefix: of the fields in messages, such as `model.`.

    Raises:
        ConfigError: naming the field, its value and what is accepted.
    """
    kind: Any = type(config)
    hints = _hints(kind)
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        name = f"{prefix}{field.name}"
        if not _fits(value, hint):
            raise ConfigError(_refusal(name, value, hint))
        if dataclasses.is_dataclass(hint):
            check_types(value, f"{name}.")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Annotations are text until somebody compiles them, which takes longer than the checks."""
    return get_type_hints(kind)


def may_be_none(kind: type, name: str) -> bool:
    """Whether a field, named with dots where it lies in a nested dataclass, may be None."""
    return type(None) in _parts(_hint(kind, name))


def is_whole(kind: type, name: str) -> bool:
    """Whether the numbers that a field takes, named likewise, are whole ones."""
    parts = _parts(_hint(kind, name))
    return int in parts and float not in parts


def _hint(kind: Any, name: str) -> Any:
    for part in name.split("."):
        kind = _hints(kind)[part]
    return kind


def at_least(name: str, value: int | None, least: int) -> None:
    """Raise ConfigError where a number is below `least`; None passes, it is filled in later."""
    if value is not None and value < least:
        raise ConfigError(f"{name} = {value}; use {least} or more")


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dataclasses, or of the mappings they are saved as, by dotted name."""
    leaves: dict[str, Any] = {}
    for name, value in _items(tree):
        if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _items(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        yield from tree.items()
    else:
        yield from ((field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree))


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(each, get_args(hint)[0]) for each in value)
    if origin is collections.abc.Mapping:  # whose owner knows what belongs into it
        return isinstance(value, Mapping)
    if hint is int or hint is float:
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, hint)


def _refusal(name: str, value: Any, hint: Any) -> str:
    accepted = list(_accepted(hint))
    named = [
        each for part in _parts(hint) if get_origin(part) is Literal for each in get_args(part)
    ]
    if named and isinstance(value, str):
        hint_text = near_matches(value, map(str, named))
        return f"{name} = {value!r} is not known{hint_text}; use {choices(accepted)}"
    return f"{name} = {value!r}: use {choices(accepted)}"


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint alone."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _accepted(hint: Any) -> Iterator[str]:
    for part in _parts(hint):
        if get_origin(part) is Literal:
            yield from map(str, get_args(part))
        elif get_origin(part) is tuple:
            yield f"a tuple, each entry {choices(_accepted(get_args(part)[0]))}"
        elif get_origin(part) is collections.abc.Mapping:
            yield "a mapping"
        elif part is bool:
            yield from ("True", "False")
        else:
            yield _WORDS.get(part, f"an instance of {getattr(part, '__name__', part)}")
