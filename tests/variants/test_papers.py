"""Papers: complete and distinct entries, each of them used."""

from __future__ import annotations

import re

import pytest

from zoo.variants import papers, stream_papers
from zoo.variants.registry import get_variant, list_variants
from zoo.variants.variant import Paper

PAPERS = {
    name: paper
    for module in (papers, stream_papers)
    for name, paper in vars(module).items()
    if isinstance(paper, Paper)
}


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_says_who_wrote_it_and_where_to_read_it(name: str) -> None:
    paper = PAPERS[name]
    *named, last = paper.authors
    assert all(re.fullmatch(r"[^;{}]+, [^;{}]+|\{[^{}]+\}", author) for author in named)
    assert last == "others" or re.fullmatch(r"[^;{}]+, [^;{}]+|\{[^{}]+\}", last)
    assert last != "others" or named
    # An arXiv number begins with the year and month of its first version.
    assert not paper.arxiv or re.fullmatch(r"\d{2}(0[1-9]|1[0-2])\.\d{5}", paper.arxiv)
    assert bool(paper.arxiv) != bool(paper.url)
    assert str(paper.year) in paper.key


def test_no_two_papers_share_a_key_a_title_or_a_number() -> None:
    for field in ("key", "title", "link"):
        values = [getattr(paper, field) for paper in PAPERS.values()]
        assert len(set(values)) == len(values), field


def test_a_paper_without_an_arxiv_number_gives_its_address() -> None:
    bibtex = papers.T_FIXUP.bibtex()
    assert "eprint" not in bibtex
    assert f"  url = {{{papers.T_FIXUP.link}}},\n" in bibtex


def test_every_paper_is_that_of_a_variant() -> None:
    used = [get_variant(name).paper for name in list_variants()]
    assert [name for name, paper in PAPERS.items() if paper not in used] == []
