"""A report as one web page that needs nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from zoo.compare.report.document import Block, Code, Document, Items, Picture, Section, Table, Text
from zoo.compare.report.drawing import looks, svgs
from zoo.compare.report.figures import of_variant

_STYLE = """\
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1rem 3rem; color: #222; background: #fff;
  font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
p, li, figcaption, summary { max-width: 46rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; }
.headline { font-size: 1.2rem; border-left: 4px solid #0072B2; padding: .3rem 0 .3rem .9rem; }
nav { font-size: .9rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #eee; white-space: nowrap; }
th { border-bottom-color: #999; font-weight: 600; }
td.long { white-space: normal; min-width: 14rem; max-width: 26rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.5rem; }
figcaption { font-size: .88rem; color: #555; }
.panels { display: grid; gap: .6rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
svg.panel { width: 100%; height: auto; display: block; }
svg.panel path { stroke-linejoin: round; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: .82rem; line-height: 1.4; }
summary { cursor: pointer; color: #0050a0; }
#variants { position: sticky; top: 0; z-index: 2; background: #fff; border-bottom: 1px solid #ddd;
  padding: .4rem 0; margin: 1rem 0; font-size: .88rem; max-height: 30vh; overflow-y: auto; }
#variants label { display: inline-flex; align-items: center; gap: .3rem; margin-right: 1rem;
  overflow-wrap: anywhere; }
#variants svg { flex: none; }
#variants button { font: inherit; padding: 0 .5rem; }
@media print {
  body { max-width: none; font-size: 11pt; }
  #variants { position: static; max-height: none; }
  #variants button, nav { display: none; }
  svg.panel, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .panels { grid-template-columns: 1fr 1fr; }
  .scroll { overflow: visible; }
  th, td { white-space: normal; }
}
"""

_SCRIPT = """\
const boxes = [...document.querySelectorAll("#variants input")];
function show(box) {
  for (const drawn of document.getElementsByClassName(box.value))
    drawn.style.display = box.checked ? "" : "none";
}
function all(on) {
  for (const box of boxes) { box.checked = on; show(box); }
}
for (const box of boxes) box.addEventListener("change", () => show(box));
document.getElementById("all").addEventListener("click", () => all(true));
document.getElementById("none").addEventListener("click", () => all(false));
for (const box of boxes) show(box);  // a browser keeps boxes over a reload
"""


def html(document: Document) -> str:
    """The page."""
    title = escape(document.title)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>\n{_STYLE}</style></head>",
        "<body>",
        f"<h1>{title}</h1>",
        f'<p class="headline">{escape(document.headline)}</p>',
        "<nav>",
        *(f'<a href="#{_anchor(each)}">{escape(each.title)}</a>' for each in document.sections),
        "</nav>",
        *_switches(document),
    ]
    for section in document.sections:
        parts.append(f'<section><h2 id="{_anchor(section)}">{escape(section.title)}</h2>')
        for block in section.blocks:
            parts += _block(block)
        parts.append("</section>")
    if _has_curves(document):
        parts.append(f"<script>\n{_SCRIPT}</script>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _anchor(section: Section) -> str:
    return re.sub(r"[^a-z]+", "-", section.title.lower())


def _has_curves(document: Document) -> bool:
    blocks = [block for section in document.sections for block in section.blocks]
    return any(isinstance(block, Picture) and block.legend for block in blocks)


def _switches(document: Document) -> Iterator[str]:
    """Boxes that show and hide what is drawn for a variant; they are the legend too."""
    if not _has_curves(document):
        return
    yield '<form id="variants">'
    for index, (name, (colour, dash)) in enumerate(looks(document.variants).items()):
        line = (
            f'<svg width="26" height="8" aria-hidden="true"><path d="M0 4H26" stroke-width="3" '
            f'stroke="{colour}" stroke-dasharray="{dash}"/></svg>'
        )
        yield (
            f'<label><input type="checkbox" checked value="{of_variant(index)}">{line}'
            f"{escape(name)}</label>"
        )
    yield '<button type="button" id="all">all</button>'
    yield '<button type="button" id="none">none</button>'
    yield "</form>"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield f"<p>{escape(block.text)}</p>"
        case Items():
            yield "<ul>"
            yield from (f"<li>{escape(item)}</li>" for item in block.items)
            yield "</ul>"
        case Code():
            yield from _folded(block.folded, [f"<pre>{escape(block.text)}</pre>"])
        case Table():
            yield from _folded(block.folded, list(_table(block)))
        case Picture():
            yield f'<figure id="{escape(block.name)}"><div class="panels">'
            yield from svgs(block)
            yield f"</div><figcaption>{escape(block.caption)}</figcaption></figure>"


def _folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    if title:
        yield f"<details><summary>{escape(title)}</summary>"
    yield from lines
    if title:
        yield "</details>"


def _table(table: Table) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr>'
    yield from (f"<th>{escape(cell)}</th>" for cell in table.header)
    yield "</tr></thead><tbody>"
    for row in table.rows:
        cells = (f"<td{_kind(cell)}>{escape(cell)}</td>" for cell in row)
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _kind(cell: str) -> str:
    return ' class="long"' if len(cell) > 48 else ""
