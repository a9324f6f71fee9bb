"""A variant as a block diagram, drawn from its placement alone.

Upwards from the embedding: the start of a stack, one layer of each wiring that it has, and its
end, side by side. The plain stream is drawn with its norms and multipliers in their places,
another one by the lanes, reads and writes that its module declares.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from _svg import SOFT, Canvas, width_of

from zoo.variants.describe_text import gains_text, rates_rows, site_rows
from zoo.variants.placement import Multiplier, NormSlot, Placement, Ramp, StackPlacement
from zoo.variants.segments import Column, Segment, has_attention, has_mlp, is_one, segments, span
from zoo.variants.streams import STREAMS, Wiring

NORM, LEARNED, CONSTANT = "#bfdbfe", "#fde68a", "#ffffff"
FUNCTIONS = {
    "self_attention": ("attention", "#dcfce7"),
    "cross_attention": ("cross-attention", "#ccfbf1"),
    "mlp": ("MLP", "#f1f5f9"),
    "parallel": ("attention + MLP", "#dcfce7"),
}
_ROW, _GAP, _RADIUS = 15, 15, 10
_SMALL = 11
_APART = 46.0  # between two lanes


def diagram(placement: Placement, title: str) -> str:
    """The SVG of the first stack of a placement."""
    _, stack = placement.stacks[0]
    panels = [_start(stack), *(_layer(each, stack) for each in segments(stack)), _end(stack)]
    whole = Canvas()
    across = 0.0
    for panel in panels:
        # Panels stand on one line, each its own width.
        whole.place(panel, across - panel.left, 0.0)
        across += panel.right - panel.left + 36
    whole.text(whole.left, whole.top - 22, title, size=16, bold=True, math=False)
    notes = [f"base init: {placement.base_init}"] if placement.base_init else []
    notes += [_HOOKS[hook] for hook in placement.hooks]
    bottom = whole.bottom + 24
    _lines(whole, whole.left, bottom, notes)
    wired = STREAMS[stack.stream].wiring(stack)
    where = wired.where if stack.stream != "plain" else ()
    _lines(whole, whole.left, bottom + _ROW * len(notes), where, math=True)
    return whole.svg(title)


_HOOKS = {
    "profile": "skips set from one batch before training",
    "sphere": "weights put back to unit length after every step",
}


def _start(stack: StackPlacement) -> Canvas:
    """From the embedding to what enters the first layer."""
    canvas = Canvas()
    column = _Column(canvas, 0.0, 0.0)
    column.box("embedding", "#ffffff")
    if stack.embedding_multiplier != 1.0:
        column.circle("×", CONSTANT, [_short([stack.embedding_multiplier])])
    if stack.embedding_norm != "forbidden":
        slot = stack.embedding_slot
        column.norm("N_emb", [slot], dash=stack.embedding_norm == "free")
    wired = STREAMS[stack.stream].wiring(stack)
    lanes = []
    if stack.stream != "plain":
        lanes = wired.opened()
    column.end(lanes or ["x"])
    notes = []
    if stack.embedding_gradient != 1.0:
        notes.append(f"its gradient × {stack.embedding_gradient:.3g}")
    gains = [(role, gain) for role, gain in stack.init_gains if role in ("emb", "pos")]
    notes += [f"{role} drawn × {gain:.3g}" for role, gain in gains if gain != 1.0]
    _caption(canvas, "start", notes)
    return canvas


def _end(stack: StackPlacement) -> Canvas:
    """From the last layer to the logits."""
    canvas = Canvas()
    column = _Column(canvas, 0.0, 0.0)
    wired = STREAMS[stack.stream].wiring(stack)
    if stack.stream != "plain" and wired.closes not in wired.lanes:
        column.box(wired.closes, "#ffffff")
    if stack.final_norm != "forbidden":
        column.norm("N_final", [stack.final_slot], dash=stack.final_norm == "free")
    column.box("head", "#ffffff")
    scale = stack.logit_scale
    if scale != Multiplier():
        column.circle("×", LEARNED if scale.learned else CONSTANT, _multiplier("", [scale]))
    column.end([""])
    gains = [(role, gain) for role, gain in stack.init_gains if role not in ("emb", "pos")]
    notes = [f"{role} drawn × {gain:.3g}" for role, gain in gains if gain != 1.0]
    _caption(canvas, "end", [*notes, *rates_rows(stack)])
    return canvas


def _layer(segment: Segment, stack: StackPlacement) -> Canvas:
    """One layer of a segment, its sublayers one above the other."""
    canvas = Canvas()
    wired = STREAMS[stack.stream].wiring(stack)
    draw = _plain if stack.stream == "plain" else _other
    top, columns = 0.0, segment.columns()
    width = max(96.0, *(width_of(row, _SMALL) + 14 for each in columns for row in asks(each)), 0.0)
    for column in columns:
        top = draw(canvas, column, columns, stack, top, width)
    for lane in range(len(wired.lanes)):
        canvas.line((_APART * lane, top), (_APART * lane, top - 14), arrow=True)
    layers = f"layer {span(segment.layers)}" if len(segment.layers) == 1 else None
    gains = gains_text(segment)
    notes = [f"drawn: {gains}"] if "unchanged" not in gains else []
    for column in segment.columns():
        rows = [*rates_rows(column[0])]
        if stack.stream != "plain":
            rows += [row for row in site_rows(column, stack) if _is_shown(row, wired)]
        notes += [row for row in rows if row not in notes]
    _caption(canvas, layers or f"layers {span(segment.layers)}", notes)
    return canvas


def _is_shown(row: str, wired: Wiring) -> bool:
    """Whether a row of a description is about a symbol of the picture."""
    symbol = row.split()[0]
    if symbol == "f":
        return False  # the picture itself
    texts = (*wired.where, *(text for step in wired.steps for text in step.writes))
    return any(re.search(rf"\b{symbol}\b", text) for text in texts)


def _plain(
    canvas: Canvas,
    column: Column,
    columns: Sequence[Column],
    stack: StackPlacement,
    bottom: float,
    width: float,
) -> float:
    """x' = N_out(a x + b N_branch(F(N_in(x)))), from y = bottom up; the new top."""
    site = column[0]
    slots = {role: [each.slots()[role] for each in column] for role in site.slots()}
    rows = asks(column)
    across = 58 + width / 2
    stream = _Column(canvas, 0.0, bottom)
    if site.skip_normed and "norm_in" in slots:
        stream.norm("N_in", slots["norm_in"], left=True)
    fork = stream.y - _GAP
    branch = _Column(canvas, across, fork, side=width / 2)
    if "norm_in" in slots and not site.skip_normed:
        branch.norm("N_in", slots["norm_in"])
    branch.function(site.sublayer, rows, width)
    if "norm_branch" in slots:
        branch.norm("N_branch", slots["norm_branch"])
    gate = site.gate
    if gate is not None and gate.form == "variance":
        branch.circle("β", LEARNED, [f"σ(w / {gate.temperature:.3g}), learned w"])
    if not is_one(each.branch for each in column):
        _times(branch, "b", [each.branch for each in column])
    add = branch.y - 20
    canvas.line((0.0, stream.y), (0.0, fork))
    canvas.line((0.0, fork), (across, fork))
    canvas.line((across, branch.y), (across, add), (_RADIUS, add), arrow=True)
    canvas.line((0.0, fork), (0.0, add + _RADIUS), arrow=True)
    _skip(canvas, column, fork, add)
    canvas.circle(0.0, add, _RADIUS, CONSTANT)
    canvas.text(0.0, add + 5, "+", size=16, anchor="middle")
    stream = _Column(canvas, 0.0, add - _RADIUS)
    if gate is not None and gate.form == "straight_through" and gate.on == "sum":
        stream.circle("G", LEARNED, _GATE, left=True)
    if "norm_out" in slots:
        stream.norm("N_out", slots["norm_out"], left=True)
    canvas.line((0.0, stream.y), (0.0, stream.y - _GAP))
    return stream.y - _GAP


_GATE = ["1 − SiLU(g), learned g,", "gradient as without it"]


def _skip(canvas: Canvas, column: Column, fork: float, add: float) -> None:
    """What sits on the skip between the fork and the add."""
    gate = column[0].gate
    items: list[tuple[str, str, list[str]]] = []
    if gate is not None and gate.form == "variance":
        items.append(("α", LEARNED, ["α² + β² = 1"]))
    if gate is not None and gate.form == "straight_through" and gate.on == "skip":
        items.append(("G", LEARNED, _GATE))
    skips = [each.skip for each in column]
    if not is_one(skips):
        fill = LEARNED if skips[0].learned else CONSTANT
        items.append(("a", fill, _multiplier("a", skips)))
    for place, (letter, fill, labels) in enumerate(items, 1):
        y = fork + (add - fork) * place / (len(items) + 1)
        canvas.circle(0.0, y, _RADIUS, fill)
        canvas.text(0.0, y + 4, letter, anchor="middle")
        _labels(canvas, -_RADIUS - 6, y, labels, anchor="end")


def _other(
    canvas: Canvas,
    column: Column,
    columns: Sequence[Column],
    stack: StackPlacement,
    bottom: float,
    width: float,
) -> float:
    """Lanes with a box that reads them and one that writes them; the new top."""
    site = column[0]
    wired = STREAMS[stack.stream].wiring(stack)
    step = wired.step(site)
    written = wired.written(site)
    texts = [
        line for each in columns for line in (wired.step(each[0]).reads, *wired.written(each[0]))
    ]
    wide = max(map(width_of, texts)) + 18
    wide = max(wide, _APART * len(wired.lanes) + 24)
    left = -min(_APART, wide / 2 - 8)
    middle, right = left + wide / 2, left + wide
    rows = asks(column)
    across = right + 26 + width / 2
    reads, slots = bottom - _GAP - 12, site.slots()
    branch = _Column(canvas, across, reads, side=width / 2)
    if "norm_in" in slots:
        branch.norm("N_in", [each.slots()["norm_in"] for each in column])
    branch.function(site.sublayer, rows, width)
    if "norm_branch" in slots:
        branch.norm("N_branch", [each.slots()["norm_branch"] for each in column])
    height = 10 + 17 * len(written)
    writes = branch.y - 8 - height / 2
    canvas.line((right, reads), (across, reads))
    canvas.line((across, branch.y), (across, writes), (right, writes), arrow=True)
    canvas.text((across + right) / 2, writes - 5, "f", anchor="middle")
    top = writes - height / 2 - 16
    for index, lane in enumerate(wired.lanes):
        x = _APART * index
        canvas.line((x, bottom), (x, reads + 12), arrow=True)
        canvas.line((x, reads - 12), (x, writes + height / 2), arrow=True)
        canvas.line((x, writes - height / 2), (x, top))
        if bottom == 0.0:
            canvas.text(x, 14, lane, anchor="middle")
    canvas.box(middle, reads, wide, 24, CONSTANT, False)
    canvas.text(middle, reads + 4, step.reads, anchor="middle")
    canvas.box(middle, writes, wide, height, CONSTANT, False)
    for index, line in enumerate(written):
        canvas.text(left + 9, writes - height / 2 + 18 + 17 * index, line)
    return top


class _Column:
    """Boxes one above the other along a line that goes up from (x, y)."""

    def __init__(self, canvas: Canvas, x: float, y: float, *, side: float = 0.0) -> None:
        self.canvas, self.x, self.y, self.side = canvas, x, y, side

    def box(self, label: str, fill: str, *, dash: bool = False, height: float = 24) -> float:
        """One box; the y of its middle."""
        width = max(58.0, width_of(label) + 14)
        y = self._next(height)
        self.canvas.box(self.x, y, width, height, fill, dash)
        self.canvas.text(self.x, y + 4, label, anchor="middle")
        return y

    def norm(
        self, label: str, slots: Sequence[NormSlot], *, dash: bool = False, left: bool = False
    ) -> None:
        y = self.box(label, NORM, dash=dash)
        away = max(58.0, width_of(label) + 14) / 2 + 6
        x, anchor = (self.x - away, "end") if left else (self.x + away, "start")
        _labels(self.canvas, x, y, _particular(slots), anchor=anchor)

    def circle(self, label: str, fill: str, labels: Sequence[str], *, left: bool = False) -> None:
        y = self._next(2 * _RADIUS)
        self.canvas.circle(self.x, y, _RADIUS, fill)
        self.canvas.text(self.x, y + 4, label, anchor="middle")
        away = _RADIUS + 6
        x, anchor = (self.x - away, "end") if left else (self.x + away, "start")
        _labels(self.canvas, x, y, labels, anchor=anchor)

    def function(self, sublayer: str, rows: Sequence[str], width: float) -> None:
        """F, with what is asked of it."""
        name, fill = FUNCTIONS[sublayer]
        height = 26.0 + _ROW * len(rows)
        y = self._next(height)
        self.canvas.box(self.x, y, width, height, fill, False)
        top = y - height / 2
        self.canvas.text(self.x, top + 17, name, anchor="middle", bold=True, math=False)
        for index, row in enumerate(rows):
            self.canvas.text(self.x, top + 32 + _ROW * index, row, size=_SMALL, anchor="middle")

    def end(self, labels: Sequence[str]) -> None:
        """An arrow out of the column, and what leaves it."""
        self.canvas.line((self.x, self.y), (self.x, self.y - 22), arrow=True)
        for index, label in enumerate(reversed(labels)):
            if label:
                self.canvas.text(self.x, self.y - 28 - _ROW * index, label, anchor="middle")

    def _next(self, height: float) -> float:
        y = self.y - _GAP - height / 2
        self.canvas.line((self.x, self.y), (self.x, y + height / 2))
        self.y = y - height / 2
        return y


def asks(column: Column) -> list[str]:
    """What a site asks of F, in a few words each."""
    site = column[0]
    rows = ["norm before W_out"] if site.inner_norm is not None else []
    if has_attention(site):
        if site.qk_norm:
            rows.append("norms on q, k, v" if site.v_norm else "norms on q, k")
        elif site.v_norm:
            rows.append("norm on v")
        if site.qk_unit:
            rows.append("unit q, k" + (" × learned" if site.qk_scale is not None else ""))
        elif site.qk_scale is not None:
            rows.append("q, k × learned")
        if site.attention_scale is not None:
            scale = [f"× {site.attention_scale:.3g}"] if site.attention_scale != 1.0 else []
            scale += ["× learned"] if site.score_scale else []
            rows.append(" ".join(["scores", *(scale or ["× 1"])]))
        elif site.score_scale:
            rows.append("scores × learned")
        if site.head_scale:
            rows.append("heads × learned")
    if has_mlp(site) and site.hidden_scale is not None:
        rows.append("hidden × learned")
    if site.scalar_biases:
        rows.append("scalar biases")
    return rows


def _times(column: _Column, letter: str, multipliers: Sequence[Multiplier]) -> None:
    fill = LEARNED if multipliers[0].learned else CONSTANT
    column.circle(letter, fill, _multiplier(letter, multipliers))


def _multiplier(letter: str, multipliers: Sequence[Multiplier]) -> list[str]:
    """A multiplier over the layers, in one to three lines."""
    first = multipliers[0]
    value = _short([each.value for each in multipliers])
    ramps = [each.ramp for each in multipliers if each.ramp is not None]
    if first.learned is not None:
        lines = [f"learned {first.learned}", f"from {value}"]
    elif ramps and all(each.value == 1.0 for each in multipliers):
        lines = []
    else:
        lines = [f"{letter} = {value}" if letter else value]
    return lines + _ramp(ramps)


def _ramp(ramps: Sequence[Ramp]) -> list[str]:
    if not ramps:
        return []
    ends = [ramp.start + ramp.steps for ramp in ramps]
    power = {1.0: "", 0.5: ", root", 2.0: ", square"}.get(ramps[0].power, f"^{ramps[0].power:.3g}")
    floor = _short([ramp.floor for ramp in ramps])
    return [f"{floor} → 1 by step", f"{_short(ends)}{power}"]


def _particular(slots: Sequence[NormSlot]) -> list[str]:
    """What is particular to a norm, beside its box."""
    first = slots[0]
    lines = [first.kind.replace("_", " ")] if first.kind is not None else []
    if not first.affine:
        lines.append("no weights")
    elif first.bias is False:
        lines.append("no shift")
    if any(slot.gain != 1.0 for slot in slots):
        lines.append(f"gain from {_short([slot.gain for slot in slots])}")
    if any(slot.scale != 1.0 for slot in slots):
        lines.append(f"× {_short([slot.scale for slot in slots])}")
    return lines


def _short(values: Iterable[float]) -> str:
    """Three digits; the first and the last layer's where they differ."""
    shown = [f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} … {shown[-1]}"


def _labels(canvas: Canvas, x: float, y: float, lines: Sequence[str], *, anchor: str) -> None:
    """Small lines around the height y."""
    first = y + 4 - (len(lines) - 1) * 13 / 2
    for index, line in enumerate(lines):
        canvas.text(x, first + 13 * index, line, size=_SMALL, anchor=anchor, color=SOFT)


def _caption(canvas: Canvas, title: str, notes: Sequence[str]) -> None:
    """Below a panel: which layers it shows, and how they start."""
    canvas.text(canvas.left, 36, title, bold=True, math=False)
    _lines(canvas, canvas.left, 52, notes, columns=34)


def _lines(
    canvas: Canvas,
    x: float,
    y: float,
    notes: Sequence[str],
    *,
    columns: int = 90,
    math: bool = False,
) -> None:
    # A number stays with its sign.
    kept = [note.replace("× ", "×\u00a0") for note in notes]
    lines = [line for note in kept for line in textwrap.wrap(note, columns)]
    for index, line in enumerate(lines):
        canvas.text(x, y + _ROW * index, line, size=_SMALL, color=SOFT, math=math)
