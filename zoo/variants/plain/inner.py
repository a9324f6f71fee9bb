"""Placements that ask for norms and scales inside F as well as around it."""

from __future__ import annotations

from zoo.variants import papers
from zoo.variants.placement import Multiplier, Site
from zoo.variants.plain.base import NORM, gains, refuse_parallel
from zoo.variants.variant import Context, Recipe, Variant


def _norm_former(context: Context, *, res_scale: bool) -> Site:
    refuse_parallel(
        context, "norm_former", "normalises attention's output and not the MLP's", "sandwich_norm"
    )
    match context.sublayer:
        case "self_attention":
            return Site(context.sublayer, norm_in=NORM, norm_branch=NORM, head_scale=True)
        case "linear_attention":
            return Site(context.sublayer, norm_in=NORM, norm_branch=NORM)
        case "mlp":
            skip = Multiplier(1.0, learned="vector") if res_scale else Multiplier()
            return Site(context.sublayer, norm_in=NORM, inner_norm=NORM, skip=skip)
    # As in the authors' code, cross-attention stays plain pre-norm.
    return Site(context.sublayer, norm_in=NORM)


def _hybrid_norm(context: Context, *, first_layer_pre: bool) -> Site:
    refuse_parallel(
        context, "hybrid_norm", "normalises the stream between attention and MLP", "pre_norm"
    )
    # The MLP's skip starts from its normed input: a norm on the sum before it.
    first = first_layer_pre and context.layer == 0
    scaled = gains(context.num_sublayers**-0.5, ("o", "w2", "xo"))
    if context.sublayer == "mlp":
        return Site(context.sublayer, norm_in=NORM if first else None, init_gains=scaled)
    return Site(
        context.sublayer,
        norm_in=NORM if first else None,
        norm_out=None if first else NORM,
        qk_norm=True,
        v_norm=True,
        init_gains=scaled,
    )


INNER: tuple[Variant, ...] = (
    Variant(
        name="norm_former",
        summary="pre-norm with a norm after attention, one inside the MLP, and scaled heads",
        equation="x' = x + N(W_o (gamma_h head_h)(N(x)));  x' = lambda x + W_2 N(act(W_1 N(x)))",
        law=_norm_former,
        final_norm="required",
        options={"res_scale": False},
        paper=papers.NORM_FORMER,
        recipe=Recipe(
            lr=3e-3, source="the 125M model of 2110.09456, which wants larger rates than pre-norm"
        ),
        note="res_scale learns the vector lambda, as the paper does below 1.3B parameters. Heads "
        "are scaled before W_o as the paper writes it; its code scales after. Cross-attention "
        "has no additions in the code, and neither has its encoder; here encoders have them. "
        "Linear attention has the norm and no scales of its heads.",
    ),
    Variant(
        name="hybrid_norm",
        summary="norms on queries, keys and values in attention, post-norm before the MLP",
        equation="y = x + Attention_qkv_norm(x);  n = N(y);  x' = n + MLP(n)",
        law=_hybrid_norm,
        final_norm="required",
        options={"first_layer_pre": False},
        paper=papers.HYBRID_NORM,
        recipe=Recipe(
            lr=3e-4,
            weight_decay=0.1,
            clip_norm=1.0,
            source="the authors' configurations, which decay gains and biases too",
        ),
        failure="its largest learning rate at 64 layers is a sixteenth of pre-norm's (2601.19895)",
        note="first_layer_pre is the paper's HybridNorm*: the first layer pre-norm, with the norms "
        "on queries, keys and values. o and w2 are drawn smaller by the root of the number of "
        "sublayers.",
    ),
)
