"""DenseFormer: after a layer, a learned weighted average over all layers' outputs so far."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import depth, stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import Context, Recipe, Variant

Past = tuple[jax.Array, jax.Array]


class DenseSite(nnx.Module):
    """A plain site; with the trait `averaging` the average over depth follows the add.

    The carry is (x, [num_layers + 1, batch, length, d_model] of the embedding and the outputs of
    the layers before they are averaged). `last` marks the last sublayer of a layer.
    """

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.plain = PlainSite(site, stack, d_model, norm)
        self.last = "last" in site.traits
        self.dilation = count(stack, "dilation")
        if "averaging" in site.traits:
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
        past = depth.stored(past, numbers["slot"], x)
        if not hasattr(self, "weights"):
            return x, past
        # Slots that are still to come hold zeros, so nothing has to mask their weights.
        distance = jnp.asarray(numbers["slot"]).astype(jnp.int32) - jnp.arange(len(past))
        weights = jnp.where(distance % self.dilation == 0, self.weights[...], 0.0)
        return depth.blended(weights, past), past


class DenseEnds(nnx.Module):
    """The embedding is the buffer's first entry; x alone leaves."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.slots = len(stack.layers) + 1

    def open(self, x: jax.Array) -> Past:
        return x, depth.opened(x, self.slots)

    def close(self, carry: Past) -> jax.Array:
        return carry[0]


def _site(context: Context, *, dilation: int, period: int) -> Site:
    site = Site(context.sublayer, norm_in=NormSlot())
    if context.sublayer != context.sublayers[-1]:
        return site
    slot = context.layer + 1
    averaging = slot % period == 0
    newest = tuple(float(other == slot) for other in range(context.num_layers + 1))
    return dataclasses.replace(
        site,
        constants=(("slot", float(slot)),),
        starts=(("depth_weights", newest),) if averaging else (),
        traits=("last", "averaging") if averaging else ("last",),
    )


def _ends(context: Context, *, dilation: int, period: int) -> StackPlacement:
    return StackPlacement(final_norm="required", options=(("dilation", dilation),))


def _check(*, dilation: int, period: int) -> None:
    for name, value in (("dilation", dilation), ("period", period)):
        if value < 1:
            raise VariantError(f"dense_former({name}={value}): must be at least 1")


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x", "X"),
        opens=("e", "X_0 = e"),
        steps=(
            Step("x", ("Σ_j α_j X_j", "X_l = x + f"), trait="averaging"),
            Step("x", ("x + f", "X_l = x'"), trait="last"),
            Step("x", ("x + f", "X")),
        ),
        closes="x",
        where=("X = (X_0, X_1, …): the embedding and what the layers gave", "α learned"),
    )


STREAM = Stream(site=DenseSite, ends=DenseEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="dense_former",
        summary="pre-norm with a learned average over all earlier layers after each layer",
        equation="X_l = layer_l(x_l-1);  x_l = sum_j alpha_lj X_j over j <= l, X_0 = x_0;  "
        "alpha_ll = 1 and the others 0 at the start",
        law=_site,
        ends=_ends,
        stream="dense_former",
        final_norm="required",
        options={"dilation": 1, "period": 1},
        check=_check,
        aliases=("dwa",),
        paper=stream_papers.DENSE_FORMER,
        recipe=Recipe(
            warmup_fraction=0.02,
            lr=2e-3,
            schedule="cosine",
            beta2=0.95,
            weight_decay=1e-3,
            source="the defaults of the authors' code",
        ),
        failure="memory: a backward pass keeps num_layers + 1 outputs for every average",
        note="dilation and period as in the paper's k x p; here a dilation zeroes weights and "
        "saves no work.",
    ),
)
