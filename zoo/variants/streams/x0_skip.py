"""x0 skip: every layer starts from a learned mixture of the stream and the embedding."""

from __future__ import annotations

import jax
from flax import nnx

from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, PairEnds, Step, Stream, Tap, Wiring
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import Context, Recipe, Variant

Pair = tuple[jax.Array, jax.Array]


class X0Site(nnx.Module):
    """A plain site; with the trait `first` on lambda_x x + lambda_x0 x_0. The carry is (x, x_0)."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.plain = PlainSite(site, stack, d_model, norm)
        self.first = "first" in site.traits
        if self.first:
            self.lambda_x = weight.scalar("lambda_x")
            self.lambda_x0 = weight.scalar("lambda_x0")

    def read(self, carry: Pair, numbers: Numbers) -> jax.Array:
        return self.plain.read(self._mixed(carry), numbers)

    def write(
        self,
        carry: Pair,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> Pair:
        mixed = self._mixed(carry)
        return self.plain.write(mixed, branch, numbers, keep=keep, tap=tap), carry[1]

    def _mixed(self, carry: Pair) -> jax.Array:
        x, x0 = carry
        if not self.first:
            return x
        return x * self.lambda_x[...].astype(x.dtype) + x0 * self.lambda_x0[...].astype(x.dtype)


def _site(context: Context) -> Site:
    first = context.sublayer == context.sublayers[0]
    return Site(
        context.sublayer,
        norm_in=NormSlot(),
        starts=(("lambda_x", 1.0), ("lambda_x0", 0.0)) if first else (),
        traits=("first",) if first else (),
    )


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x", "x_0"),
        opens=("e", "e"),
        steps=(
            Step("λ x + μ x_0", ("λ x + μ x_0 + f", "x_0"), trait="first"),
            Step("x", ("x + f", "x_0")),
        ),
        closes="x",
        where=("λ, μ learned",),
    )


STREAM = Stream(site=X0Site, ends=PairEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="x0_skip",
        summary="pre-norm whose layers may each take the embedding in again",
        equation="each layer: x <- lambda_x x + lambda_x0 x_0, from (1, 0);  then x' = x + F(N(x));"
        "  x_0 = N(emb)",
        law=_site,
        stream="x0_skip",
        embedding_norm="required",
        final_norm="required",
        paper=stream_papers.X0_SKIP,
        recipe=Recipe(
            warmup=0,
            schedule="wsd",
            source="the speed run's record of 6 November 2024; it trains the mixture with Adam at "
            "0.02",
        ),
        note="The speed run's norms have no weights; later records mix before each sublayer.",
    ),
)
