"""Deep Delta Learning: a sublayer gives a direction along which the stream is rewritten."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec, unit
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.plain.base import gains
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, make_norm, normed
from zoo.variants.variant import Context, Recipe, Variant

# Of the squared length of the direction, and the largest value written: the authors' code.
_EPS, _LARGEST_VALUE = 1e-10, 4.0


class DeltaSite(nnx.Module):
    """x' = x + beta k (v - k . x): k = F(N(x)) with length 1, beta in (0, 2), v in (0, 4)."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.norm_in = make_norm(site.slots()["norm_in"], "norm_in", d_model, norm)
        self.strength = weight.matrix("delta_strength", d_model, 1, ("embed", "delta"))
        self.strength_shift = weight.scalar("strength_shift")
        self.value = weight.matrix("delta_value", d_model, 1, ("embed", "delta"))
        self.value_shift = weight.vector("delta_value", 1, "delta", kind="bias")

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
        return normed(self.norm_in, carry, numbers["norm_in_scale"])

    def write(
        self,
        carry: jax.Array,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        x = carry.astype(jnp.float32)
        context = self.read(carry, numbers).astype(jnp.float32)
        k = unit(branch.astype(jnp.float32), eps=_EPS)
        beta = 2.0 * jax.nn.sigmoid(context @ self.strength[...] + self.strength_shift[...])
        v = _LARGEST_VALUE * jax.nn.sigmoid(x @ self.value[...] + self.value_shift[...])
        change = beta * k * (v - jnp.sum(k * x, axis=-1, keepdims=True))
        if keep is not None:
            change = change * keep.astype(jnp.float32)
        changed = (x + change).astype(carry.dtype)
        if tap is not None:
            tap.record(stream=changed, skip=carry, branch=change)
        return changed


def _site(context: Context, *, strength: float) -> Site:
    return Site(
        context.sublayer,
        norm_in=NormSlot(),
        init_gains=gains(context.num_layers**-0.5, ("o", "w2", "xo")),
        starts=(("strength_shift", math.log(strength / (2.0 - strength))),),
    )


def _check(*, strength: float) -> None:
    if not 0.0 < strength < 2.0:
        raise VariantError(
            f"delta_learning(strength={strength}): lies in (0, 2); the authors' code starts at 1.0"
        )


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x",),
        opens=("e",),
        steps=(Step("x", ("x + β k (v − k·x)",)),),
        closes="x",
        where=("k = unit(f)", "β = 2 σ(w·N_in(x) + b)", "v = 4 σ(u·x + c);  w, b, u, c learned"),
    )


STREAM = Stream(site=DeltaSite, wiring=_wiring)
VARIANTS = (
    Variant(
        name="delta_learning",
        summary="Deep Delta Learning: a branch is a direction in which the stream is rewritten",
        equation="k = unit(F(N(x))), beta = 2 sigmoid(w N(x) + b), v = 4 sigmoid(u x + c);  "
        "x' = x + beta k (v - k x)",
        law=_site,
        stream="delta_learning",
        final_norm="required",
        options={"strength": 1.0},
        check=_check,
        paper=stream_papers.DELTA_LEARNING,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        failure="one number of every token changes by a sublayer, along its direction",
        note="The form with one value per token; strength is where beta starts without its "
        "weights. The authors also expand the stream to several values and draw all weights with "
        "0.5 d^-1/2.",
    ),
)
