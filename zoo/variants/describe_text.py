"""A description as lines of text: what a placement says, in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from zoo.variants.placement import Multiplier, NormSlot, Placement, Site, StackPlacement, Start
from zoo.variants.segments import (
    Column,
    Segment,
    formula,
    has_attention,
    has_mlp,
    is_one,
    matrices,
    number,
    ranged,
    segments,
    span,
)
from zoo.variants.streams import STREAMS
from zoo.variants.variant import Paper, Recipe, Variant

_WIDTH = 92
# How a schedule rises, by its power.
_SHAPES = {0.5: "with the root of the step", 1.0: "linearly", 2.0: "with the square of the step"}
_HOOKS = {
    "profile": "the skips are set from one batch before training (zoo.profile)",
    "sphere": "weights are put back to unit length after every step",
}
_PROVENANCE = {
    "first_hand": "first-hand: the equations were read in the paper or its code",
    "second_hand": "second-hand: the equations were read in other texts than the paper or its code",
}


def lines(variant: Variant, placement: Placement, widths: Mapping[str, int]) -> list[str]:
    """Everything, to be printed; `widths` is d_model by stack."""
    found = [
        placement.variant,
        *_wrap(variant.summary, indent=2),
        *_wrap(variant.equation, indent=2),
        "",
        *_entry("options", _options(variant)),
        *_entry("aliases", ", ".join(variant.aliases) or "none"),
    ]
    for name, stack in placement.stacks:
        found += ["", *_stack(name, stack, widths[name])]
    found.append("")
    if placement.base_init is not None:
        found += _entry("base init", f"{placement.base_init}, in place of the architecture's")
    for hook in placement.hooks:
        found += _entry("hook", _HOOKS[hook])
    found += _entry("recipe", recipe_text(variant.recipe))
    if variant.failure:
        found += _entry("known limits", variant.failure)
    if variant.note:
        found += _entry("note", variant.note)
    if variant.used_by:
        found += _entry("used by", ", ".join(variant.used_by))
    found += _entry("provenance", _PROVENANCE[variant.provenance])
    found += _entry("paper", cited(variant.paper))
    found += _entry("", variant.paper.link)
    return [*found, "", *variant.paper.bibtex().splitlines()]


def cited(paper: Paper) -> str:
    """Authors, year, title and venue."""
    names = [author.strip("{}").partition(",")[0] for author in paper.authors]
    few = len(names) <= 3 and names[-1] != "others"
    shown = ", ".join(names) if few else f"{names[0]} et al."
    place = f" ({paper.venue})" if paper.venue else ""
    return f"{shown} {paper.year}: {paper.title}{place}"


def recipe_text(recipe: Recipe) -> str:
    """Its settings and where they come from."""
    parts = []
    if recipe.warmup is not None:
        parts.append(f"warm-up {recipe.warmup:,} updates" if recipe.warmup else "no warm-up")
    if recipe.warmup_fraction is not None:
        parts.append(f"warm-up {recipe.warmup_fraction:.4g} of the run")
    for field in ("lr", "schedule", "beta2", "weight_decay", "clip_norm"):
        value = getattr(recipe, field)
        if value is not None:
            parts.append(f"{field} {value:g}" if isinstance(value, float) else f"{field} {value}")
    text = ", ".join(parts) or "none that is particular to it"
    return f"{text} (source: {recipe.source})" if recipe.source else text


def ends_rows(stack: StackPlacement) -> Iterator[str]:
    """What sits at the ends of a stack, a row each."""
    yield f"embedding norm {stack.embedding_norm}, final norm {stack.final_norm}"
    if stack.embedding_multiplier != 1.0:
        yield f"embedding × {number(stack.embedding_multiplier)}"
    if stack.embedding_gradient != 1.0:
        yield f"gradient of the embedding × {number(stack.embedding_gradient)}"
    for name, slot in (("embedding", stack.embedding_slot), ("final", stack.final_slot)):
        if slot != NormSlot():
            yield f"{name} norm: {', '.join(_slot([slot]))}"
    if stack.logit_scale != Multiplier():
        yield f"logits × {multiplier_text([stack.logit_scale])}"
    if any(gain != 1.0 for _, gain in stack.init_gains):
        shown = {role: gain for role, gain in stack.init_gains if gain != 1.0}
        yield f"initial std: {_factors(shown)}"
    yield from (f"{role} starts at {start_text([start])}" for role, start in stack.starts)
    yield from rates_rows(stack)


def multiplier_text(multipliers: Sequence[Multiplier]) -> str:
    """One multiplier over layers: `0.5`, or `learned vector, starts at 0.1`, with its schedule."""
    first = multipliers[0]
    text = ranged([each.value for each in multipliers])
    if first.learned is not None:
        text = f"learned {first.learned}, starts at {text}"
        if first.stored is not None:
            text += f" (as {ranged([each.start for each in multipliers])} × "
            text += f"{ranged([each.number for each in multipliers])})"
    ramps = [each.ramp for each in multipliers if each.ramp is not None]
    if not ramps:
        return text
    power = ramps[0].power
    shape = _SHAPES.get(power, f"with the step to the power {number(power)}")
    floor, start = (ranged([getattr(ramp, name) for ramp in ramps]) for name in ("floor", "start"))
    end = ranged([ramp.start + ramp.steps for ramp in ramps])
    wait = f"until step {start}" if start != "0" else "at step 0"
    return f"{text} × a schedule: {floor} {wait}, {shape} to 1 at step {end}"


def site_rows(column: Column, stack: StackPlacement) -> tuple[str, ...]:
    """Formula, numbers and requirements of one sublayer over the layers of a segment."""
    return tuple(_site_rows(column, stack))


def _site_rows(column: Column, stack: StackPlacement) -> Iterator[str]:
    first = column[0]
    if stack.stream == "plain":
        yield formula(column)
    else:
        wired = STREAMS[stack.stream].wiring(stack)
        branch = f"N_in({wired.step(first).reads})" if first.norm_in else wired.step(first).reads
        yield f"f = F({branch});  {',  '.join(wired.written(first))}"
        if first.slots():
            yield f"norms: {', '.join(first.slots())}"
    for letter, part in (("a", "skip"), ("b", "branch")):
        multipliers = [site.multipliers()[part] for site in column]
        if not is_one(multipliers):
            joint = " = " if first.multipliers()[part].learned is None else ": "
            yield f"{letter} ({part}){joint}{multiplier_text(multipliers)}"
    yield from _gate(first)
    for role in first.slots():
        slots = [site.slots()[role] for site in column]
        if any(slot.scale != 1.0 for slot in slots):
            own = f"c_{role.removeprefix('norm_')} (behind {role})"
            yield f"{own} = {ranged([slot.scale for slot in slots])}"
        if any(slot.gain != 1.0 for slot in slots):
            yield f"gain of {role} starts at {ranged([slot.gain for slot in slots])}"
        kinds = _slot(
            [NormSlot(kind=s.kind, eps=s.eps, bias=s.bias, affine=s.affine) for s in slots]
        )
        if kinds:
            yield f"{role}: {', '.join(kinds)}"
    yield from _asks(column)
    for name, _ in first.constants:
        yield f"{name} = {ranged([dict(site.constants)[name] for site in column])}"
    for role, _ in first.starts:
        starts = [dict(site.starts)[role] for site in column if role in dict(site.starts)]
        yield f"{role} starts at {start_text(starts)}"
    if first.traits:
        yield f"here: {', '.join(first.traits)}"
    yield from rates_rows(first)


def _gate(site: Site) -> Iterator[str]:
    gate = site.gate
    if gate is None:
        return
    if gate.form == "variance":
        yield (
            f"beta = sigmoid(w / {number(gate.temperature)}), alpha^2 = 1 - beta^2 for each "
            f"feature; w learned, starts at {number(gate.start)}"
        )
        return
    yield (
        "G(z) = (1 - SiLU(g)) z with the gradient of z; g a learned scalar, starts at "
        f"{number(gate.start)}"
    )


def _slot(slots: Sequence[NormSlot]) -> list[str]:
    """What is particular to a norm."""
    first = slots[0]
    parts: list[str] = [first.kind] if first.kind is not None else []
    parts += [f"eps {number(first.eps)}"] if first.eps is not None else []
    if not first.affine:
        parts.append("without weights")
    elif first.bias is not None:
        parts.append("with a shift" if first.bias else "without a shift")
    if first.scale != 1.0:
        parts.append(f"× {number(first.scale)}")
    if first.gain != 1.0:
        parts.append(f"gain starts at {number(first.gain)}")
    return parts


def _asks(column: Column) -> Iterator[str]:
    """What a site asks of F."""
    first = column[0]
    if first.inner_norm is not None:
        yield "F needs a norm before its output matrix"
    if has_attention(first):
        if first.qk_norm is not None:
            yield f"queries and keys {'need' if first.qk_norm else 'must not have'} a norm"
        if first.qk_unit:
            yield "queries and keys have unit length"
        if first.qk_scale is not None:
            yield f"queries and keys × {multiplier_text(_every(column, 'qk_scale'))}"
        if first.v_norm:
            yield "the values of each head have a norm"
        if first.attention_scale is not None:
            yield f"attention scores × {number(first.attention_scale)}, not head_dim^-0.5"
        if first.score_scale:
            yield "each head's scores × a learned scalar, starts at 10"
        if first.head_scale:
            yield "each head's output × a learned scalar, starts at 1"
    if has_mlp(first) and first.hidden_scale is not None:
        yield f"what enters the activation × {multiplier_text(_every(column, 'hidden_scale'))}"
    if first.scalar_biases:
        yield "F has a learned scalar, from 0, before each of its operations"


def _every(column: Column, field: str) -> list[Multiplier]:
    return [getattr(site, field) for site in column]


def rates_rows(owner: Site | StackPlacement) -> Iterator[str]:
    """Factors on learning rate and weight decay."""
    for name, factors in (
        ("learning rate", owner.lr_multipliers),
        ("weight decay", owner.decay_multipliers),
    ):
        shown = {role: factor for role, factor in factors if factor != 1.0}
        if shown:
            yield f"{name}: {_factors(shown)}"


def _stack(name: str, stack: StackPlacement, d_model: int) -> list[str]:
    count = len(stack.layers)
    found = [f"{name}, {count} {'layer' if count == 1 else 'layers'}, d_model {d_model}"]
    if stack.stream != "plain":
        settings = ", ".join(f"{option} {value}" for option, value in stack.options)
        found += _entry("  stream", f"{stack.stream} ({settings})" if settings else stack.stream)
        wired = STREAMS[stack.stream].wiring(stack)
        if wired.where:
            found += _entry("  where", ";  ".join(wired.where))
        found += _entry("  opens with", f"{',  '.join(wired.opened())}, e the embedding")
        found += _entry("  closes with", wired.closes)
    label = "  ends"
    for row in ends_rows(stack):
        found += _entry(label, row)
        label = ""
    for segment in segments(stack):
        found += _entry("  layers", span(segment.layers))
        # Sublayers that read alike share their lines.
        read = [(site_rows(each, stack), each[0].sublayer) for each in segment.columns()]
        for rows, alike in groupby(read, key=lambda pair: pair[0]):
            found.append(f"    {', '.join(sublayer for _, sublayer in alike)}")
            found += [line for row in rows for line in _wrap(row, indent=6)]
        found += _wrap(f"initial std: {gains_text(segment)}", indent=4)
    return found


def _options(variant: Variant) -> str:
    options = []
    for name, value in variant.values.items():
        note = f"default {variant.options[name]!r}" if name in variant.given else "default"
        options.append(f"{name} = {value!r} ({note})")
    return ", ".join(options) or "none"


def gains_text(segment: Segment) -> str:
    """Factors on the standard deviation of the base init, by role."""
    gains: dict[str, Sequence[float]] = {}
    for column in segment.columns():
        for role in matrices(column):
            values = [site.init_gain(role) for site in column]
            label = role
            # The stream's own matrices are there in every sublayer, and may start differently.
            if gains.get(role, values) != values:
                label = f"{role} ({column[0].sublayer})"
            gains[label] = values
    if all(gain == 1.0 for values in gains.values() for gain in values):
        return "the base initialisation's, unchanged"
    return _factors({role: ranged(values) for role, values in gains.items()})


def _factors(gains: dict[str, Any]) -> str:
    """`v, o × 0.19; q, k × 1`: roles that share a factor together, in order of appearance."""
    sharing: dict[str, list[str]] = {}
    for role, value in gains.items():
        text = value if isinstance(value, str) else number(value)
        sharing.setdefault(text, []).append(role)
    return "; ".join(f"{', '.join(roles)} × {value}" for value, roles in sharing.items())


def start_text(starts: Sequence[Start]) -> str:
    """Where an array starts: its numbers while they are few and the same in every layer."""
    rows = [start if isinstance(start, tuple) else (start,) for start in starts]
    if all(len(row) == 1 for row in rows):
        return ranged([row[0] for row in rows])
    if all(len(set(row)) == 1 for row in rows):
        return f"{ranged([row[0] for row in rows])} (all {len(rows[0])})"
    by_layer = ", by layer" if len(set(rows)) > 1 else ""
    if len(rows[0]) <= 4:
        return f"({', '.join(map(number, rows[0]))}){by_layer and ' (first)' + by_layer}"
    low, high = (number(pick(value for row in rows for value in row)) for pick in (min, max))
    return f"{len(rows[0])} values from {low} to {high}{by_layer}"


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
