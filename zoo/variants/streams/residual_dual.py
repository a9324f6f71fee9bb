"""ResiDual: a post-norm stream that branches read, and a raw sum that only the end reads."""

from __future__ import annotations

import jax
from flax import nnx

from zoo.errors import VariantError
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, make_norm, times
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import Context, Recipe, Variant

Pair = tuple[jax.Array, jax.Array]

# With input_scale << 1 the sum is small, and the usual eps would not be small beside it.
_END = NormSlot(eps=1e-7)


class DualSite(nnx.Module):
    """p' = N(p + f), r' = r + c f with f = F(p); the carry is (p, r)."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.plain = PlainSite(site, stack, d_model, norm)

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
        p, r = carry
        if keep is not None:
            branch = branch * keep
        r = r + times(branch, numbers["input_scale"])
        return self.plain.write(p, branch, numbers, tap=tap), r


class DualEnds(nnx.Module):
    """p = x, r = c x at the start; kappa p + N_end(r) at the end."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.input_scale, self.kappa = stack.option("input_scale"), stack.option("kappa")
        self.norm_end = make_norm(_END, "norm_end", d_model, norm)

    def open(self, x: jax.Array) -> Pair:
        return x, times(x, self.input_scale)

    def close(self, carry: Pair) -> jax.Array:
        p, r = carry
        return times(p, self.kappa) + self.norm_end(r)


def _site(context: Context, *, input_scale: float, kappa: float) -> Site:
    constants = (("input_scale", input_scale),)
    return Site(context.sublayer, norm_out=NormSlot(), constants=constants)


def _ends(context: Context, *, input_scale: float, kappa: float) -> StackPlacement:
    options = (("input_scale", input_scale), ("kappa", kappa))
    return StackPlacement(final_norm="forbidden", options=options)


def _check(*, input_scale: float, kappa: float) -> None:
    if not input_scale > 0.0:
        raise VariantError(
            f"residual_dual(input_scale={input_scale}): must be above 0; the paper's is 1.0"
        )
    if not kappa >= 0.0:
        raise VariantError(f"residual_dual(kappa={kappa}): must not be below 0; the paper's is 1.0")


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("p", "r"),
        opens=("e", "c e"),
        steps=(Step("p", ("N_out(p + f)", "r + c f")),),
        closes="κ p + N_end(r)",
        where=(f"c = {stack.option('input_scale')},  κ = {stack.option('kappa')}",),
    )


STREAM = Stream(site=DualSite, ends=DualEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="residual_dual",
        summary="ResiDual: a post-norm stream and a raw sum of all branches, joined at the end",
        equation="p' = N(p + F(p)), r' = r + c F(p);  y = kappa p_S + N_end(r_S);  r_0 = c p_0",
        law=_site,
        ends=_ends,
        stream="residual_dual",
        final_norm="forbidden",
        options={"input_scale": 1.0, "kappa": 1.0},
        check=_check,
        aliases=("resi_dual",),
        paper=stream_papers.RESI_DUAL,
        recipe=Recipe(
            warmup=4000,
            lr=5e-4,
            schedule="inverse_sqrt",
            beta2=0.98,
            weight_decay=1e-4,
            source="the authors' IWSLT recipe: Adam 0.9 / 0.98, no clipping",
        ),
        failure="the model's update by one step is not bounded in depth, unlike DeepNorm's; "
        "the sum of two normed streams makes logits sqrt(2) larger at the start",
        note="input_scale is c (the authors' OPUS-100 runs use 0.05 against float16 overflow); "
        "the norm at the end of each stack has eps 1e-7, as theirs.",
    ),
)
