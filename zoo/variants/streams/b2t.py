"""The bottom-to-top connection: the last norm of a layer also sees what entered the layer."""

from __future__ import annotations

import jax
from flax import nnx

from zoo.errors import VariantError
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, PairEnds, Step, Stream, Tap, Wiring
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import Context, Recipe, Variant

Pair = tuple[jax.Array, jax.Array]

# The reference code rescales every matrix of a layer, queries and keys too.
_ROLES = ("q", "k", "v", "o", "w1", "w2", "xq", "xk", "xv", "xo")


class LayerSkipSite(nnx.Module):
    """A plain site whose skip, in the last sublayer, begins at the layer's input.

    The carry is (x, the layer's input). The trait `last` marks the last sublayer of a layer,
    `spanning` leaves the sublayer's own input out of its sum.
    """

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.plain = PlainSite(site, stack, d_model, norm)
        self.last, self.spanning = "last" in site.traits, "spanning" in site.traits

    def read(self, carry: Pair, numbers: Numbers) -> jax.Array:
        return self.plain.read(carry[0], numbers)

    def write(
        self,
        carry: Pair,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> Pair:
        x, bottom = carry
        if not self.last:
            return self.plain.write(x, branch, numbers, keep=keep, tap=tap), bottom
        skip = bottom if self.spanning else x + bottom
        top = self.plain.write(skip, branch, numbers, keep=keep, tap=tap)
        return top, top


def layer_traits(context: Context, variant: str) -> tuple[str, ...]:
    """`last` for the last sublayer of a layer.

    Raises:
        VariantError: for layers of one sublayer, where such a skip is the residual itself.
    """
    if len(context.sublayers) == 1:
        raise VariantError(
            f"layout = parallel: a layer has one sublayer, and {variant}'s skip over a layer is "
            "that sublayer's own; use layout = sequential, or post_norm"
        )
    return ("last",) if context.sublayer == context.sublayers[-1] else ()


def _site(context: Context) -> Site:
    gain = context.num_layers**-0.5
    return Site(
        context.sublayer,
        norm_out=NormSlot(),
        init_gains=tuple((role, gain) for role in _ROLES),
        traits=layer_traits(context, "b2t"),
    )


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x", "b"),
        opens=("e", "e"),
        steps=(
            Step("x", ("N_out(x + b + f)", "x'"), trait="last"),
            Step("x", ("N_out(x + f)", "b")),
        ),
        closes="x",
        where=("b: the input of the layer",),
    )


STREAM = Stream(site=LayerSkipSite, ends=PairEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="b2t",
        summary="post-norm with a skip from the bottom of each layer to its last norm",
        equation="a = N(x + Attention(x));  x' = N(x + a + MLP(a));  all matrices x N^-1/2",
        law=_site,
        stream="b2t",
        final_norm="forbidden",
        paper=stream_papers.B2T,
        recipe=Recipe(
            warmup=4000,
            lr=1e-3,
            schedule="inverse_sqrt",
            beta2=0.98,
            weight_decay=0.0,
            clip_norm=0.1,
            source="the authors' code, 18 layers each side: Adam 0.9 / 0.98",
        ),
        failure="the skip bypasses every norm of a layer but the last, so depth still costs one "
        "norm a layer",
        note="N is the stack's own number of layers; the authors' code scales queries and keys "
        "too, on a base init of its own (q, k, v with gain 1/sqrt(2)).",
    ),
)
