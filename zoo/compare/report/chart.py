"""Charts as SVG text: one pair of axes, shapes in the coordinates of the data.

A report has dozens of panels, which matplotlib takes a third of a second each to lay out and
write; a page's curves need little of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from zoo.compare.report.words import amount, number

INK, SOFT, GRID = "#333333", "#666666", "#e6e6e6"
WIDTH, HEIGHT = 340, 236
"""Of a panel in pixels: about a phone's width, so that letters keep their size there."""
FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"

_TOP, _RIGHT, _BOTTOM = 24, 12, 38
_LETTER = 5.8  # mean width of a letter at the size of tick labels
_MOST_TICKS = 6
_MARGIN = 0.05

Map = Callable[[float], float]


@dataclasses.dataclass
class Scale:
    """One axis: what is set here, else found from the data.

    Attributes:
        label: what it shows, with its unit.
        log: logarithmic, for positive data only.
        low, high: ends.
        ticks: (value, text) of each.
        whole: ticks at whole numbers alone.
        margin: free share at either end.
    """

    label: str = ""
    log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: Sequence[tuple[float, str]] | None = None
    whole: bool = False
    margin: float = _MARGIN
    seen: tuple[float, float] = (math.inf, -math.inf)

    def see(self, values: Iterable[float]) -> None:
        """Take values into the extent, where they are finite."""
        low, high = self.seen
        for value in values:
            if math.isfinite(value) and (value > 0 or not self.log):
                low, high = min(low, value), max(high, value)
        self.seen = low, high

    def ends(self) -> tuple[float, float]:
        """What the axis spans, in its own measure: the logarithm where it is logarithmic."""
        seen = self.seen if self.seen[0] <= self.seen[1] else (1.0, 1.0)
        low, high = map(self.measure, seen)
        free = self.margin * (high - low) or 0.1 * (1.0 if self.log else abs(high) or 1.0)
        low = low - free if self.low is None else self.measure(self.low)
        high = high + free if self.high is None else self.measure(self.high)
        return low, high if high > low else low + 1.0

    def measure(self, value: float) -> float:
        if not self.log:
            return value
        return math.log10(value) if value > 0 else -math.inf

    def marks(self) -> Sequence[tuple[float, str]]:
        """(value, text) of the ticks in reach."""
        low, high = self.ends()
        if self.ticks is not None:
            return [each for each in self.ticks if low <= self.measure(each[0]) <= high]
        if self.log:
            return _log_ticks(10**low, 10**high)
        return _even_ticks(low, high, 1.0 if self.whole else 0.0)


def _even_ticks(low: float, high: float, least: float = 0.0) -> list[tuple[float, str]]:
    rough = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.999)
    step = max(step, least)
    values = [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if max(abs(low), abs(high)) >= 1e4:
        return [(value, amount(value)) for value in values]
    if digits > 4:
        return [(value, number(value, 3)) for value in values]
    return [(value, f"{value:.{digits}f}") for value in values]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    if high < 3 * low:
        return [(value, text) for value, text in _even_ticks(low, high) if value > 0]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / _MOST_TICKS))
    sizes: Sequence[float] = (1, 1.5, 2, 3, 5, 7) if high < 8 * low else (1, 2, 5)
    sizes = sizes if high < 300 * low else (1,)
    values = [s * 10.0**power for power in range(first, last + 1, stride) for s in sizes]
    return [(value, _short(value)) for value in values if low <= value <= high]


def _short(value: float) -> str:
    return amount(value) if value >= 0.01 else number(value, 2)


class Chart:
    """Collects shapes, then is written out.

    Every shape takes `css`, the class by which a page finds it.
    """

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.x, self.y = Scale(), Scale()
        self.grid = True
        self._shapes: list[Callable[[Map, Map], str]] = []

    def line(
        self,
        points: Sequence[tuple[float, float]],
        colour: str,
        *,
        width: float = 1.6,
        dash: str = "",
        opacity: float = 1.0,
        steps: bool = False,
        css: str = "",
        see: bool = True,
    ) -> None:
        """Joined points; one that is not finite leaves a gap.

        Args:
            steps: go level to the next x, then up or down.
            see: whether the axes reach for it.
        """
        if see:
            self._see(points)

        def draw(x: Map, y: Map) -> str:
            path = _path([(x(a), y(b)) for a, b in points], steps)
            look = f'stroke="{colour}" stroke-width="{width:g}"'
            look += f' stroke-dasharray="{dash}"' if dash else ""
            look += f' opacity="{opacity:g}"' if opacity < 1 else ""
            return f'<path{_class(css)} d="{path}" fill="none" {look}/>' if path else ""

        self._shapes.append(draw)

    def dots(
        self,
        points: Sequence[tuple[float, float]],
        colour: str,
        *,
        radius: float = 2.6,
        opacity: float = 1.0,
        css: str = "",
    ) -> None:
        """A disc at each point."""
        self._see(points)
        shown = [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b)]
        faint = f' opacity="{opacity:g}"' if opacity < 1 else ""

        def draw(x: Map, y: Map) -> str:
            return "".join(
                f'<circle{_class(css)} cx="{x(a):.1f}" cy="{y(b):.1f}" r="{radius:g}" '
                f'fill="{colour}"{faint}/>'
                for a, b in shown
            )

        self._shapes.append(draw)

    def cross(
        self, x: float, y: float, colour: str, *, css: str = "", share: bool = False, note: str = ""
    ) -> None:
        """A cross, with a few letters beside it.

        Args:
            share: y is a share of the height, from the bottom, and not a figure.
        """
        if share:
            self.x.see([x])
        else:
            self._see([(x, y)])

        def draw(to_x: Map, to_y: Map) -> str:
            left, top = to_x(x), self._height * (1 - y) if share else to_y(y)
            mark = f"M{left - 3:.1f} {top - 3:.1f}l6 6m0 -6l-6 6"
            drawn = f'<path{_class(css)} d="{mark}" stroke="{colour}" stroke-width="2"/>'
            if note:
                drawn += _text(left + 6, top + 3, note, colour=colour, size=9, css=css)
            return drawn

        self._shapes.append(draw)

    def note(self, x: float, y: float, text: str, colour: str, *, css: str = "") -> None:
        """Letters above and to the right of a point."""
        self._shapes.append(
            lambda to_x, to_y: _text(to_x(x) + 5, to_y(y) - 4, text, colour=colour, size=9, css=css)
        )

    def box(self, x: float, y: float, fill: str, *, text: str = "", colour: str = INK) -> None:
        """The unit square around a point, with a word in its middle."""
        self._see([(x - 0.5, y - 0.5), (x + 0.5, y + 0.5)])

        def draw(to_x: Map, to_y: Map) -> str:
            left, right = to_x(x - 0.5), to_x(x + 0.5)
            top, bottom = to_y(y + 0.5), to_y(y - 0.5)
            size = min(10.0, (right - left) / (0.6 * max(1, len(text))), 0.9 * (bottom - top))
            drawn = (
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
                f'height="{bottom - top:.1f}" fill="{fill}" stroke="#fff" stroke-width="1.5"/>'
            )
            if text and size >= 5:
                middle, line = (left + right) / 2, (top + bottom) / 2 + 0.35 * size
                drawn += _text(middle, line, text, colour=colour, size=size, anchor="middle")
            return drawn

        self._shapes.append(draw)

    def inner(self) -> str:
        """The shapes, axes and letters, WIDTH by HEIGHT, without the `<svg>` around them."""
        marks = self.y.marks()
        left = 26 + max((len(text) for _, text in marks), default=0) * _LETTER
        width, self._height = WIDTH - left - _RIGHT, HEIGHT - _TOP - _BOTTOM
        to_x = _mapped(self.x, 0.0, width)
        to_y = _mapped(self.y, self._height, 0.0)
        foot = _TOP + self._height
        parts = [_text(4, 14, self.title, colour=INK, size=11, bold=True)] if self.title else []
        for value, text in marks:
            top = _TOP + to_y(value)
            if self.grid:
                parts.append(f'<path d="M{left:.1f} {top:.1f}h{width:.1f}" stroke="{GRID}"/>')
            parts.append(_text(left - 5, top + 3.5, text, anchor="end"))
        for value, text in _spaced(self.x.marks(), to_x):
            middle = left + to_x(value)
            if self.grid:
                parts.append(f'<path d="M{middle:.1f} {_TOP}V{foot}" stroke="{GRID}"/>')
            parts.append(_text(middle, foot + 13, text, anchor="middle"))
        parts.append(f'<path d="M{left:.1f} {_TOP}V{foot}h{width:.1f}" stroke="#999" fill="none"/>')
        # An inner <svg> cuts off what leaves the axes, and needs no name for it.
        parts.append(f'<svg x="{left:.1f}" y="{_TOP}" width="{width:.1f}" height="{self._height}">')
        parts += [drawn for shape in self._shapes if (drawn := shape(to_x, to_y))]
        parts.append("</svg>")
        parts.append(_text(left + width / 2, HEIGHT - 7, self.x.label, anchor="middle"))
        turned = f"rotate(-90 11 {_TOP + self._height / 2:.0f})"
        middle = _TOP + self._height / 2
        parts.append(_text(11, middle, self.y.label, anchor="middle", transform=turned))
        return "\n".join(parts)

    def _see(self, points: Sequence[tuple[float, float]]) -> None:
        self.x.see(x for x, _ in points)
        self.y.see(y for _, y in points)


def _mapped(scale: Scale, start: float, end: float) -> Map:
    low, high = scale.ends()

    def place(value: float) -> float:
        return start + (scale.measure(value) - low) / (high - low) * (end - start)

    return place


def _spaced(marks: Sequence[tuple[float, str]], to_x: Map) -> Sequence[tuple[float, str]]:
    """As many of the ticks as stand side by side."""
    widest = max((len(text) for _, text in marks), default=0) * _LETTER + 6
    for stride in range(1, len(marks)):
        shown = marks[::stride]
        gaps = [to_x(b) - to_x(a) for (a, _), (b, _) in itertools.pairwise(shown)]
        if min(gaps, default=math.inf) >= widest:
            return shown
    return marks[:1]


def _path(points: Sequence[tuple[float, float]], steps: bool) -> str:
    words = []
    pen = False
    last = 0.0
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = False
            continue
        if pen and steps:
            words.append(f"L{x:.1f} {last:.1f}")
        words.append(f"{'L' if pen else 'M'}{x:.1f} {y:.1f}")
        pen, last = True, y
    return "".join(words)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    colour: str = SOFT,
    size: float = 10,
    anchor: str = "",
    bold: bool = False,
    transform: str = "",
    css: str = "",
) -> str:
    look = f'{_class(css)} x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size:.3g}"'
    look += f' text-anchor="{anchor}"' if anchor else ""
    look += ' font-weight="600"' if bold else ""
    look += f' transform="{transform}"' if transform else ""
    return f"<text{look}>{escape(text)}</text>"


def _class(css: str) -> str:
    return f' class="{css}"' if css else ""
