"""The placements that the others are measured against."""

from __future__ import annotations

import math

from zoo.errors import VariantError
from zoo.variants import papers
from zoo.variants.placement import Multiplier, Site
from zoo.variants.plain.base import NORM, gains
from zoo.variants.variant import Context, Recipe, Variant


def _post_norm(context: Context) -> Site:
    return Site(context.sublayer, norm_out=NORM)


def _pre_norm(context: Context, *, scaled_init: bool) -> Site:
    # GPT-2 divides by the root of the number of residual *sublayers*.
    gain = context.num_sublayers**-0.5 if scaled_init else 1.0
    scaled = gains(gain, ("o", "w2", "xo")) if scaled_init else ()
    return Site(context.sublayer, norm_in=NORM, init_gains=scaled)


def deep_norm_constants(context: Context, p: float) -> tuple[float, float]:
    """(alpha, beta) of DeepNet's table 2, with exponents scaled by 4p (DeepNet: p = 1/4)."""
    n, m = context.num_encoder_layers, context.num_decoder_layers
    if context.architecture != "encoder_decoder":
        # 2N and 8N of the paper are once and four times the sublayers, of which a parallel
        # layer has one.
        return context.num_sublayers**p, (4 * context.num_sublayers) ** -p
    if context.stack == "decoder":
        return (3 * m) ** p, (12 * m) ** -p
    return 0.81 * (n**4 * m) ** (p / 4), 0.87 * (n**4 * m) ** (-p / 4)


def _deep_norm(context: Context, *, p: float) -> Site:
    alpha, beta = deep_norm_constants(context, p)
    return Site(context.sublayer, norm_out=NORM, skip=Multiplier(alpha), init_gains=gains(beta))


def _sub_ln(context: Context) -> Site:
    n, m = context.num_encoder_layers, context.num_decoder_layers
    if context.architecture != "encoder_decoder":
        gain = math.sqrt(math.log(2 * context.num_layers))
    elif context.stack == "decoder":
        gain = math.sqrt(math.log(3 * m))
    else:
        gain = math.sqrt(math.log(3 * m) * math.log(2 * n) / 3)
    # The reference code leaves cross-attention alone: no inner norm, gain 1.
    cross = context.sublayer == "cross_attention"
    return Site(
        context.sublayer,
        norm_in=NORM,
        inner_norm=None if cross else NORM,
        init_gains=gains(gain, ("v", "o", "w1", "w2")),
    )


def _sandwich_norm(context: Context) -> Site:
    return Site(context.sublayer, norm_in=NORM, norm_branch=NORM)


def _res_post_norm(context: Context) -> Site:
    return Site(context.sublayer, norm_branch=NORM, qk_norm=True)


def _rezero(context: Context) -> Site:
    return Site(context.sublayer, branch=Multiplier(0.0, learned="scalar"))


def _mix_norm(context: Context, *, fraction: float) -> Site:
    # Rounded first: 0.29 of 100 layers is 28.999... in floating point, and means 29.
    post = context.layer < math.floor(round(fraction * context.num_layers, 9))
    return Site(context.sublayer, norm_in=None if post else NORM, norm_out=NORM if post else None)


def _check_exponent(*, p: float) -> None:
    if not 0.0 < p <= 1.0:
        raise VariantError(f"deep_norm(p={p}): p lies in (0, 1]; DeepNet's is 0.25, DeepLoop's 0.5")


def _check_fraction(*, fraction: float) -> None:
    if not 0.0 <= fraction <= 1.0:
        raise VariantError(f"mix_norm(fraction={fraction}): fraction lies in [0, 1]")


CLASSIC: tuple[Variant, ...] = (
    Variant(
        name="post_norm",
        summary="the original Transformer: norm after the add",
        equation="x' = N(x + F(x))",
        law=_post_norm,
        final_norm="forbidden",
        aliases=("post_ln", "vanilla"),
        paper=papers.TRANSFORMER,
        recipe=Recipe(
            warmup=4000,
            lr=7e-4,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="1706.03762 section 5.3: peak d^-0.5 warmup^-0.5 at d = 512; no clipping",
        ),
        failure="needs warm-up; a plateau at byte frequencies from some dozens of layers on",
    ),
    Variant(
        name="pre_norm",
        summary="norm on the branch's input, a norm at the end",
        equation="x' = x + F(N(x));  y = N_final(x_S)",
        law=_pre_norm,
        final_norm="required",
        options={"scaled_init": False},
        aliases=("pre_ln",),
        paper=papers.PRE_LN,
        recipe=Recipe(
            warmup=2000,
            schedule="cosine",
            beta2=0.95,
            weight_decay=0.1,
            clip_norm=1.0,
            source="the LLaMA recipe (2302.13971 section 2.3); Xiong et al. train without warm-up",
        ),
        failure="trains at any depth; the stream's variance grows and late layers add little",
    ),
    Variant(
        name="deep_norm",
        summary="post-norm with a scaled skip and damped branch init, for very deep stacks",
        equation="x' = N(alpha x + F(x));  v, o, w1, w2 drawn with gain beta",
        law=_deep_norm,
        final_norm="forbidden",
        options={"p": 0.25},
        check=_check_exponent,
        aliases=("deepnet",),
        paper=papers.DEEP_NET,
        recipe=Recipe(
            warmup=4000,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="the post-norm recipe that DeepNet keeps: Adam 0.9 / 0.98, 4000 updates",
        ),
        failure="its largest learning rate is about post-norm's, far below pre-norm's (2601.19895)",
    ),
    Variant(
        name="sub_ln",
        summary="Magneto: pre-norm plus a norm before each output matrix, larger gains",
        equation="x' = x + W_out N(inner(N(x)));  v, o, w1, w2 drawn with gain gamma",
        law=_sub_ln,
        final_norm="required",
        aliases=("magneto", "subln"),
        paper=papers.MAGNETO,
        recipe=Recipe(
            warmup=4000,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="the authors' DeepNet recipe; the paper's own differs by task",
        ),
        failure="the larger gains make the stream's variance at the start grow faster with depth "
        "than pre-norm's",
        used_by=("BEiT-3",),
    ),
    Variant(
        name="sandwich_norm",
        summary="norms on both the branch's input and its output",
        equation="x' = x + N_branch(F(N_in(x)));  y = N_final(x_S)",
        law=_sandwich_norm,
        embedding_norm="forbidden",
        final_norm="required",
        aliases=("cogview",),
        paper=papers.COG_VIEW,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        failure="at 94 layers its loss still spikes, and dssn's does not (2504.07866, second-hand)",
        used_by=("CogView", "Gemma 2", "Gemma 3", "GLM-4"),
    ),
    Variant(
        name="peri_norm",
        summary="sandwich norm with a norm on the embedding too",
        equation="x_0 = N(emb);  x' = x + N_branch(F(N_in(x)));  y = N_final(x_S)",
        law=_sandwich_norm,
        embedding_norm="required",
        final_norm="required",
        aliases=("peri_ln",),
        paper=papers.PERI_LN,
        recipe=Recipe(
            warmup_fraction=0.1,
            schedule="cosine",
            beta2=0.95,
            source="second-hand: a tenth of the run, cosine, AdamW 0.9 / 0.95",
        ),
    ),
    Variant(
        name="res_post_norm",
        summary="norm on the branch's output alone; needs query and key norms",
        equation="x' = x + N(F(x));  y = N_final(x_S)",
        law=_res_post_norm,
        final_norm="required",
        aliases=("reordered_norm",),
        paper=papers.SWIN_V2,
        recipe=Recipe(
            warmup=2000,
            schedule="cosine",
            beta2=0.95,
            weight_decay=0.1,
            clip_norm=1.0,
            source="OLMo 2 (2501.00656)",
        ),
        failure="without query and key norms the gradient explodes with depth",
        used_by=("OLMo 2", "EXAONE 4.0", "Chameleon 34B"),
    ),
    Variant(
        name="rezero",
        summary="no norm at all: each branch enters through a learned scalar that starts at 0",
        equation="x' = x + alpha F(x),  alpha = 0 at the start",
        law=_rezero,
        paper=papers.RE_ZERO,
        recipe=Recipe(warmup=0, schedule="constant", source="2003.04887: trains without warm-up"),
        failure="while alpha = 0 no matrix of a branch has a gradient, and weight decay shrinks "
        "those that are not in use yet",
    ),
    Variant(
        name="mix_norm",
        summary="Mix-LN: the first layers post-norm, the others pre-norm",
        equation="x' = N(x + F(x)) in the first floor(fraction N) layers, then x' = x + F(N(x))",
        law=_mix_norm,
        final_norm="required",
        options={"fraction": 0.25},
        check=_check_fraction,
        aliases=("mix_ln",),
        paper=papers.MIX_LN,
        recipe=Recipe(
            warmup_fraction=0.1,
            lr=1e-3,
            schedule="cosine",
            weight_decay=0.0,
            source="the authors' code: 10 % warm-up, Adam, no weight decay",
        ),
        failure="its largest learning rate at 64 layers is a ninth of pre-norm's (2601.19895)",
    ),
)
