"""Placements whose branches start at or near zero, by a learned number that grows."""

from __future__ import annotations

from zoo.errors import VariantError
from zoo.variants import papers
from zoo.variants.placement import Multiplier, NormSlot, Site
from zoo.variants.plain.base import NORM
from zoo.variants.variant import Context, Recipe, Variant


def _swin_v2_norm(context: Context) -> Site:
    # Scores are cosines times a learned factor, so that nothing divides by the width of a head.
    return Site(
        context.sublayer,
        norm_branch=NormSlot(0.0),
        qk_unit=True,
        score_scale=True,
        attention_scale=1.0,
    )


def _layer_scale(context: Context, *, start: float) -> Site:
    value = start or _layer_scale_start(context.num_layers)
    return Site(context.sublayer, norm_in=NORM, branch=Multiplier(value, learned="vector"))


def _layer_scale_start(num_layers: int) -> float:
    """CaiT's choice (2103.17239, section 2)."""
    if num_layers <= 18:
        return 0.1
    return 1e-5 if num_layers <= 24 else 1e-6


def _skip_init(context: Context, *, start: float) -> Site:
    return Site(context.sublayer, branch=Multiplier(start, learned="scalar"))


def _check_start(*, start: float) -> None:
    if start < 0.0:
        raise VariantError(f"layer_scale(start={start}): above 0, or 0 for CaiT's at each depth")


SMALL_START: tuple[Variant, ...] = (
    Variant(
        name="swin_v2_norm",
        summary="norm on the branch's output, with gain 0 at the start; attention by cosine",
        equation="x' = x + N(F(x)), gain of N 0 at the start, softmax(s cos(q, k)), s learned and "
        "at most 100;  y = N_final(x_S)",
        law=_swin_v2_norm,
        final_norm="required",
        paper=papers.SWIN_V2,
        recipe=Recipe(
            schedule="cosine",
            source="2111.09883: AdamW with a cosine schedule; its rates are those of vision",
        ),
        failure="with unbounded scores in place of cosines the gradient explodes with depth",
        note=(
            "The largest Swin V2 models have one more norm on the stream every six layers, which "
            "is left out here. Stages, windows and biases by relative position are a model's "
            "(`stage_layers`). The shift of the norm starts at 0 as well, as always."
        ),
        used_by=("Swin Transformer V2",),
    ),
    Variant(
        name="layer_scale",
        summary="pre-norm whose branches enter through a learned vector that starts small",
        equation="x' = x + lambda * F(N(x)), lambda small at the start;  y = N_final(x_S)",
        law=_layer_scale,
        final_norm="required",
        options={"start": 0.0},
        check=_check_start,
        aliases=("cait",),
        paper=papers.CAIT,
        recipe=Recipe(
            warmup_fraction=0.0125,
            schedule="cosine",
            weight_decay=0.05,
            source="DeiT's (2012.12877, table 9), which CaiT keeps: 5 epochs of warm-up in 400",
        ),
        note=(
            "start = 0 takes CaiT's value for the depth: 0.1 up to 18 layers, 1e-5 up to 24, "
            "1e-6 beyond."
        ),
        used_by=("CaiT", "DINOv2"),
    ),
    Variant(
        name="skip_init",
        summary="no norm at all: a learned scalar on each branch, 0 or small at the start",
        equation="x' = x + alpha F(x),  alpha = start at the start",
        law=_skip_init,
        options={"start": 0.0},
        paper=papers.SKIP_INIT,
        recipe=Recipe(warmup=0, schedule="constant", source="rezero's, of the same form"),
        failure="as rezero: with start = 0 the first step moves no matrix of a branch",
        note=(
            "Published for residual networks without batch norm, where 1 / sqrt(blocks) is the "
            "other start; with start = 0 it is rezero."
        ),
    ),
)
