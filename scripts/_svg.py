"""A drawing as text: shapes with their extent, so that nothing is clipped."""

from __future__ import annotations

import re
from html import escape

INK, SOFT, PAPER = "#0f172a", "#475569", "#ffffff"
# Verdana and DejaVu Sans are drawn equally wide, so that boxes fit what is in them everywhere.
FONT = "Verdana, 'DejaVu Sans', sans-serif"
# Hundredths of an em; what is not here takes 65.
_WIDTHS = {
    character: width
    for characters, width in (
        (" \u00a0',.IJijl·", 31),
        ("!()-/:;[]f|rtᵀ²⟨⟩", 39),
        ("*_zsc?L", 54),
        ("&DGHNOQUw", 77),
        ("+<=>M^~−×→⊗", 86),
        ("%@Wm…", 98),
    )
    for character in characters
}
_BOLD, _SMALL, _DROP = 1.13, 0.72, 3
_SUB = re.compile(r"_([A-Za-z0-9]+)")


def width_of(text: str, size: float = 12) -> float:
    """How long a line is; an index counts as small letters."""
    parts = _SUB.split(text)
    whole, small = (sum(map(_ems, parts[start::2])) for start in (0, 1))
    return (whole + _SMALL * small) * size


def _ems(text: str) -> float:
    return sum(_WIDTHS.get(character, 65) for character in text) / 100


class Canvas:
    """Shapes, and the box around them."""

    def __init__(self) -> None:
        self.shapes: list[str] = []
        self.left = self.top = float("inf")
        self.right = self.bottom = float("-inf")

    def box(self, x: float, y: float, width: float, height: float, fill: str, dash: bool) -> None:
        """A box around its middle (x, y); a dashed one may be there or not."""
        self._reach(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        style = ' stroke-dasharray="4 3"' if dash else ""
        self.shapes.append(
            f'<rect x="{_n(x - width / 2)}" y="{_n(y - height / 2)}" width="{_n(width)}" '
            f'height="{_n(height)}" rx="5" fill="{fill}" stroke="{INK}"{style}/>'
        )

    def circle(self, x: float, y: float, radius: float, fill: str) -> None:
        self._reach(x - radius, y - radius, x + radius, y + radius)
        self.shapes.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{fill}" stroke="{INK}"/>'
        )

    def line(self, *points: tuple[float, float], arrow: bool = False) -> None:
        """A line along the points, with a head at the last one."""
        for x, y in points:
            self._reach(x, y, x, y)
        path = " ".join(
            f"{'M' if i == 0 else 'L'}{_n(x)} {_n(y)}" for i, (x, y) in enumerate(points)
        )
        self.shapes.append(f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.3"/>')
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            along = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
            back = (x1 - 8 * along[0], y1 - 8 * along[1])
            sides = [
                (back[0] + 4 * turn * along[1], back[1] + 4 * turn * along[0]) for turn in (1, -1)
            ]
            corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in [(x1, y1), *sides])
            self.shapes.append(f'<polygon points="{corners}" fill="{INK}"/>')

    def curve(self, points: list[tuple[float, float]], color: str) -> None:
        for x, y in points:
            self._reach(x, y, x, y)
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self.shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>'
        )

    def dot(self, x: float, y: float, color: str) -> None:
        self._reach(x - 3, y - 3, x + 3, y + 3)
        self.shapes.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="2.5" fill="{color}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        anchor: str = "start",
        color: str = INK,
        bold: bool = False,
        math: bool = True,
    ) -> None:
        """A line whose baseline is at y; in mathematics `N_in` has an index."""
        length = width_of(text, size) if math else _ems(text) * size
        length *= _BOLD if bold else 1.0
        start = {"start": x, "middle": x - length / 2, "end": x - length}[anchor]
        self._reach(start, y - 0.8 * size, start + length, y + 0.35 * size)
        written = _indexed(text, size) if math else escape(text, quote=False)
        weight = ' font-weight="bold"' if bold else ""
        if anchor != "start" and "_" in text and math:
            # Some programs place each part of a line that has an index around the anchor.
            x, anchor = start, "start"
        self.shapes.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" '
            f'fill="{color}"{weight}>{written}</text>'
        )

    def place(self, other: Canvas, x: float, y: float) -> None:
        """Another drawing, moved by (x, y)."""
        self._reach(other.left + x, other.top + y, other.right + x, other.bottom + y)
        self.shapes += [f'<g transform="translate({_n(x)} {_n(y)})">', *other.shapes, "</g>"]

    def svg(self, title: str, margin: float = 14) -> str:
        left, top = self.left - margin, self.top - margin
        width, height = self.right + margin - left, self.bottom + margin - top
        box = f"{_n(left)} {_n(top)} {_n(width)} {_n(height)}"
        # Pages show pictures of one scale; a wide one may shrink to fit.
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{_n(width)}" '
                f'height="{_n(height)}" role="img" font-family="{FONT}">',
                f"<title>{escape(title, quote=False)}</title>",
                f'<rect x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" height="{_n(height)}" '
                f'fill="{PAPER}"/>',
                *self.shapes,
                "</svg>\n",
            ]
        )

    def _reach(self, left: float, top: float, right: float, bottom: float) -> None:
        self.left, self.top = min(self.left, left), min(self.top, top)
        self.right, self.bottom = max(self.right, right), max(self.bottom, bottom)


def _indexed(text: str, size: float) -> str:
    """Escaped, with what follows a `_` small and lowered."""
    made, plain = [], True
    for part in _SUB.split(text):
        if plain:
            # What comes after an index has to be lifted back.
            shift = f'<tspan dy="-{_DROP}">{escape(part, quote=False)}</tspan>'
            made.append((shift if made else escape(part, quote=False)) if part else "")
        else:
            small = _n(_SMALL * size)
            made.append(f'<tspan dy="{_DROP}" font-size="{small}">{escape(part)}</tspan>')
        plain = not plain
    return "".join(made)


def _n(value: float) -> str:
    """At most one digit behind the point."""
    return f"{value:.1f}".removesuffix(".0")
