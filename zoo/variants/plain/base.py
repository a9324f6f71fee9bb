"""What the tables of plain placements share."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import VariantError, choices, near_matches
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.variant import Context, Variant, fold_name, parse_spec

NORM = NormSlot()

# The matrices on the value path and in the MLP: those whose product a branch's size is.
BRANCH_ROLES = ("v", "o", "w1", "w2", "xv", "xo")
# All matrices of a layer.
LAYER_ROLES = ("q", "k", "xq", "xk", *BRANCH_ROLES)


def gains(value: float, roles: tuple[str, ...] = BRANCH_ROLES) -> tuple[tuple[str, float], ...]:
    """The same init gain for several roles."""
    return tuple((role, value) for role in roles)


def base_of(tables: Sequence[Variant], spec: str) -> Variant:
    """The variant that another one is put around, by `name` or `name(option=value)`.

    Args:
        tables: the variants to choose from; those that wrap others are in none of them.

    Raises:
        VariantError: on a name that is in no table, or a base whose start is not in its sites.
    """
    name, options = parse_spec(spec)
    for variant in tables:
        if fold_name(name) in {fold_name(word) for word in (variant.name, *variant.aliases)}:
            if variant.base_init is not None or variant.hooks:
                raise VariantError(
                    f"base = {variant.name!r} draws or keeps its weights in a way of its own, "
                    "which does not carry over; use another base"
                )
            return variant.with_options(**options)
    names = [variant.name for variant in tables]
    hint = near_matches(name, names)
    raise VariantError(f"base = {spec!r} is not known{hint}; use {choices(names)}")


def base_site(tables: Sequence[Variant], spec: str, context: Context) -> Site:
    """The site of the base, for a law that changes it."""
    return base_of(tables, spec).site(context)


def base_ends(tables: Sequence[Variant], spec: str, context: Context) -> StackPlacement:
    """The ends of the base's stack."""
    return base_of(tables, spec).stack_ends(context)


def refuse_parallel(context: Context, variant: str, reason: str, nearest: str) -> None:
    """VariantError where attention and MLP are one sublayer, for laws that tell them apart."""
    if context.sublayer == "parallel":
        raise VariantError(
            f"layout = parallel: {variant} {reason}; use layout = sequential, or {nearest}"
        )
