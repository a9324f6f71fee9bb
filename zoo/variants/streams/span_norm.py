"""SpanNorm: the skip of a layer's last sublayer spans the whole layer."""

from __future__ import annotations

from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.b2t import LayerSkipSite, layer_traits
from zoo.variants.streams.base import PairEnds, Step, Stream, Wiring
from zoo.variants.variant import Context, Recipe, Variant


def _site(context: Context) -> Site:
    traits = layer_traits(context, "span_norm")
    first = context.layer == 0 and context.sublayer == context.sublayers[0]
    return Site(
        context.sublayer,
        norm_in=NormSlot() if first else None,
        norm_out=NormSlot(),
        traits=(*traits, "spanning") if traits else (),
    )


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x", "b"),
        opens=("e", "e"),
        steps=(
            Step("x", ("N_out(b + f)", "x'"), trait="spanning"),
            Step("x", ("N_out(x + f)", "b")),
        ),
        closes="x",
        where=("b: the input of the layer",),
    )


STREAM = Stream(site=LayerSkipSite, ends=PairEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="span_norm",
        summary="post-norm whose last skip spans the layer, past the norm in its middle",
        equation="a = N(x + Attention(x));  x' = N(x + MLP(a));  the first layer reads N_in(x_0)",
        law=_site,
        stream="span_norm",
        final_norm="forbidden",
        aliases=("fuse_norm",),
        paper=stream_papers.SPAN_NORM,
        recipe=Recipe(
            warmup=2000, schedule="cosine", source="the pre-norm recipe; the paper's is not known"
        ),
        failure="seen to diverge at a learning rate of 2e-3 (2602.08064)",
        provenance="second_hand",
        note="From a port that cites the paper's equations 5-8; the paper's scaling of the "
        "weights is not known here and left out. Cross-attention has the skip of a middle "
        "sublayer, as in b2t.",
    ),
)
