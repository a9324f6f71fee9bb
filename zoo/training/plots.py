"""Loss curves of one run, and curves of several runs side by side, as PNG files.

matplotlib is imported on use, its `Figure` is used without pyplot: no window, no global state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, choices
from zoo.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Points = NDArray[np.float64]

# Okabe & Ito's colours, which all common kinds of colour vision tell apart; their yellow is left
# out because it is lost on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.")
INK = "#333333"
PICTURES = (".png", ".svg", ".pdf")
_LOG_FROM = 3.0  # a loss that falls to less than a third shows its end better on a log axis


def plot_losses(metrics: Sequence[Mapping[str, Any]], path: Path | str, *, title: str) -> Path:
    """Draw a run: losses, and below them learning rate and gradient norm as far as logged.

    The train loss is drawn raw (faint) and smoothed, evaluations as points. The loss axis is
    logarithmic when the loss fell to less than a third. Steps whose loss was not finite are marked.

    Args:
        metrics: what `read_metrics` returns: `step`, `loss`, `eval_loss`, `learning_rate`,
            `grad_norm`.
        path: the picture to write; its suffix (`.png`, `.svg`, `.pdf`) gives the kind.
        title: the heading.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure

    below = [
        (name, label)
        for name, label in (("learning_rate", "learning rate"), ("grad_norm", "gradient norm"))
        if len(_points(metrics, name))
    ]
    figure = Figure(figsize=(8, 4.2 + 1.2 * len(below)), dpi=130, layout="constrained")
    axes = figure.subplots(
        1 + len(below), 1, sharex=True, squeeze=False, height_ratios=[3.6] + [1] * len(below)
    )[:, 0]
    _draw_losses(axes[0], metrics)
    axes[0].set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold")
    for axis, (name, label) in zip(axes[1:], below, strict=True):
        _draw_small(axis, _points(metrics, name), label)
    axes[-1].set_xlabel("step", color=INK)
    _step_limits(axes[-1], metrics)
    return save(figure, path)


def plot_curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    path: Path | str,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
) -> Path:
    """Draw several curves in one picture, each labelled at its end or, failing that, in a legend.

    Args:
        series: name to its (x, y) points. Values of y that are not finite leave a gap.
        path: the picture to write; its suffix gives the kind.
        title: the heading, a line or two.
        xlabel: what x is, with its unit.
        ylabel: what y is, with its unit.
        logx: a logarithmic x axis.
        logy: a logarithmic y axis.
        bands: name to (x, low, high), shaded behind the curve of that name.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=130, layout="constrained")
    axis = figure.subplots()
    dress(axis)
    axis.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold")
    axis.set_xlabel(xlabel, color=INK)
    axis.set_ylabel(ylabel, color=INK)
    if logx:
        _log_x_axis(axis, [x for points in series.values() for x, _ in points])
    if logy:
        _log_axis(axis)
    style = styles(series)
    for name, points in series.items():
        x, y = _columns(points, 2)
        marker = "o" if len(x) <= 20 else None
        axis.plot(x, y, label=name, lw=1.8, marker=marker, ms=4.5, zorder=3, **style[name])
    for name, rows in (bands or {}).items():
        x, low, high = _columns(rows, 3)
        colour = style[name]["color"] if name in style else INK
        axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0, zorder=2)
    if not _label_ends(axis, series, style):
        axis.legend(frameon=False, fontsize=9, labelcolor=INK)
    return save(figure, path)


def smooth(values: Sequence[float], *, most: int | None = None) -> list[float]:
    """A centred mean over up to `2 * most + 1` values, by default a fortieth of them each way.

    At the start the window shrinks so that the first steep steps are not smeared out, at the end
    it is cut. A value that is not finite is left out of its neighbours' means; its own is NaN.
    """
    import numpy as np

    points = np.asarray(values, float)
    count = len(points)
    reach = np.minimum(count // 40 if most is None else most, np.arange(count))
    good = np.isfinite(points)
    sums = np.concatenate([[0.0], np.cumsum(np.where(good, points, 0.0))])
    counts = np.concatenate([[0], np.cumsum(good)])
    first, last = np.arange(count) - reach, np.minimum(np.arange(count) + reach + 1, count)
    means = (sums[last] - sums[first]) / np.maximum(1, counts[last] - counts[first])
    return [float(mean) for mean in np.where(good, means, np.nan)]


def _draw_losses(axis: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    import numpy as np

    dress(axis)
    axis.set_ylabel("loss", color=INK)
    train, held_out = _points(metrics, "loss"), _points(metrics, "eval_loss")
    smoothed = np.asarray(smooth(train[:, 1].tolist()))
    if len(train):
        axis.plot(train[:, 0], train[:, 1], color=PALETTE[0], lw=0.8, alpha=0.3)
        label = f"train{_last(smoothed)}"
        axis.plot(train[:, 0], smoothed, color=PALETTE[0], lw=1.8, label=label)
    if len(held_out):
        label = f"held out{_last(held_out[:, 1])}"
        style: dict[str, Any] = {"color": PALETTE[1], "marker": "o", "ms": 5, "mec": "white"}
        axis.plot(held_out[:, 0], held_out[:, 1], lw=1, zorder=4, label=label, **style)
    lost = train[~np.isfinite(train[:, 1]), 0]
    if len(lost):
        label = f"not finite from step {lost[0]:.0f}"
        axis.axvline(lost[0], color=PALETTE[1], lw=1.2, ls="--", label=label)
    shown = np.concatenate([train[:, 1], held_out[:, 1]])
    shown = shown[np.isfinite(shown)]
    if len(shown) and shown.min() > 0 and shown.max() > _LOG_FROM * shown.min():
        _log_axis(axis)
    if axis.lines:
        # A loss that falls leaves the upper right free, one that blows up the upper left.
        corner = "upper left" if len(lost) else "upper right"
        axis.legend(frameon=False, labelcolor=INK, loc=corner)
    if not len(shown):
        note: dict[str, Any] = {"ha": "center", "color": INK, "transform": axis.transAxes}
        axis.text(0.5, 0.5, "no finite loss was logged", **note)


def _draw_small(axis: Axes, points: Points, label: str) -> None:
    import numpy as np

    dress(axis)
    axis.plot(points[:, 0], points[:, 1], color="#666666", lw=1.1)
    axis.set_ylabel(label.replace(" ", "\n"), color=INK, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4), useMathText=True)
    axis.yaxis.get_offset_text().set_fontsize(8)
    finite = points[np.isfinite(points[:, 1]), 1]
    decades = len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min()
    if decades and label == "gradient norm":  # spikes; a learning rate's shape reads linearly
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)


def dress(axis: Axes) -> None:
    """Frame and grid that stay behind the data."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(colors="#666666", which="both")
    axis.grid(True, color="#e6e6e6", lw=0.7)
    axis.set_axisbelow(True)


def _log_axis(axis: Axes) -> None:
    """A log y axis with plain numbers at 1, 1.5, 2, 3, 5, 7: losses span about one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _log_x_axis(axis: Axes, values: Sequence[float]) -> None:
    """A log x axis, with ticks at the tried values themselves when they are few (a sweep)."""
    from matplotlib.ticker import NullLocator

    axis.set_xscale("log")
    tried = sorted(set(values))
    if 2 <= len(tried) <= 8:
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks(tried, [f"{value:g}" for value in tried])


def _step_limits(axis: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    last = max((row["step"] for row in metrics), default=0)
    axis.set_xlim(0, max(1, last) * 1.01)


def styles(names: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """A colour each; past the palette's end the same colours with another kind of line."""
    size = len(PALETTE)
    return {
        name: {"color": PALETTE[i % size], "linestyle": _LINES[i // size % len(_LINES)]}
        for i, name in enumerate(names)
    }


def _label_ends(
    axis: Axes,
    series: Mapping[str, Sequence[tuple[float, float]]],
    styles: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Write each name beside its curve's end; False when a legend serves better.

    That is with many curves, or when one ends early, where a label would lie on other curves.
    """
    ends = {}
    for name, points in series.items():
        finite = [(x, y) for x, y in points if math.isfinite(y)]
        if finite:
            ends[name] = max(finite)
    if not 0 < len(series) <= 8 or len(ends) < len(series):
        return False
    to_axis = axis.transData + axis.transAxes.inverted()
    axis.autoscale_view()
    places = {name: to_axis.transform(end) for name, end in ends.items()}
    if min(x for x, _ in places.values()) < max(x for x, _ in places.values()) - 0.02:
        return False
    order = sorted(places, key=lambda name: float(places[name][1]))
    for name, y in zip(order, _spread([float(places[name][1]) for name in order]), strict=True):
        axis.annotate(
            name,
            (1.015, y),
            xycoords="axes fraction",
            va="center",
            fontsize=9,
            color=styles[name]["color"],
            annotation_clip=False,
        )
    return True


def _spread(heights: Sequence[float], gap: float = 0.055) -> list[float]:
    """`heights` (ascending) moved as little as a few sweeps manage so that neighbours part."""
    placed = list(heights)
    for _ in range(50):
        for i in range(len(placed) - 1):
            short = gap - (placed[i + 1] - placed[i])
            if short > 0:
                placed[i] -= short / 2
                placed[i + 1] += short / 2
    return placed


def _points(metrics: Sequence[Mapping[str, Any]], name: str) -> Points:
    """[rows, 2] of (step, value) of the rows that have `name`."""
    import numpy as np

    rows = [(row["step"], row[name]) for row in metrics if row.get(name) is not None]
    return np.asarray(rows, float).reshape(-1, 2)


def _columns(rows: Sequence[tuple[float, ...]], count: int) -> tuple[Points, ...]:
    import numpy as np

    table = np.asarray(rows, float).reshape(-1, count)
    return tuple(table[:, i] for i in range(count))


def _last(values: Points) -> str:
    """`, 1.234 at the end`, for a legend."""
    return f", {values[-1]:.3f} at the end" if len(values) and math.isfinite(values[-1]) else ""


def save(figure: Figure, path: Path | str) -> Path:
    """Write a figure in one rename, in the format of the path's suffix; returns the path."""
    path = check_picture(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        figure.savefig(beside, format=path.suffix.removeprefix("."), facecolor="white")
    return path


def check_picture(path: Path | str) -> Path:
    """The path, whose suffix must be that of a kind of picture; `ConfigError` otherwise."""
    path = Path(path).expanduser()
    if path.suffix not in PICTURES:
        raise ConfigError(f"{path}: the name of a picture ends in {choices(PICTURES)}")
    return path
