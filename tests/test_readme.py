"""What README.md and CONTRIBUTING.md tell people to type works."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md")
PYTHON_BLOCK = re.compile(r"<!-- tested -->\n+( *)```python\n(.*?)\n\1```", re.DOTALL)


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def example_blocks() -> list[tuple[str, str]]:
    return [
        (page, textwrap.dedent(match[2]))
        for page in PAGES
        for match in PYTHON_BLOCK.finditer(text(page))
    ]


def command_lines() -> list[tuple[str, ...]]:
    """Every command of ours in a block or between backticks, as words without its comment."""
    found = []
    for page in PAGES:
        lines = re.findall(r"`((?:zoo|python train\.py|make) [^`\n]+)`", text(page))
        lines += re.findall(r"^(?: {4})?((?:zoo|python train\.py|make) .+)$", text(page), re.M)
        found += [tuple(shlex.split(line, comments=True)) for line in lines]
    return sorted(set(found))


ZOO_LINES = [
    ("train", *words[2:]) if words[0] == "python" else words[1:]
    for words in command_lines()
    if words[0] != "make"
]


@functools.cache
def help_of(*command: str) -> str:
    from zoo.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as page:
        try:
            code = main([*command, "--help"])
        except SystemExit as stop:
            code = stop.code
    assert code in (0, None), f"zoo {' '.join(command)} --help exits {code}"
    return page.getvalue()


@pytest.mark.optimized
@pytest.mark.parametrize(("page", "code"), example_blocks(), ids=lambda value: value[:12])
def test_a_python_example_runs(page: str, code: str, tmp_path: Path) -> None:
    # In a process of its own: an example may register a variant.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page}:\n{done.stderr}"


def test_both_pages_have_a_tested_example() -> None:
    assert {page for page, _ in example_blocks()} == set(PAGES)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.M))
    named = {words[1] for words in command_lines() if words[0] == "make"}
    assert {"train", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize("words", ZOO_LINES, ids=" ".join)
def test_a_command_line_names_what_exists(words: tuple[str, ...]) -> None:
    command, flags = words[0], [word for word in words if word.startswith("--")]
    assert command in help_of()
    missing = [flag for flag in flags if flag not in help_of(command)]
    assert missing == []


def test_flags_named_in_prose_exist() -> None:
    named = set(re.findall(r"`(--[a-z][a-z.-]+)", text("README.md")))
    assert {"--data.path", "--mesh.fsdp", "--parallel", "--init-from"} <= named
    assert [flag for flag in named if f"{flag} " not in help_of("train") + " "] == []


def test_config_files_named_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r"configs/\w+\.py", text(page))}
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_links_lead_somewhere() -> None:
    pages = (*PAGES, "ARCHITECTURE.md", "CHANGELOG.md")
    links = {link for page in pages for link in re.findall(r"\]\(([^)#]+)\)", text(page))}
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_table_shows_every_variant_of_the_first_rows() -> None:
    first = ("post_norm", "pre_norm", "deep_norm", "sub_ln", "sandwich_norm", "peri_norm")
    for name in (*first, "res_post_norm", "rezero", "mix_norm"):
        assert re.search(rf"^\| `{name}", text("README.md"), re.M), name
