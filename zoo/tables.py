"""Tables in plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Left-aligned columns under a header, two spaces apart."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def pairs(figures: Mapping[str, Any]) -> str:
    """One `name  value` line each; floats to six digits."""
    width = max(map(len, figures))
    shown = {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in figures.items()}
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items())
