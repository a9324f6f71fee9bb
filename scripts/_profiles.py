"""Gradients and updates at the start, layer by layer: rows of a committed table, and charts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _svg import SOFT, Canvas

from zoo.models.config import ModelConfig
from zoo.models.resolve import place

Row = dict[str, Any]
LAYERS, WIDTH, BATCH, LENGTH = 24, 64, 4, 64
LEARNING_RATE = 1e-3
COLORS = {"self_attention": "#1d4ed8", "mlp": "#c2410c"}


def config(variant: str) -> ModelConfig:
    """A decoder of bytes, the same for all but its placement."""
    return ModelConfig(variant=variant, num_layers=LAYERS, d_model=WIDTH, max_length=LENGTH)


def placement_hash(variant: str) -> str:
    """Of every number of the placement: a row belongs to one."""
    record = json.dumps(place(config(variant)).to_json(), sort_keys=True)
    return hashlib.sha256(record.encode()).hexdigest()[:12]


class Profiles:
    """Rows in a JSONL file, one a placement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows: dict[str, Row] = {row["placement"]: row for row in map(json.loads, lines)}

    def find(self, variant: str) -> Row | None:
        """The row of the placement that the variant resolves to now."""
        return self.rows.get(placement_hash(variant))

    def ensure(self, variants: Sequence[str]) -> None:
        """Measure what is missing, and drop rows that belong to nothing any more."""
        kept = {}
        for variant in variants:
            key = placement_hash(variant)
            kept[key] = self.rows.get(key) or _measured(variant, key)
            self.rows[key] = kept[key]
            self._write(list(self.rows.values()))
        self.rows = kept
        self._write(list(kept.values()))

    def _write(self, rows: Sequence[Row]) -> None:
        self.path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _measured(variant: str, key: str) -> Row:
    """One gradient on random bytes, and the first step of AdamW at one rate for all."""
    import jax

    import zoo
    from zoo.models.transformer import build
    from zoo.training.optim_config import OptimConfig

    print(f"measuring {variant}")
    model = build(config(variant), jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (BATCH, LENGTH), 0, model.config.vocab_size)
    if "profile" in model.placement.hooks:
        model = zoo.profile(model, tokens)
    optim = OptimConfig(lr=LEARNING_RATE, weight_decay=0.0, clip_norm=0.0)
    found = zoo.diagnose(model, tokens, optim=optim)
    row: Row = {"variant": variant, "placement": key, "loss": _rounded(found.loss)}
    for figure in ("grad_norm", "update_ratio"):
        row[figure] = {
            name: [
                _rounded(getattr(each, figure)) for each in found.sublayers if each.sublayer == name
            ]
            for name in COLORS
        }
    return row


def _rounded(value: float) -> float | None:
    """Four digits; None for what is no number, such as a step on weights that are 0."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def chart(row: Row) -> str:
    """The SVG of a row: two figures over the depth, on scales of powers of ten."""
    canvas = Canvas()
    for index, (figure, title) in enumerate(
        (("grad_norm", "gradient norm"), ("update_ratio", "update / weight"))
    ):
        panel = Canvas()
        _axes(panel, row[figure], title)
        canvas.place(panel, 330.0 * index, 0.0)
    for index, (name, color) in enumerate(COLORS.items()):
        x = 40.0 + 150 * index
        canvas.curve([(x, 176), (x + 24, 176)], color)
        canvas.text(x + 30, 180, name.replace("_", " "), size=11, color=SOFT)
    return canvas.svg(f"{row['variant']}: gradients and updates at the start")


def _axes(canvas: Canvas, series: dict[str, list[float | None]], title: str) -> None:
    """One figure, 260 by 110, layers from left to right."""
    wide, high = 260.0, 110.0
    positive = [y for values in series.values() for y in values if y]
    canvas.text(0.0, 14, title, size=12, bold=True)
    canvas.line((0.0, 26), (0.0, 26 + high), (wide, 26 + high))
    for layer in (0, LAYERS // 2, LAYERS - 1):
        x = wide * layer / (LAYERS - 1)
        canvas.text(x, 26 + high + 14, str(layer), size=10, anchor="middle", color=SOFT)
    canvas.text(wide, 26 + high + 28, "layer", size=10, anchor="end", color=SOFT)
    if not positive:
        canvas.text(wide / 2, 26 + high / 2, "0 everywhere", size=11, anchor="middle", color=SOFT)
        return
    low, top = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    top = max(top, low + 1)
    # Every power of ten while there are few, else about five of them.
    for power in range(low, top + 1, max(1, math.ceil((top - low) / 5))):
        y = 26 + high * (top - power) / (top - low)
        canvas.line((-4, y), (0, y))
        canvas.text(-7, y + 4, f"1e{power}", size=10, anchor="end", color=SOFT)
    for name, values in series.items():
        points = [
            (wide * layer / (LAYERS - 1), 26 + high * (top - math.log10(y)) / (top - low))
            for layer, y in enumerate(values)
            if y
        ]
        if points:
            canvas.curve(points, COLORS[name])
            for x, y in points[:: max(1, len(points) - 1)]:
                canvas.dot(x, y, COLORS[name])
