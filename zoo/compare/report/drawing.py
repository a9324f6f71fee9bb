"""Pictures as SVG: panel by panel for a page, and as one file with a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from zoo.compare.report.chart import FONT, HEIGHT, INK, WIDTH, Chart
from zoo.compare.report.document import Panel, Picture
from zoo.training.plots import styles

_MOST_IN_A_ROW = 3
_ROW = 18  # of a legend
_DASHES = {"-": "", "--": "6 3", ":": "1.5 3", "-.": "6 3 1.5 3"}


def looks(names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """(colour, dashes) of each variant, by its place in the order."""
    found = styles(dict.fromkeys(names)).items()
    return {name: (look["color"], _DASHES[look["linestyle"]]) for name, look in found}


def svgs(picture: Picture) -> list[str]:
    """One `<svg>` a panel, to be put into a page as it is; it refers to nothing outside."""
    return [
        f'<svg class="panel" role="img" aria-label="{_label(picture, panel)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">\n{_drawn(panel)}\n</svg>'
        for panel in picture.panels
    ]


def _label(picture: Picture, panel: Panel) -> str:
    return escape(f"{picture.alt}: {panel.title}" if panel.title else picture.alt)


def _drawn(panel: Panel) -> str:
    chart = Chart(panel.title)
    panel.draw(chart)
    return chart.inner()


def svg_file(picture: Picture, variants: Sequence[str]) -> str:
    """All panels as one picture of its own, with a legend above them."""
    columns = min(len(picture.panels), _MOST_IN_A_ROW)
    width = columns * WIDTH
    legend, top = _legend(variants, width) if picture.legend else ("", 0)
    height = top + math.ceil(len(picture.panels) / columns) * HEIGHT
    panels = [
        f'<svg x="{index % columns * WIDTH}" y="{top + index // columns * HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}">\n{_drawn(panel)}\n</svg>'
        for index, panel in enumerate(picture.panels)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="{FONT}">'
    )
    title = f"<title>{escape(picture.alt)}</title>"
    paper = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, title, paper, legend, *panels, "</svg>"]) + "\n"


def _legend(variants: Sequence[str], width: int) -> tuple[str, int]:
    """(drawn, its height)."""
    x, y = 8.0, 14
    parts = []
    for name, (colour, dash) in looks(variants).items():
        needed = 40 + 6.2 * len(name)
        if x > 8 and x + needed > width:
            x, y = 8.0, y + _ROW
        parts.append(
            f'<path d="M{x:.0f} {y - 4}h22" stroke="{colour}" stroke-width="3" '
            f'stroke-dasharray="{dash}"/>'
            f'<text x="{x + 27:.0f}" y="{y}" font-size="11" fill="{INK}">{escape(name)}</text>'
        )
        x += needed
    return "\n".join(parts), y + 8
