"""What README and docs tell people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.docs.blocks import (
    LANGUAGES,
    ROOT,
    check_spelling,
    commands,
    fences,
    help_of,
    matches,
    of_zoo,
    pages,
    parts,
    text,
)
from zoo.cli import COMMANDS

WITH_BLOCKS = [page for page in pages() if fences(page)]
# The first blocks that a reader copies run as they will compile them, too.
TWICE = ("README.md", "CONTRIBUTING.md")
PARTS = [
    pytest.param(page, part, marks=[pytest.mark.optimized] if page in TWICE else [])
    for page in WITH_BLOCKS
    for part in range(len(parts(page)))
]
PROSE_COMMAND = re.compile(r"`((?:zoo|python|make) [^`]+)`")


@pytest.mark.live
@pytest.mark.parametrize(("page", "part"), PARTS)
def test_every_block_of_a_page_runs(page: str, part: int, seat: Path) -> None:
    for example in parts(page)[part]:
        example.evaluate()


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_every_block_says_what_it_is(page: str) -> None:
    assert [language for language in fences(page) if language not in LANGUAGES] == []


@pytest.mark.parametrize("page", pages())
def test_commands_named_in_prose_exist(page: str) -> None:
    for command in PROSE_COMMAND.findall(text(page)):
        (words,) = commands(" ".join(command.split()))
        check_spelling(words)


def test_flags_named_in_prose_exist() -> None:
    scripts = (path.read_text(encoding="utf-8") for path in (ROOT / "scripts").rglob("*.py"))
    everywhere = re.sub(r'"(--[\w-]+)"', r"\1 ", "".join([*map(help_of, COMMANDS), *scripts]))
    for page in pages():
        named = set(re.findall(r"`(--[a-z][\w.-]*)", text(page)))
        assert [flag for flag in named if f"{flag} " not in everywhere + " "] == [], page


def test_config_files_named_exist() -> None:
    for page in pages():
        named = set(re.findall(r"configs/[\w/]+\.py", text(page)))
        assert [name for name in named if not (ROOT / name).exists()] == [], page


def test_the_two_commands_are_shown_first() -> None:
    before = text("README.md").split("![")[0]
    assert [line.split()[1] for line in re.findall(r"^make \w+", before, re.M)] == ["train", "test"]


def test_the_table_shows_every_variant_of_the_first_rows() -> None:
    first = ("post_norm", "pre_norm", "deep_norm", "sub_ln", "sandwich_norm", "peri_norm")
    for name in (*first, "res_post_norm", "rezero", "mix_norm"):
        assert re.search(rf"^\| `{name}", text("README.md"), re.M), name


def test_a_page_has_no_path_of_a_machine() -> None:
    for page in pages():
        assert re.findall(r"(?<![\w.])/(?:home|root|work|tmp|Users)/\S*", text(page)) == [], page


def test_output_shown_is_held_to_what_is_printed() -> None:
    assert matches("loss  1 ... end", "a loss 1\nmore\nend")
    assert not matches("loss 1 ... end", "loss 2 end")


def test_a_command_that_does_not_exist_is_found() -> None:
    for wrong in ("zoo trian", "zoo train --modle.variant x", "python scripts/none.py", "make tea"):
        with pytest.raises(AssertionError):
            check_spelling(shlex.split(wrong))
    assert of_zoo(["pip", "install"]) is None
