"""A report as Markdown, with its pictures in files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from zoo.compare.report.document import Block, Code, Document, Items, Picture, Table, Text

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")

# What would begin a list.
_LIST = re.compile(r"^(\d*)([-+.)])(?=\s|$)")


def markdown(document: Document, folder: str | None) -> str:
    """The text of a report.

    Args:
        folder: where the pictures are, `NAME.svg` each, as seen from the text; None: without any.
    """
    lines = [f"# {_plain(document.title)}", "", f"**{_plain(document.headline)}**", ""]
    for section in document.sections:
        lines += [f"## {_plain(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block, folder), ""]
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block, folder: str | None) -> Iterator[str]:
    match block:
        case Text():
            yield _plain(block.text)
        case Items():
            yield from (f"- {_plain(item)}" for item in block.items)
        case Code():
            yield from _folded(block.folded, _code(block.text))
        case Table():
            yield from _folded(block.folded, _table(block))
        case Picture() if folder is not None:
            yield f"![{_plain(block.alt)}]({folder}/{block.name}.svg)"
            yield ""
            yield _plain(block.caption)


def _folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not title:
        yield from lines
        return
    yield f"<details><summary>{_plain(title)}</summary>"
    yield ""
    yield from lines
    yield ""
    yield "</details>"


def _code(text: str) -> list[str]:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, text.rstrip("\n"), fence]


def _table(table: Table) -> list[str]:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    shown = [rows[0], *rows[2:]]
    cells = [[_plain(cell) for cell in row] for row in shown]
    cells.insert(1, list(rows[1]))
    return [f"| {' | '.join(row)} |" for row in cells]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _LIST.sub(r"\1\\\2", line)
