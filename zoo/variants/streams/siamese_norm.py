"""SiameseNorm: a stream that is normed in place beside a raw one; branches read both."""

from __future__ import annotations

import jax
from flax import nnx

from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import Multiplier, NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, make_norm, times
from zoo.variants.variant import Context, Recipe, Variant

Pair = tuple[jax.Array, jax.Array]


class SiameseSite(nnx.Module):
    """u = N_x(x), f = F(N_in(u + N_y(y))), x' = u + b f, y' = y + f; the carry is (x, y)."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        slots = site.slots()
        self.norm_x = make_norm(slots["norm_x"], "norm_x", d_model, norm)
        self.norm_y = make_norm(slots["norm_y"], "norm_y", d_model, norm)
        self.norm_in = make_norm(slots["norm_in"], "norm_in", d_model, norm)

    def read(self, carry: Pair, numbers: Numbers) -> jax.Array:
        x, y = carry
        return self.norm_in(self.norm_x(x) + self.norm_y(y))

    def write(
        self,
        carry: Pair,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> Pair:
        x, y = carry
        if keep is not None:
            branch = branch * keep
        raw = y + branch
        if tap is not None:
            tap.record(stream=raw, skip=y, branch=branch)
        return self.norm_x(x) + times(branch, numbers["branch"]), raw


class SiameseEnds(nnx.Module):
    """x = y = the embedding at the start; N_x(x) + N_y(y) at the end."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.norm_x = make_norm(NormSlot(), "norm_x", d_model, norm)
        self.norm_y = make_norm(NormSlot(), "norm_y", d_model, norm)

    def open(self, x: jax.Array) -> Pair:
        return x, x

    def close(self, carry: Pair) -> jax.Array:
        x, y = carry
        return self.norm_x(x) + self.norm_y(y)


def _site(context: Context) -> Site:
    return Site(
        context.sublayer,
        norm_in=NormSlot(),
        branch=Multiplier((2 * (context.layer + 1)) ** -0.5),
        norms=(("norm_x", NormSlot()), ("norm_y", NormSlot())),
    )


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x", "y"),
        opens=("e", "e"),
        steps=(Step("N_x(x) + N_y(y)", ("N_x(x) + b f", "y + f")),),
        closes="N_x(x) + N_y(y)",
    )


STREAM = Stream(site=SiameseSite, ends=SiameseEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="siamese_norm",
        summary="a post-norm and a pre-norm stream that share every branch",
        equation="u = N_x(x), f = F(N_in(u + N_y(y)));  x' = u + f / sqrt(2 l), y' = y + f;  "
        "out = N_final(N_x(x_S) + N_y(y_S));  l = 1, 2 … counts layers",
        law=_site,
        stream="siamese_norm",
        final_norm="required",
        paper=stream_papers.SIAMESE_NORM,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        note="The form of the authors' vision models; their language models leave two of the "
        "norms out around attention and normalise queries, keys and values instead. A port of the "
        "paper's algorithm 1 has N_x after the add and sqrt(l) for sqrt(2 l); this is the code's.",
    ),
)
