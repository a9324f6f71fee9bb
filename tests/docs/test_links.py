"""Every link between the pages leads somewhere, and every page can be reached."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, pages, text

EVERY = [*pages(), "ARCHITECTURE.md", "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")


def links(page: str) -> list[str]:
    """Targets of links and pictures that are no URL, outside of code blocks."""
    prose = re.sub(r"^[ \t]*```.*?^[ \t]*```", "", text(page), flags=re.M | re.S)
    found = [markdown or html for markdown, html in LINK.findall(prose)]
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    """Where a page can be entered: its headings, as GitHub spells them."""
    prose = re.sub(
        r"^[ \t]*```.*?^[ \t]*```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        again = sum(
            each == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", each) is not None
            for each in found
        )
        found.append(f"{slug}-{again}" if again else slug)
    return frozenset(found)


@pytest.mark.parametrize("page", EVERY)
def test_links_lead_to_a_file_and_a_heading(page: str) -> None:
    lost = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_the_index_lists_every_page_of_docs() -> None:
    listed = {link.partition("#")[0] for link in links("docs/README.md")}
    there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert there - listed == set()


def test_a_heading_is_entered_as_the_hub_spells_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Is it `right`, or not?\n## A\n## A\n```sh\n# no heading\n```\n")
    assert anchors(page) == {"is-it-right-or-not", "a", "a-1"}
