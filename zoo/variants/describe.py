"""A variant in full, for reading: everything here comes from the Variant and its Placement."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from zoo.errors import VariantError, choices, near_matches
from zoo.variants import describe_text, serial
from zoo.variants.placement import Placement, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.segments import Column, formula, has_attention, matrices, segments
from zoo.variants.variant import MOST_LAYERS, SUBLAYERS, Architecture, Variant


@dataclasses.dataclass(frozen=True)
class Description:
    """A variant at one depth; `print` it, or take `to_json()`.

    Attributes:
        variant: the variant, with the option values that were asked for.
        architecture, d_model: what it was resolved for; d_model counts features.
        placement: every number of it, per stack, layer and sublayer.
        widths: stack -> its d_model, where it has another.
    """

    variant: Variant
    architecture: Architecture
    d_model: int
    placement: Placement
    widths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        widths = {name: self.d_model for name, _ in self.placement.stacks} | dict(self.widths)
        return "\n".join(describe_text.lines(self.variant, self.placement, widths))

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
            "stacks": {
                name: _stack_json(stack, variant.equation) for name, stack in self.placement.stacks
            },
            "base_init": self.placement.base_init,
            "hooks": list(self.placement.hooks),
            "recipe": dataclasses.asdict(variant.recipe),
            "failure": variant.failure,
            "note": variant.note,
            "provenance": variant.provenance,
            "used_by": list(variant.used_by),
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
            architecture, a depth or width below 1, or more than `MOST_LAYERS` layers.
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
        if name.endswith("layers") and size > MOST_LAYERS:
            raise VariantError(f"{name} = {size}: must be at most {MOST_LAYERS:,}")
    placement = chosen.resolve(
        architecture,
        num_encoder_layers=encoder_layers if "encoder" in stacks else 0,
        num_decoder_layers=num_layers if "decoder" in stacks else 0,
        d_model=d_model,
        d_ff=sizes["d_ff"],
        num_heads=num_heads,
    )
    return Description(chosen, architecture, d_model, placement)


def _stack_json(stack: StackPlacement, equation: str) -> dict[str, Any]:
    ends = serial.encode(dataclasses.replace(stack, layers=()))
    always = {"embedding_norm": stack.embedding_norm, "final_norm": stack.final_norm}
    own = {name: value for name, value in ends.items() if name not in ("stream", "options")}
    return {
        "num_layers": len(stack.layers),
        "stream": stack.stream,
        "options": dict(stack.options),
        "ends": always | own,
        "segments": [
            {
                "layers": list(segment.layers),
                "sublayers": [
                    # The form of the plain stream is not that of others.
                    {"formula": formula(column) if stack.stream == "plain" else equation}
                    | _column_json(column)
                    for column in segment.columns()
                ],
            }
            for segment in segments(stack)
        ],
    }


def _column_json(column: Column) -> dict[str, Any]:
    """The usual figures by name, then everything that the site says."""
    first = column[0]
    return {
        "sublayer": first.sublayer,
        "norms": {
            slot: _per_layer([site.slots()[slot].gain for site in column]) for slot in first.slots()
        },
        "qk_norm": first.qk_norm if has_attention(first) else None,
        "skip": _per_layer([site.skip.value for site in column]),
        "skip_learned": first.skip.learned,
        "branch": _per_layer([site.branch.value for site in column]),
        "branch_learned": first.branch.learned,
        "init_gains": {
            role: _per_layer([site.init_gain(role) for site in column]) for role in matrices(column)
        },
        "site": _merged([serial.encode(site) for site in column]),
    }


def _merged(records: list[Any]) -> Any:
    """Equal objects as one; in others, each value that differs as a list over the layers."""
    if all(record == records[0] for record in records):
        return records[0]
    if not all(isinstance(record, dict) for record in records):
        return records
    names = dict.fromkeys(name for record in records for name in record)
    return {name: _merged([record.get(name) for record in records]) for name in names}


def _per_layer(values: list[float]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else values
