"""Placements whose skip is learned: by a profile, by a gate, or by both multipliers tied."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from zoo.errors import VariantError
from zoo.variants import papers
from zoo.variants.placement import Gate, Multiplier, NormSlot, Option, Site, StackPlacement
from zoo.variants.plain.base import NORM, base_ends, base_of, base_site
from zoo.variants.variant import Context, Recipe, Variant

# A norm without gain or shift; Muse Spark's on the branch has its own eps.
_BARE, _BARE_BRANCH = NormSlot(affine=False), NormSlot(affine=False, eps=1e-8)


def _admin(context: Context) -> Site:
    # admin-torch's closed form, which a profile takes the place of.
    sublayers = context.num_sublayers
    start = math.sqrt((sublayers + 1) / math.log(sublayers + 1) - 1)
    return Site(context.sublayer, norm_out=NORM, skip=Multiplier(start, learned="vector"))


def _gpas(bases: Sequence[Variant], context: Context, *, base: str) -> Site:
    site = base_site(bases, base, context)
    gate = Gate("straight_through", on="sum" if site.norm_out is None else "skip")
    return dataclasses.replace(site, gate=gate)


def _gpas_ends(bases: Sequence[Variant], context: Context, *, base: str) -> StackPlacement:
    return base_ends(bases, base, context)


def _check_gpas(bases: Sequence[Variant], *, base: str) -> dict[str, Option]:
    return {"base": base_of(bases, base).spec}


def _variance_gate(context: Context, *, temperature: float) -> Site:
    gate = Gate("variance", temperature=temperature)
    return Site(context.sublayer, norm_in=NORM, norm_branch=_BARE_BRANCH, gate=gate)


def _variance_gate_ends(context: Context, *, temperature: float) -> StackPlacement:
    return StackPlacement(embedding_norm="required", final_norm="required", embedding_slot=_BARE)


def _check_temperature(*, temperature: float) -> None:
    if not temperature > 0.0:
        raise VariantError(
            f"variance_gate(temperature={temperature}): it divides, and lies above 0; "
            "Muse Spark's is 0.3"
        )


LEARNED: tuple[Variant, ...] = (
    Variant(
        name="admin",
        summary="post-norm with a learned skip that starts from a profile of one batch",
        equation="x' = N(omega x + F(x)),  omega_i^2 = Var(x_0) + sum of Var(F_j) over j < i",
        law=_admin,
        final_norm="forbidden",
        hooks=("profile",),
        paper=papers.ADMIN,
        recipe=Recipe(
            warmup=8000,
            lr=1e-3,
            schedule="inverse_sqrt",
            beta2=0.98,
            weight_decay=0.0,
            source="the authors' scripts for WMT 2014",
        ),
        failure="a profile of another batch, dropout or embedding scale is another start",
        note="Each stack is profiled by itself. A model that is not profiled starts from the "
        "authors' later closed form sqrt((S + 1) / ln(S + 1) - 1), S sublayers in the stack.",
    ),
    Variant(
        name="variance_gate",
        summary="learned per-feature weights of skip and branch whose squares add up to 1",
        equation="x' = a x + b N_branch(F(N_in(x))),  b = sigmoid(w / temperature), a^2 = 1 - b^2",
        law=_variance_gate,
        ends=_variance_gate_ends,
        embedding_norm="required",
        final_norm="required",
        options={"temperature": 0.3},
        check=_check_temperature,
        aliases=("muse_spark",),
        paper=papers.MUSE_SPARK,
        recipe=Recipe(source="not published"),
        used_by=("Muse Spark",),
        note="Gates start at 0, where the published model draws them. Its MLP also scales F by a "
        "learned vector before the norm of the branch, which w2 can hold; the norms of branch "
        "and embedding have no weights.",
    ),
)


def gated_around(bases: Sequence[Variant]) -> tuple[Variant, ...]:
    """The variants that put a gate on another placement, one of `bases`."""
    return (
        Variant(
            name="gpas",
            summary="a learned gate that shrinks the stream and leaves its gradient alone",
            equation="x' = G(x + F(N(x))) or N(G(x) + F(x)),  G(x) = x - SiLU(g) stop_gradient(x)",
            law=functools.partial(_gpas, bases),
            ends=functools.partial(_gpas_ends, bases),
            options={"base": "pre_norm"},
            check=functools.partial(_check_gpas, bases),
            paper=papers.GPAS,
            recipe=Recipe(weight_decay=0.0, source="the authors' code: Adam without weight decay"),
            note="The gate multiplies the sum of bases that end without a norm, and the skip "
            "before its multiplier in the others. The authors share one gate between the "
            "sublayers of a layer, clip its gradient by itself in their larger runs, and draw "
            "embeddings with a deviation of sqrt(2/5).",
        ),
    )
