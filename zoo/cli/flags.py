"""Flags from dataclasses: tyro reads the values, this file the spelling, errors and help.

tyro's own errors are boxes of several lines and its help takes two or three lines a flag;
here an error is one `ZooError`, and the help is a compact table by section.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import re
import shutil
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from zoo.errors import ConfigError, ZooError, choices, near_matches

T = TypeVar("T")
_WORDS = {int: "INT", float: "FLOAT", str: "TEXT", bool: "BOOL"}
_FLAG = re.compile(r"--(?P<name>[A-Za-z][\w.-]*)(?:=(?P<value>.*))?", re.DOTALL)
_COLUMN = 36


@dataclasses.dataclass(frozen=True, eq=False)
class Flag:
    """One field of the options as it is typed.

    Attributes:
        name: without dashes in front, such as `model.num-layers`.
        section: dotted prefix, empty at the top.
        accepts: what to write after it, for the help.
        kind: the value's type without None.
        optional: whether None is a value.
        default: shown in the help; `dataclasses.MISSING` when one must be given.
        text: help.
        positional: whether it is a word without a flag.
    """

    name: str
    section: str
    accepts: str
    kind: Any
    optional: bool
    default: Any
    text: str
    positional: bool = False

    @property
    def spellings(self) -> list[str]:
        """Names that are understood: a switch has its `no-` form too."""
        if self.kind is not bool:
            return [self.name]
        section, dot, last = self.name.rpartition(".")
        return [self.name, f"{section}{dot}no-{last}"]


def parse(kind: type[T], args: Sequence[str], *, command: str, default: T | None = None) -> T:
    """The options that `args` spell; for `--help` the help page and `SystemExit(0)`.

    Hyphens and underscores are the same in flags; a switch may be followed by true or
    false; `none` unsets a field that may be None.

    Args:
        kind: a dataclass; its class docstring opens the help and the string under a field
            is the field's help.
        command: the subcommand, for messages.
        default: where values come from that no flag sets.

    Raises:
        ConfigError: on an unknown flag (naming near matches) or a value that cannot be
            read, and whatever the dataclass itself raises on construction.
    """
    return parse_typed(kind, args, command=command, default=default)[0]


def parse_typed(
    kind: type[T], args: Sequence[str], *, command: str, default: T | None = None
) -> tuple[T, frozenset[str]]:
    """As `parse`, with the dotted names of the fields that `args` set."""
    flags = list(flags_of(kind, default))
    if any(word in ("-h", "--help") for word in args):
        print(help_text(kind, flags, command))
        raise SystemExit(0)
    words, seen = _normalise(args, flags, command)
    typed = frozenset(flag.name.replace("-", "_") for flag in seen)
    import tyro

    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught), contextlib.redirect_stdout(caught):
            made: T = tyro.cli(kind, default=cast(Any, default), args=words, prog=f"zoo {command}")
            return made, typed
    except SystemExit as stop:
        raise _failure(stop, caught.getvalue(), command) from None


def flags_of(kind: type, default: Any = None, section: str = "") -> Iterator[Flag]:
    """The flags of a dataclass and of the dataclasses inside it, in order of the fields."""
    hints = get_type_hints(kind, include_extras=True)
    texts = _field_texts(kind)
    for field in dataclasses.fields(kind):
        hint, name, positional = _annotation(hints[field.name], field.name)
        value = _default(field) if default is None else getattr(default, field.name)
        dotted = ".".join(part for part in (section, name.replace("_", "-")) if part)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            nested = None if value is dataclasses.MISSING else value
            yield from flags_of(hint, nested, dotted)
            continue
        inner, optional = _without_none(hint)
        yield Flag(
            name=dotted,
            section=section,
            accepts=_accepts(inner),
            kind=inner,
            optional=optional,
            default=value,
            text=texts.get(field.name, ""),
            positional=positional,
        )


def help_text(kind: type, flags: Sequence[Flag], command: str) -> str:
    """The page of `zoo COMMAND --help`."""
    words = [flag.name.upper() for flag in flags if flag.positional]
    width = min(shutil.get_terminal_size().columns, 110)
    lines = [" ".join(["usage: zoo", command, *words, "[options]"]), ""]
    for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
        literal = paragraph.startswith("    ")
        lines += [*([paragraph] if literal else textwrap.wrap(paragraph, width)), ""]
    sections = dict.fromkeys(flag.section for flag in flags)
    summaries = dict(_section_summaries(kind))
    for section in sections:
        title = f"{section}: {summaries.get(section, '')}" if section else "options:"
        lines += textwrap.wrap(_bold(title), width, subsequent_indent="  ")
        for flag in flags:
            if flag.section == section:
                lines += _flag_help(flag, width)
        if not section:
            lines += _row("-h, --help", "this page", width)
        lines.append("")
    return "\n".join(lines).rstrip()


def _normalise(
    args: Sequence[str], flags: Sequence[Flag], command: str
) -> tuple[list[str], set[Flag]]:
    """The words as tyro wants them, after every check that gives a better message here.

    Returns:
        (words, flags that were given).
    """
    named = [flag for flag in flags if not flag.positional]
    places = [flag for flag in flags if flag.positional]
    known = {name: flag for flag in named for name in flag.spellings}
    words: list[str] = []
    seen: set[Flag] = set()
    rest = list(args)
    while rest:
        word = rest.pop(0)
        match = _FLAG.fullmatch(word)
        if match is None:
            if not places:
                raise ConfigError(f"unexpected word {word!r}; see zoo {command} --help")
            seen.add(places[0])
            words.append(_checked(places.pop(0), word))
            continue
        name = _fold(match["name"])
        if name not in known:
            raise ConfigError(_unknown(name, known, command))
        flag = known[name]
        seen.add(flag)
        values = _take(flag, rest, known) if match["value"] is None else [match["value"]]
        words += _spelled(flag, name, values)
    for flag in flags:
        if flag.default is dataclasses.MISSING and flag not in seen:
            raise ConfigError(f"{_shown(flag)} is missing; see zoo {command} --help")
    return words, seen


def _take(flag: Flag, rest: list[str], known: Mapping[str, Flag]) -> list[str]:
    """Remove a flag's values from the front of `rest`: all, one or (a switch) perhaps none."""
    most = len(rest) if get_origin(flag.kind) is tuple else 1
    values: list[str] = []
    while rest and len(values) < most:
        match = _FLAG.fullmatch(rest[0])
        if match is not None and (flag.kind is not str or _fold(match["name"]) in known):
            break
        if flag.kind is bool and rest[0].lower() not in ("true", "false", "none"):
            break
        values.append(rest.pop(0))
    return values


def _spelled(flag: Flag, name: str, values: Sequence[str]) -> list[str]:
    if flag.kind is bool:
        return _switch(flag, name, values[0].lower() if values else "true")
    if get_origin(flag.kind) is tuple:
        return [f"--{flag.name}", *values]
    if not values:
        raise ConfigError(f"{_shown(flag)}: the value is missing")
    # One word: a value may begin with a dash.
    return [f"--{flag.name}={_checked(flag, values[0])}"]


def _checked(flag: Flag, value: str) -> str:
    """The value as tyro reads it."""
    name = flag.name.upper() if flag.positional else f"--{flag.name}"
    if flag.optional and value.lower() == "none":
        return "None"
    if get_origin(flag.kind) is Literal:
        accepted = [str(each) for each in get_args(flag.kind)]
        found = value if value in accepted else value.lower().replace("-", "_")
        if found not in accepted:
            hint = near_matches(found, accepted)
            raise ConfigError(f"{name} = {value!r} is not known{hint}; use {choices(accepted)}")
        return found
    if flag.kind in (int, float):
        try:
            flag.kind(value)
        except ValueError as error:
            kind = "whole number" if flag.kind is int else "number"
            none = " or none" if flag.optional else ""
            raise ConfigError(f"{name} = {value!r}: use a {kind}{none}") from error
    return value


def _switch(flag: Flag, name: str, text: str) -> list[str]:
    accepted = ("true", "false", "none") if flag.optional else ("true", "false")
    if text not in accepted:
        raise ConfigError(f"--{flag.name} = {text!r}: use {choices(accepted)}")
    on, off = flag.spellings
    if text == "none":
        return [f"--{on}", "None"]
    value = (name == on) == (text == "true")
    return [f"--{on}", str(value)] if flag.optional else [f"--{on if value else off}"]


def _fold(name: str) -> str:
    return name.replace("_", "-").lower()


def _unknown(name: str, known: dict[str, Flag], command: str) -> str:
    # `--lr` is `--optim.lr`: the last part alone counts as close as well.
    same_end = [each for each in known if each.rpartition(".")[2] == name.rpartition(".")[2]]
    if same_end:
        hint = f" (did you mean {choices(f'--{each}' for each in same_end[:3])}?)"
    else:
        hint = near_matches(f"--{name}", [f"--{each}" for each in known])
    return f"unknown flag --{name}{hint}; see zoo {command} --help"


def _failure(stop: SystemExit, printed: str, command: str) -> ZooError:
    """What made tyro give up: an error of our own while the options were made, or its words."""
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, ZooError):
            return cause
        cause = cause.__cause__ or cause.__context__
    words = re.sub(r"[^\x20-\x7e]|-{3,}", " ", printed)
    return ConfigError(f"{' '.join(words.split())}; see zoo {command} --help")


def _annotation(hint: Any, name: str) -> tuple[Any, str, bool]:
    """(type, flag name, positional) of an annotated field, as tyro will see it."""
    name, positional = name.rstrip("_"), False
    if get_origin(hint) is not Annotated:
        return hint, name, positional
    import tyro

    hint, *marks = get_args(hint)
    for mark in marks:
        positional = positional or mark is tyro.conf.Positional
        renamed = getattr(mark, "name", None)
        name = renamed if isinstance(renamed, str) else name
    return hint, name, positional


def _without_none(hint: Any) -> tuple[Any, bool]:
    """(the type without None, whether None was in it)."""
    if get_origin(hint) in (Union, types.UnionType):
        members = [each for each in get_args(hint) if each is not type(None)]
        return functools.reduce(lambda a, b: a | b, members), len(members) < len(get_args(hint))
    return hint, False


def _accepts(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(str(value) for value in get_args(kind))
    if get_origin(kind) is tuple:
        return f"{_accepts(get_args(kind)[0])} ..."
    return _WORDS.get(kind, "VALUE")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _field_texts(kind: type) -> dict[str, str]:
    """The string under each field, by name, inherited ones included."""
    texts: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def _section_summaries(kind: type, section: str = "") -> Iterator[tuple[str, str]]:
    """(section, first sentence of its dataclass) for every dataclass inside `kind`."""
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, name, _ = _annotation(hints[field.name], field.name)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            dotted = ".".join(part for part in (section, name.replace("_", "-")) if part)
            summary = inspect.cleandoc(hint.__doc__ or "").split("\n\n")[0]
            yield dotted, " ".join(summary.split())
            yield from _section_summaries(hint, dotted)


def _shown(flag: Flag) -> str:
    """`--steps INT`, or `NAME` for a word without a flag."""
    if flag.positional:
        return flag.name.upper()
    plain_switch = flag.kind is bool and not flag.optional
    return f"--{flag.name}" if plain_switch else f"--{flag.name} {flag.accepts}"


def _flag_help(flag: Flag, width: int) -> list[str]:
    shown, text = _shown(flag), flag.text
    if get_origin(flag.kind) is Literal and len(shown) > _COLUMN - 4:
        shown = f"--{flag.name} CHOICE"
        text = f"{flag.text} One of {choices(get_args(flag.kind))}."
    return _row(shown, f"{text} {_shown_default(flag)}".strip(), width)


def _shown_default(flag: Flag) -> str:
    if flag.default is dataclasses.MISSING:
        return "(required)"
    # A field that may be None says itself what None means; a switch that is off is off.
    if flag.default is None or flag.default is False or flag.default == ():
        return ""
    if flag.default is True:
        return f"(on; --{flag.spellings[-1]} for off)"
    plain = isinstance(flag.default, str) and flag.default.strip() == flag.default != ""
    return f"(default: {flag.default if plain else repr(flag.default)})"


def _row(left: str, right: str, width: int) -> list[str]:
    lead = f"  {left}".ljust(_COLUMN)
    pad = " " * _COLUMN
    right_lines = textwrap.wrap(right, max(width - _COLUMN, 30), break_on_hyphens=False)
    if len(lead) > _COLUMN or not right_lines:
        return [lead.rstrip(), *(pad + line for line in right_lines)]
    return [lead + right_lines[0], *(pad + line for line in right_lines[1:])]


def _bold(text: str) -> str:
    if not sys.stdout.isatty():
        return text
    title, colon, rest = text.partition(":")
    return f"\033[1m{title}{colon}\033[0m{rest}"


def value_of(name: str, args: Sequence[str]) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE`, before anything else is parsed."""
    found = None
    for word, after in zip(args, [*args[1:], None], strict=False):
        match = _FLAG.fullmatch(word)
        if match is None or _fold(match["name"]) != name:
            continue
        follows = after if after is None or _FLAG.fullmatch(after) is None else None
        found = follows if match["value"] is None else match["value"]
    return found
