"""What a report is made of, before it is a web page or Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

from zoo.compare.report.chart import Chart


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of plain sentences."""

    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Code:
    """Text to copy; with a `folded` title it is shown on request."""

    text: str
    folded: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of plain text under a header; with a `folded` title it is shown on request."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """One chart: its title, and what draws on it."""

    title: str
    draw: Callable[[Chart], None]


@dataclasses.dataclass(frozen=True)
class Picture:
    """Panels that belong together.

    Attributes:
        name: of the file, where it is one.
        alt: what it shows, in a few words.
        caption: how to read it.
        panels: drawn side by side as far as there is room.
        legend: whether colours stand for variants.
    """

    name: str
    alt: str
    caption: str
    panels: Sequence[Panel]
    legend: bool = True


Block: TypeAlias = Text | Items | Code | Table | Picture


@dataclasses.dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        title: one line.
        headline: the verdict in one sentence.
        variants: in the order that colours follow.
        sections: in the order of reading; one without blocks is left out.
    """

    title: str
    headline: str
    variants: Sequence[str]
    sections: Sequence[Section]
