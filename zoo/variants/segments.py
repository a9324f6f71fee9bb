"""A resolved stack as a reader sees it: layers that are wired alike together, and their form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import pairwise

from zoo.variants.placement import Multiplier, Site, StackPlacement

# The matrix roles of each kind of sublayer, in the order in which they are applied.
MATRICES = {
    "self_attention": ("q", "k", "v", "o"),
    "linear_attention": ("q", "k", "v", "o"),
    "cross_attention": ("xq", "xk", "xv", "xo"),
    "mlp": ("w1", "w2"),
    "parallel": ("q", "k", "v", "o", "w1", "w2"),
}
_EVERY_MATRIX = {role for roles in MATRICES.values() for role in roles}
Column = Sequence[Site]  # one sublayer over the layers of a segment


@dataclasses.dataclass(frozen=True)
class Segment:
    """Layers of a stack that are wired alike.

    Attributes:
        layers: their indices from 0, ascending.
        sites: [len(layers)][sublayers]; within a column only the numbers differ.
    """

    layers: tuple[int, ...]
    sites: tuple[tuple[Site, ...], ...]

    def columns(self) -> list[tuple[Site, ...]]:
        """One tuple per sublayer, over the layers."""
        return list(zip(*self.sites, strict=True))


def segments(stack: StackPlacement) -> list[Segment]:
    """The stack's layers grouped by wiring, in the order in which each wiring first appears."""
    groups: dict[object, list[int]] = {}
    for index, layer in enumerate(stack.layers):
        groups.setdefault(tuple(site.structure() for site in layer), []).append(index)
    return [
        Segment(tuple(layers), tuple(stack.layers[index] for index in layers))
        for layers in groups.values()
    ]


def formula(column: Column) -> str:
    """A site of the plain stream as an equation.

    a and b are its multipliers, c_in, c_branch and c_out constants behind its norms, G a gate
    whose Jacobian is 1, alpha and beta one that keeps the variance; each is left out where it
    is 1 or not there.
    """
    site = column[0]
    branch = f"F({_norm(column, 'norm_in', 'x')})"
    branch = _norm(column, "norm_branch", branch)
    skip = _norm(column, "norm_in", "x") if site.skip_normed else "x"
    gate = site.gate
    if gate is not None and gate.form == "variance":
        skip, branch = f"alpha {skip}", f"beta {branch}"
    elif gate is not None and gate.on == "skip":
        skip = f"G({skip})"
    skip = skip if is_one(each.skip for each in column) else f"a {skip}"
    branch = branch if is_one(each.branch for each in column) else f"b {branch}"
    total = f"{skip} + {branch}"
    if gate is not None and gate.form == "straight_through" and gate.on == "sum":
        total = f"G({total})"
    return f"x' = {_norm(column, 'norm_out', total)}"


def _norm(column: Column, slot: str, inside: str) -> str:
    """N(inside) where the slot holds a norm, with its constant where that is not 1."""
    slots = [site.slots().get(slot) for site in column]
    if slots[0] is None:
        return inside
    constant = any(each is not None and each.scale != 1.0 for each in slots)
    return f"c_{slot.removeprefix('norm_')} N({inside})" if constant else f"N({inside})"


def is_one(multipliers: Iterable[Multiplier]) -> bool:
    """Whether none of them does anything."""
    return all(each == Multiplier() for each in multipliers)


def matrices(column: Column) -> tuple[str, ...]:
    """The sublayer's own matrices, and those of the stream that its law speaks of.

    A law may name the matrices of other sublayers, which has no effect there.
    """
    own = MATRICES.get(column[0].sublayer, ())
    asked = tuple(role for role, _ in column[0].init_gains)
    return (*own, *(role for role in asked if role not in _EVERY_MATRIX))


def has_attention(site: Site) -> bool:
    """Whether F has queries and keys."""
    return site.sublayer != "mlp"


def has_mlp(site: Site) -> bool:
    """Whether F has an activation."""
    return site.sublayer in ("mlp", "parallel")


def span(layers: Sequence[int]) -> str:
    """`0–2`, `0, 2, 4 … 10` or `0, 5, 6`: indices from 0."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    steps = {later - earlier for earlier, later in pairwise(layers)}
    if len(layers) > 4 and len(runs) == len(layers) and len(steps) == 1:
        return f"{layers[0]}, {layers[1]}, {layers[2]} … {layers[-1]}"
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def ranged(values: Sequence[float]) -> str:
    """One number, or the first and the last of several."""
    if len(set(values)) == 1:
        return number(values[0])
    return f"{number(values[0])} (first) … {number(values[-1])} (last)"


def number(value: float) -> str:
    """Six digits."""
    return f"{value:.6g}"
