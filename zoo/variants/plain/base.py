"""What the tables of plain placements share."""

from __future__ import annotations

from zoo.variants.placement import NormSlot

NORM = NormSlot()

# The matrices on the value path and in the MLP: those whose product a branch's size is.
BRANCH_ROLES = ("v", "o", "w1", "w2", "xv", "xo")


def gains(value: float, roles: tuple[str, ...] = BRANCH_ROLES) -> tuple[tuple[str, float], ...]:
    """The same init gain for several roles."""
    return tuple((role, value) for role in roles)
