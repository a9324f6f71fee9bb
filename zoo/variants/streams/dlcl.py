"""DLCL: every layer reads a learned combination of all earlier layers' outputs."""

from __future__ import annotations

import dataclasses

import jax
from flax import nnx

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import depth, stream_papers
from zoo.variants.placement import NormSlot, Presence, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, make_norm, normed
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import Context, Recipe, Variant

Past = tuple[jax.Array, jax.Array]

_FORMS = ("pre", "post")


class CombiningSite(nnx.Module):
    """A plain site; with the trait `last` it ends with what the next layer reads.

    The carry is (x, [num_layers + 1, batch, length, d_model] of the embedding and what the layers
    gave). In the form `pre` a norm comes before an output is stored, in `post` after the sum.
    """

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.plain = PlainSite(site, stack, d_model, norm)
        self.pre = stack.option("form") == "pre"
        self.last = "last" in site.traits
        if self.last:
            slot = site.slots()["norm_history"]
            self.norm_history = make_norm(slot, "norm_history", d_model, norm)
            self.weights = weight.array("depth_weights", (len(stack.layers) + 1,), ("depth",))

    def read(self, carry: Past, numbers: Numbers) -> jax.Array:
        return self.plain.read(carry[0], numbers)

    def write(
        self,
        carry: Past,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> Past:
        x, past = carry
        x = self.plain.write(x, branch, numbers, keep=keep, tap=tap)
        if not self.last:
            return x, past
        # Slots that are still to come hold zeros, so nothing has to mask their weights.
        past = depth.stored(past, numbers["slot"], self._normed(x, numbers) if self.pre else x)
        x = depth.blended(self.weights[...], past)
        return (x if self.pre else self._normed(x, numbers)), past

    def _normed(self, x: jax.Array, numbers: Numbers) -> jax.Array:
        return normed(self.norm_history, x, numbers["norm_history_scale"])


class CombiningEnds(nnx.Module):
    """The embedding is stored as it is and read with a weight of its own; x alone leaves."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.slots = len(stack.layers) + 1
        self.first = weight.scalar("first_weight", start=1.0)

    def open(self, x: jax.Array) -> Past:
        return x * self.first[...].astype(x.dtype), depth.opened(x, self.slots)

    def close(self, carry: Past) -> jax.Array:
        return carry[0]


def _site(context: Context, *, form: str) -> Site:
    pre = form == "pre"
    site = Site(
        context.sublayer,
        norm_in=NormSlot() if pre else None,
        norm_out=None if pre else NormSlot(),
    )
    if context.sublayer != context.sublayers[-1]:
        return site
    slot = context.layer + 1
    mean = tuple(1.0 / (slot + 1) if j <= slot else 0.0 for j in range(context.num_layers + 1))
    return dataclasses.replace(
        site,
        norms=(("norm_history", NormSlot()),),
        constants=(("slot", float(slot)),),
        starts=(("depth_weights", mean),),
        traits=("last",),
    )


def _ends(context: Context, *, form: str) -> StackPlacement:
    final: Presence = "required" if form == "pre" else "forbidden"
    return StackPlacement(final_norm=final, options=(("form", form),))


def _check(*, form: str) -> None:
    if form not in _FORMS:
        raise VariantError(f"dlcl(form={form!r}): use 'pre' or 'post'")


def _wiring(stack: StackPlacement) -> Wiring:
    pre = stack.option("form") == "pre"
    layer, norm = ("x + f", "N_l") if pre else ("N_out(x + f)", "")
    mixed = "Σ_k W_k Y_k" if pre else "N_l(Σ_k W_k Y_k)"
    return Wiring(
        lanes=("x", "Y"),
        opens=("w e", "Y_0 = e"),
        steps=(
            Step("x", (mixed, f"Y_l = {norm}({layer})" if pre else f"Y_l = {layer}"), trait="last"),
            Step("x", (layer, "Y")),
        ),
        closes="x",
        where=("Y = (Y_0, Y_1, …): the embedding and what the layers gave", "W learned"),
    )


STREAM = Stream(site=CombiningSite, ends=CombiningEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="dlcl",
        summary="each layer reads a learned combination of all earlier layers, from their mean",
        equation="y_l = layer_l(x_l);  pre: x_l+1 = sum_k W_lk N_k(y_k), k <= l, y_0 = x_0 without "
        "a norm;  post: x_l+1 = N_l(sum_k W_lk y_k)",
        law=_site,
        ends=_ends,
        stream="dlcl",
        final_norm="required",
        options={"form": "pre"},
        check=_check,
        paper=stream_papers.DLCL,
        recipe=Recipe(
            warmup=16000,
            lr=2e-3,
            schedule="inverse_sqrt",
            beta2=0.997,
            weight_decay=0.0,
            source="the authors' script for 30 pre-norm layers",
        ),
        failure="memory: a backward pass keeps num_layers + 1 outputs for every combination",
        note="Both forms follow the authors' code; their layers keep the residual and norms of "
        "pre-norm or post-norm inside.",
    ),
)
