"""Spelling of flags, on a small dataclass that has one field of each kind."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from zoo.cli.flags import flags_of, parse, value_of
from zoo.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Inner:
    """What is inside."""

    depth: int = 3
    """How deep it is,
    over two lines."""
    rate: float | None = None
    gated: bool = False
    shown: bool = True
    norm: bool | None = None
    kind: Literal["one_way", "other"] = "one_way"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.depth == 13:
            raise DataError("inner.depth = 13; use another number")


@dataclasses.dataclass(frozen=True)
class Outer:
    """All of it."""

    title: str | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


def read(*words: str, default: Outer | None = None) -> Outer:
    return parse(Outer, words, command="test", default=default)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--inner.depth 5", Inner(depth=5)),
        ("--inner.depth=5", Inner(depth=5)),
        ("--inner.depth 4 --inner.depth 5", Inner(depth=5)),
        ("--inner.rate -0.5", Inner(rate=-0.5)),
        ("--inner.rate 3e-4", Inner(rate=3e-4)),
        ("--inner.gated", Inner(gated=True)),
        ("--inner.gated true --inner.depth 5", Inner(gated=True, depth=5)),
        ("--inner.gated=False", Inner(gated=False)),
        ("--inner.shown False", Inner(shown=False)),
        ("--inner.no-shown", Inner(shown=False)),
        ("--inner.no_shown=false", Inner(shown=True)),
        ("--inner.norm", Inner(norm=True)),
        ("--inner.norm false", Inner(norm=False)),
        ("--inner.norm none", Inner()),
        ("--inner.kind one-way", Inner(kind="one_way")),
        ("--inner.kind OTHER", Inner(kind="other")),
        ("--inner.names a b --inner.depth 5", Inner(names=("a", "b"), depth=5)),
        ("--inner.names", Inner()),
    ],
)
def test_a_spelling_is_understood(words: str, expected: Inner) -> None:
    assert read(*words.split()).inner == expected


def test_none_unsets_a_field_of_the_default() -> None:
    default = Outer("given", Inner(rate=0.1, depth=9))
    assert read("--title", "None", "--inner.rate", "none", default=default) == Outer(
        None, Inner(depth=9)
    )


def test_a_value_may_begin_with_dashes_or_hold_spaces_and_equal_signs() -> None:
    for title in ("-x", "--not-a-flag", "a = b", "deep_norm(p=0.5)", "", "ünïcode\n"):
        assert read(f"--title={title}").title == title
        assert read("--title", title).title == title


def test_a_flag_is_not_taken_for_the_value_of_another() -> None:
    with pytest.raises(ConfigError, match="--title TEXT: the value is missing"):
        read("--title", "--inner.depth", "5")


def test_an_error_of_the_dataclass_comes_out_as_it_is() -> None:
    with pytest.raises(DataError, match=r"^inner.depth = 13; use another number$"):
        read("--inner.depth", "13")


def test_help_is_the_text_under_the_field() -> None:
    flags = {flag.name: flag for flag in flags_of(Outer)}
    assert flags["inner.depth"].text == "How deep it is, over two lines."
    assert flags["inner.depth"].section == "inner"
    assert flags["inner.rate"].text == ""


def test_no_help_line_is_wider_than_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        read("--help")
    assert stop.value.code == 0
    page = capsys.readouterr().out
    assert "--inner.kind one_way|other" in page
    assert max(map(len, page.splitlines())) <= 80


def test_value_of_sees_both_forms_and_the_last_one() -> None:
    assert value_of("config", ["--steps", "3"]) is None
    assert value_of("config", ["--config", "a.py", "--config=b.py"]) == "b.py"
    assert value_of("config", ["--config"]) is None
    assert value_of("config", []) is None
