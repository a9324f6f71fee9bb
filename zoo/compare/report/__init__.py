"""What a comparison found, to read and to hand on: a page, Markdown, and the raw results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zoo.compare.comparison import Comparison
from zoo.compare.report.content import document
from zoo.compare.report.document import Document, Picture
from zoo.compare.report.drawing import svg_file
from zoo.compare.report.html import html
from zoo.compare.report.markdown import markdown
from zoo.compare.results import to_csv
from zoo.files import dumps, replacing

__all__ = ["write_report"]

_PICTURES = "report"


def write_report(comparison: Comparison) -> dict[str, Path]:
    """Write all files of a report into the comparison's folder, each in one rename.

    Returns:
        `html`: report.html, one file that needs no other; `markdown`: report.md, with its
        pictures in `report/`; `csv` and `json`: results.csv and results.jsonl, one line a run.
    """
    folder = comparison.workdir
    made = document(comparison)
    lines = [dumps(row.to_json()) for row in comparison.rows]
    for picture in _pictures(made):
        text = svg_file(picture, made.variants)
        _write(folder / _PICTURES / f"{picture.name}.svg", text)
    return {
        "html": _write(folder / "report.html", html(made)),
        "markdown": _write(folder / "report.md", markdown(made, _PICTURES)),
        "csv": _write(folder / "results.csv", to_csv(comparison.rows)),
        "json": _write(folder / "results.jsonl", "".join(f"{line}\n" for line in lines)),
    }


def _pictures(made: Document) -> Iterator[Picture]:
    for section in made.sections:
        yield from (block for block in section.blocks if isinstance(block, Picture))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path
