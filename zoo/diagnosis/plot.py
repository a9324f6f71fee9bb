"""A diagnosis as a picture: one column a stack, one row a figure, depth along x.

matplotlib is imported on use, as in `zoo.training.plots`, whose style this is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.diagnosis.report import Diagnosis, SublayerFigures
from zoo.training.plots import INK, PALETTE, dress, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = tuple[list[float], list[float]]


def plot_diagnosis(diagnosis: Diagnosis, path: Path | str) -> Path:
    """Stream and branch, their ratio, gradient norms and effective learning rates over the depth.

    The last two have one line a matrix role. Values that are 0 or not finite leave a gap.

    Args:
        path: the picture to write; its suffix (`.png`, `.svg`, `.pdf`) gives the kind.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure

    stacks = list(dict.fromkeys(each.stack for each in diagnosis.sublayers))
    rows: list[tuple[str, Callable[[str], dict[str, Points]]]] = [
        ("root mean square", lambda stack: _sizes(_of(diagnosis, stack))),
        ("branch / skip", lambda stack: _ratios(_of(diagnosis, stack))),
        ("gradient norm", lambda stack: _roles(diagnosis, stack, "grad_norm")),
        ("update / weight", lambda stack: _roles(diagnosis, stack, "update_ratio")),
    ]
    figure = Figure(figsize=(1.5 + 7 * len(stacks), 10), dpi=130, layout="constrained")
    grid = figure.subplots(len(rows), len(stacks), squeeze=False, sharex="col")
    for column, stack in enumerate(stacks):
        for axis, (label, series) in zip(grid[:, column], rows, strict=True):
            _draw(axis, series(stack), label if column == 0 else "")
        grid[0, column].set_title(
            f"{diagnosis.variant}: {stack}", loc="left", color=INK, fontsize=12, fontweight="bold"
        )
        grid[-1, column].set_xlabel("layer", color=INK)
    return save(figure, path)


def _of(diagnosis: Diagnosis, stack: str) -> list[SublayerFigures]:
    return [each for each in diagnosis.sublayers if each.stack == stack]


def _depth(sublayers: Sequence[SublayerFigures]) -> list[float]:
    """Sublayers of one layer lie at equal distances between it and the next."""
    count = sum(each.layer == 0 for each in sublayers)
    return [each.layer + (index % count) / count for index, each in enumerate(sublayers)]


def _sizes(sublayers: Sequence[SublayerFigures]) -> dict[str, Points]:
    depth = _depth(sublayers)
    return {
        "stream": (depth, [each.stream_rms for each in sublayers]),
        "branch": (depth, [each.branch_rms for each in sublayers]),
    }


def _ratios(sublayers: Sequence[SublayerFigures]) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for x, each in zip(_depth(sublayers), sublayers, strict=True):
        xs, ys = found.setdefault(each.sublayer.replace("_", " "), ([], []))
        xs.append(x)
        ys.append(each.branch_skip_ratio)
    return found


def _roles(diagnosis: Diagnosis, stack: str, figure: str) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for each in diagnosis.of(stack=stack, kind="matrix"):
        if each.layer is not None:
            xs, ys = found.setdefault(each.role, ([], []))
            xs.append(each.layer)
            ys.append(getattr(each, figure))
    return found


def _draw(axis: Axes, series: dict[str, Points], label: str) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    dress(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn = False
    for index, (name, (xs, ys)) in enumerate(series.items()):
        values = np.asarray(ys, float)
        values[~np.isfinite(values) | (values <= 0.0)] = np.nan
        drawn = drawn or bool(np.isfinite(values).any())
        marker = "o" if len(xs) <= 24 else None
        style = "-" if index < len(PALETTE) else "--"
        color = PALETTE[index % len(PALETTE)]
        axis.plot(xs, values, style, color=color, lw=1.5, marker=marker, ms=3.5, label=name)
    if drawn:
        axis.set_yscale("log")
        axis.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=2)
    axis.set_ylabel(label, color=INK)
