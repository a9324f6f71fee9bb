"""Placements whose branches are turned up during training."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from zoo.errors import VariantError, choices, near_matches
from zoo.variants import papers
from zoo.variants.placement import Multiplier, Option, Ramp, Site, StackPlacement
from zoo.variants.plain.base import NORM, base_ends, base_of, base_site
from zoo.variants.variant import Context, Recipe, Variant

# Each schedule of the authors' code, of (steps of one layer T, layer i from 1, layers N).
_SCHEDULES: dict[str, Callable[[float, int, int], Multiplier]] = {
    "linear": lambda t, i, n: Multiplier(ramp=Ramp(t * i)),
    "sqrt": lambda t, i, n: Multiplier(ramp=Ramp(t * i, power=0.5)),
    "square": lambda t, i, n: Multiplier(ramp=Ramp(t * i, power=2.0)),
    "linear_equal": lambda t, i, n: Multiplier(ramp=Ramp(t * n)),
    "linear_reverse": lambda t, i, n: Multiplier(ramp=Ramp(t * (n + 1 - i))),
    "stagewise_0": lambda t, i, n: _stage(t, i, 0.0),
    "stagewise_L": lambda t, i, n: _stage(t, i, 1 / n),
    "stagewise_sqrt_L": lambda t, i, n: _stage(t, i, math.sqrt(1 / n)),
    "stagewise_sqrt_l": lambda t, i, n: _stage(t, i, math.sqrt(1 / i)),
    "fix_L": lambda t, i, n: Multiplier(1 / n),
    "fix_sqrt_L": lambda t, i, n: Multiplier(math.sqrt(1 / n)),
    "fix_sqrt_l": lambda t, i, n: Multiplier(math.sqrt(1 / i)),
}


def _stage(steps: float, layer: int, floor: float) -> Multiplier:
    """One layer after another, each from the floor to 1 in its own stretch of steps."""
    return Multiplier(ramp=Ramp(steps, floor=floor, start=steps * (layer - 1)))


def _branch_norm(context: Context, *, steps: int) -> Site:
    return Site(context.sublayer, norm_out=NORM, branch=Multiplier(ramp=Ramp(float(steps))))


def _pro_res(
    bases: Sequence[Variant], context: Context, *, base: str, steps: int, schedule: str
) -> Site:
    site = base_site(bases, base, context)
    gated = site.gate is not None and site.gate.form == "variance"
    if site.branch != Multiplier() or gated:
        raise VariantError(
            f"pro_res(base={base!r}): the base has a multiplier of its own on the branch; "
            "use one without, such as pre_norm or deep_norm"
        )
    branch = _SCHEDULES[schedule](float(steps), context.layer + 1, context.num_layers)
    return dataclasses.replace(site, branch=branch)


def _pro_res_ends(
    bases: Sequence[Variant], context: Context, *, base: str, steps: int, schedule: str
) -> StackPlacement:
    return base_ends(bases, base, context)


def _check_steps(*, steps: int) -> None:
    if steps < 1:
        raise VariantError(f"steps = {steps}: a schedule has at least 1; the papers' are thousands")


def _check_pro_res(
    bases: Sequence[Variant], *, base: str, steps: int, schedule: str
) -> dict[str, Option]:
    found = base_of(bases, base)
    _check_steps(steps=steps)
    if schedule not in _SCHEDULES:
        hint = near_matches(schedule, _SCHEDULES)
        raise VariantError(f"schedule = {schedule!r}{hint}; use {choices(_SCHEDULES)}")
    return {"base": found.spec}


SCHEDULED: tuple[Variant, ...] = (
    Variant(
        name="branch_norm",
        summary="post-norm whose branches are turned up from 0 during the first steps",
        equation="x' = N(x + min(1, t / T) F(x)),  t the optimizer's step",
        law=_branch_norm,
        final_norm="forbidden",
        options={"steps": 4000},
        check=_check_steps,
        paper=papers.BRANCH_NORM,
        recipe=Recipe(
            warmup=4000,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="second-hand: the post-norm recipe, with T as long as its warm-up",
        ),
        provenance="second_hand",
        note=(
            "The abstract says that the branch is scaled by the training period up to a step T, "
            "and ends as post-norm; the linear form and T = 4000 are from memory of the text. "
            "Evaluation takes the end of the schedule: post-norm."
        ),
    ),
)


def scheduled_around(bases: Sequence[Variant]) -> tuple[Variant, ...]:
    """The schedules that are put around another placement."""
    return (
        Variant(
            name="pro_res",
            summary="a placement whose branches are turned up from 0, shallow layers first",
            equation="the base's, with min(1, t / (T l)) on the branch of layer l = 1, 2, ...;  "
            "t the optimizer's step",
            law=functools.partial(_pro_res, bases),
            ends=functools.partial(_pro_res_ends, bases),
            options={"base": "pre_norm", "steps": 1000, "schedule": "linear"},
            check=functools.partial(_check_pro_res, bases),
            paper=papers.PRO_RES,
            recipe=Recipe(
                warmup=2000,
                schedule="wsd",
                weight_decay=0.1,
                clip_norm=1.0,
                source="the authors' scripts: AdamW, 2e-3 for 130M parameters to 6e-4 for 1B",
            ),
            note=(
                "steps is T, of one layer: the last of N is full after N T. Schedules have the "
                "names of the authors' code, whose fix_* it replaces by 1 after that many steps; "
                "here they stay. Evaluation takes the end of the schedule. The ends of the "
                "stack are the base's."
            ),
        ),
    )
