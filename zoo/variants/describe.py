"""A variant in full, for reading: everything here comes from the Variant and its Placement."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any

from zoo.errors import VariantError, choices, near_matches
from zoo.variants.placement import Multiplier, Placement, Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.variant import SUBLAYERS, Architecture, Recipe, Variant

# The matrix roles of each kind of sublayer, in the order in which they are applied.
_ROLES = {
    "self_attention": ("q", "k", "v", "o"),
    "cross_attention": ("xq", "xk", "xv", "xo"),
    "mlp": ("w1", "w2"),
}
_WIDTH = 92


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


@dataclasses.dataclass(frozen=True)
class Description:
    """A variant at one depth; `print` it, or take `to_json()`.

    Attributes:
        variant: the variant, with the option values that were asked for.
        architecture, d_model: what it was resolved for; d_model counts features.
        placement: every number of it, per stack, layer and sublayer.
    """

    variant: Variant
    architecture: Architecture
    d_model: int
    placement: Placement

    def __str__(self) -> str:
        return "\n".join(_text(self))

    def to_json(self) -> dict[str, Any]:
        """An object of strings, numbers, lists and objects; a value that differs by layer
        is a list with one entry per layer of its segment."""
        variant = self.variant
        return {
            "variant": self.placement.variant,
            "name": variant.name,
            "summary": variant.summary,
            "equation": variant.equation,
            "options": [
                {"name": name, "value": value, "default": variant.options[name]}
                for name, value in variant.values.items()
            ],
            "aliases": list(variant.aliases),
            "architecture": self.architecture,
            "d_model": self.d_model,
            "stacks": {name: _stack_json(stack) for name, stack in self.placement.stacks},
            "recipe": dataclasses.asdict(variant.recipe),
            "failure": variant.failure,
            "paper": dataclasses.asdict(variant.paper) | {"bibtex": variant.paper.bibtex()},
        }


def describe(
    variant: str | Variant,
    *,
    architecture: Architecture = "decoder",
    num_layers: int = 12,
    num_encoder_layers: int | None = None,
    d_model: int = 512,
    d_ff: int | None = None,
    num_heads: int = 8,
) -> Description:
    """A variant's wiring, constants, init gains, ends, recipe and paper at one depth.

    Args:
        num_layers: layers of the stack; of both stacks for `encoder_decoder`, unless
            `num_encoder_layers` says otherwise.
        d_model, d_ff, num_heads: widths, for laws that look at them; d_ff is 4 d_model
            unless given.

    Raises:
        VariantError: on an unknown or ambiguous name, a wrong option, an unknown
            architecture or a depth or width below 1.
    """
    chosen = get_variant(variant)
    if architecture not in SUBLAYERS:
        hint = near_matches(str(architecture), SUBLAYERS)
        raise VariantError(
            f"architecture = {architecture!r} is not known{hint}; use {choices(SUBLAYERS)}"
        )
    stacks = SUBLAYERS[architecture]
    if num_encoder_layers is not None and len(stacks) == 1:
        raise VariantError(
            f"num_encoder_layers = {num_encoder_layers}: {architecture!r} has one stack; "
            "use num_layers, or architecture = encoder_decoder"
        )
    encoder_layers = num_layers if num_encoder_layers is None else num_encoder_layers
    sizes = {
        "num_layers": num_layers,
        "num_encoder_layers": encoder_layers,
        "d_model": d_model,
        "d_ff": 4 * d_model if d_ff is None else d_ff,
        "num_heads": num_heads,
    }
    for name, size in sizes.items():
        if size < 1:
            raise VariantError(f"{name} = {size}: must be at least 1")
    placement = chosen.resolve(
        architecture,
        num_encoder_layers=encoder_layers if "encoder" in stacks else 0,
        num_decoder_layers=num_layers if "decoder" in stacks else 0,
        d_model=d_model,
        d_ff=sizes["d_ff"],
        num_heads=num_heads,
    )
    return Description(chosen, architecture, d_model, placement)


def segments(stack: StackPlacement) -> list[Segment]:
    """The stack's layers grouped by wiring, in the order in which each wiring first appears."""
    groups: dict[object, list[int]] = {}
    for index, layer in enumerate(stack.layers):
        groups.setdefault(tuple(site.structure() for site in layer), []).append(index)
    return [
        Segment(tuple(layers), tuple(stack.layers[index] for index in layers))
        for layers in groups.values()
    ]


def _text(description: Description) -> list[str]:
    variant = description.variant
    lines = [
        description.placement.variant,
        *_wrap(variant.summary, indent=2),
        *_wrap(variant.equation, indent=2),
        "",
        *_entry("options", _options(variant)),
        *_entry("aliases", ", ".join(variant.aliases) or "none"),
    ]
    for name, stack in description.placement.stacks:
        lines += ["", *_stack_text(name, stack, description.d_model)]
    lines += ["", *_entry("recipe", _recipe(variant.recipe))]
    if variant.failure:
        lines += _entry("known limits", variant.failure)
    paper = variant.paper
    names = [author.strip("{}").partition(",")[0] for author in paper.authors]
    few = len(names) <= 3 and names[-1] != "others"
    shown = ", ".join(names) if few else f"{names[0]} et al."
    place = f" ({paper.venue})" if paper.venue else ""
    lines += _entry("paper", f"{shown} {paper.year}: {paper.title}{place}")
    lines += _entry("", paper.link)
    return [*lines, "", *paper.bibtex().splitlines()]


def _options(variant: Variant) -> str:
    options = []
    for name, value in variant.values.items():
        note = f"default {variant.options[name]!r}" if name in variant.given else "default"
        options.append(f"{name} = {value!r} ({note})")
    return ", ".join(options) or "none"


def _stack_text(name: str, stack: StackPlacement, d_model: int) -> list[str]:
    count = len(stack.layers)
    lines = [f"{name}, {count} {'layer' if count == 1 else 'layers'}, d_model {d_model}"]
    if stack.stream != "plain":
        lines += _entry("  stream", stack.stream)
    lines += _entry("  ends", _ends(stack))
    for segment in segments(stack):
        lines += _entry("  layers", _span(segment.layers))
        # Sublayers that read alike share their lines.
        read = [(_site_text(column), column[0].sublayer) for column in segment.columns()]
        for text, alike in groupby(read, key=lambda pair: pair[0]):
            lines.append(f"    {', '.join(sublayer for _, sublayer in alike)}")
            lines += [line for row in text for line in _wrap(row, indent=6)]
        lines += _wrap(f"initial std: {_segment_gains(segment)}", indent=4)
    return lines


def _ends(stack: StackPlacement) -> str:
    return f"embedding norm {stack.embedding_norm}, final norm {stack.final_norm}"


def _site_text(column: Sequence[Site]) -> tuple[str, ...]:
    """Formula, numbers and requirements of one sublayer over the layers of a segment."""
    rows = [_formula(column)]
    for letter, part in (("a", "skip"), ("b", "branch")):
        multipliers = [site.multipliers()[part] for site in column]
        if _is_one(multipliers):
            continue
        values = _range([multiplier.value for multiplier in multipliers])
        learned = multipliers[0].learned
        rows.append(
            f"{letter} ({part}) = {values}"
            if learned is None
            else f"{letter} ({part}): learned {learned}, starts at {values}"
        )
    first = column[0]
    for slot in first.slots():
        gains = [site.slots()[slot].gain for site in column]
        if any(gain != 1.0 for gain in gains):
            rows.append(f"gain of {slot} starts at {_range(gains)}")
    if first.inner_norm is not None:
        rows.append("F needs a norm before its output matrix")
    if first.qk_norm is not None and "attention" in first.sublayer:
        rows.append(f"queries and keys {'need' if first.qk_norm else 'must not have'} a norm")
    return tuple(rows)


def _formula(column: Sequence[Site]) -> str:
    site = column[0]
    branch = "F(N(x))" if site.norm_in else "F(x)"
    branch = f"N({branch})" if site.norm_branch else branch
    skip = "x" if _is_one([each.skip for each in column]) else "a x"
    branch = branch if _is_one([each.branch for each in column]) else f"b {branch}"
    total = f"{skip} + {branch}"
    return f"x' = N({total})" if site.norm_out else f"x' = {total}"


def _is_one(multipliers: Iterable[Multiplier]) -> bool:
    return all(each == Multiplier() for each in multipliers)


def _segment_gains(segment: Segment) -> str:
    gains: dict[str, Sequence[float]] = {}
    for column in segment.columns():
        for role in _roles(column):
            gains[role] = [site.init_gain(role) for site in column]
    if all(gain == 1.0 for values in gains.values() for gain in values):
        return "the base initialisation's, unchanged"
    return _factors({role: _range(values) for role, values in gains.items()})


def _factors(gains: dict[str, Any]) -> str:
    """`v, o × 0.19; q, k × 1`: roles that share a factor together, in order of appearance."""
    sharing: dict[str, list[str]] = {}
    for role, value in gains.items():
        text = value if isinstance(value, str) else _number(value)
        sharing.setdefault(text, []).append(role)
    return "; ".join(f"{', '.join(roles)} × {value}" for value, roles in sharing.items())


def _roles(column: Sequence[Site]) -> tuple[str, ...]:
    """The sublayer's own matrices; a law may name others, which have no effect there."""
    asked = tuple(role for role, _ in column[0].init_gains)
    return _ROLES.get(column[0].sublayer, asked)


def _stack_json(stack: StackPlacement) -> dict[str, Any]:
    return {
        "num_layers": len(stack.layers),
        "stream": stack.stream,
        "ends": {"embedding_norm": stack.embedding_norm, "final_norm": stack.final_norm},
        "segments": [
            {
                "layers": list(segment.layers),
                "sublayers": [_column_json(column) for column in segment.columns()],
            }
            for segment in segments(stack)
        ],
    }


def _column_json(column: Sequence[Site]) -> dict[str, Any]:
    first = column[0]
    return {
        "sublayer": first.sublayer,
        "formula": _formula(column),
        "norms": {
            slot: _per_layer([site.slots()[slot].gain for site in column]) for slot in first.slots()
        },
        "qk_norm": first.qk_norm if "attention" in first.sublayer else None,
        "skip": _per_layer([site.skip.value for site in column]),
        "skip_learned": first.skip.learned,
        "branch": _per_layer([site.branch.value for site in column]),
        "branch_learned": first.branch.learned,
        "init_gains": {
            role: _per_layer([site.init_gain(role) for site in column]) for role in _roles(column)
        },
    }


def _per_layer(values: list[float]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else values


def _recipe(recipe: Recipe) -> str:
    parts = []
    if recipe.warmup is not None:
        parts.append(f"warm-up {recipe.warmup:,} updates" if recipe.warmup else "no warm-up")
    if recipe.warmup_fraction is not None:
        parts.append(f"warm-up {recipe.warmup_fraction:.0%} of the run")
    for field in ("lr", "schedule", "beta2", "weight_decay", "clip_norm"):
        value = getattr(recipe, field)
        if value is not None:
            parts.append(f"{field} {value:g}" if isinstance(value, float) else f"{field} {value}")
    text = ", ".join(parts) or "none that is particular to it"
    return f"{text} (source: {recipe.source})" if recipe.source else text


def _span(layers: Sequence[int]) -> str:
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


def _range(values: Sequence[float]) -> str:
    if len(set(values)) == 1:
        return _number(values[0])
    return f"{_number(values[0])} (first) … {_number(values[-1])} (last)"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _entry(label: str, text: str) -> list[str]:
    lead = label.ljust(14)
    return textwrap.wrap(
        text, _WIDTH, initial_indent=lead, subsequent_indent=" " * 14, break_on_hyphens=False
    )


def _wrap(text: str, *, indent: int) -> list[str]:
    lead = " " * indent
    return textwrap.wrap(
        text, _WIDTH, initial_indent=lead, subsequent_indent=lead + "  ", break_on_hyphens=False
    )
