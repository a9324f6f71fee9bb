"""Frac-Connections: the streams of Hyper-Connections are fractions of one vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.errors import VariantError, choices
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count, make_norm, normed
from zoo.variants.streams.hyper_connections import UNDRAWN, Mixing, Weighed, mix, static_starts
from zoo.variants.variant import Context, Recipe, Variant


class FracSite(nnx.Module):
    """One sublayer's access to x, [batch, length, d_model], read as [..., fractions, width]."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.fractions = count(stack, "fractions")
        _check_width(self.fractions, d_model)
        self.norm_in = make_norm(site.slots()["norm_in"], "norm_in", d_model, norm)
        self.mixing = Mixing(
            site,
            rows=self.fractions,
            reads=self.fractions,
            width=d_model // self.fractions,
            norm=norm,
            dynamic=bool(stack.option("dynamic")),
        )

    def weigh(self, carry: jax.Array | Weighed) -> Weighed:
        """The fractions with their Y, A and B."""
        if isinstance(carry, Weighed):
            return carry
        h = self._split(carry)
        return Weighed(h, self.mixing(h))

    def read(self, carry: jax.Array | Weighed, numbers: Numbers) -> jax.Array:
        """N_in of Y^T H, put together again."""
        h, (read, _, _) = self.weigh(carry)
        return normed(self.norm_in, _joined(mix(read, h)), numbers["norm_in_scale"])

    def write(
        self,
        carry: jax.Array | Weighed,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        """A^T H + B * the branch's fractions."""
        if keep is not None:
            branch = branch * keep
        h, (_, carried, written) = self.weigh(carry)
        skip = _joined(mix(carried, h))
        fractions = self._split(branch).astype(written.dtype)
        added = jnp.einsum("...i,...id->...id", written, fractions)
        added = _joined(added).astype(h.dtype)
        x = checkpoint_name(skip + added, "residual_sum")
        if tap is not None:
            tap.record(stream=x, skip=skip, branch=added)
        return x

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.fractions, -1)


def _joined(h: jax.Array) -> jax.Array:
    return h.reshape(*h.shape[:-2], -1)


def _frac_connections(context: Context, *, fractions: int, dynamic: bool) -> Site:
    if context.d_model:
        _check_width(fractions, context.d_model)
    identity = tuple(float(i == j) for i in range(fractions) for j in range(fractions))
    return Site(
        context.sublayer,
        norm_in=NormSlot(),
        norms=(("mixing_norm", NormSlot()),) if dynamic else (),
        init_gains=UNDRAWN if dynamic else (),
        starts=static_starts(identity, fractions),
    )


def _ends(context: Context, *, fractions: int, dynamic: bool) -> StackPlacement:
    return StackPlacement(
        final_norm="required", options=(("dynamic", dynamic), ("fractions", fractions))
    )


def _check(*, fractions: int, dynamic: bool) -> None:
    if fractions < 1:
        raise VariantError(f"frac_connections(fractions={fractions}): use at least 1")


def _check_width(fractions: int, d_model: int) -> None:
    if d_model % fractions:
        fit = [n for n in range(1, min(d_model, 32) + 1) if d_model % n == 0]
        raise VariantError(
            f"frac_connections(fractions={fractions}) does not divide d_model = {d_model}; "
            f"use {choices(fit)}"
        )


def _wiring(stack: StackPlacement) -> Wiring:
    own = ("Y, A, B each learned + s tanh(N(H) W)",) if stack.option("dynamic") else ()
    return Wiring(
        lanes=("H",),
        opens=(f"e in {stack.option('fractions')} rows",),
        steps=(Step("Yᵀ H", ("Aᵀ H + B ∘ f",)),),
        closes="the rows of H as one",
        where=own or ("Y, A, B learned",),
    )


STREAM = Stream(site=FracSite, wiring=_wiring)

VARIANTS = (
    Variant(
        name="frac_connections",
        summary="Hyper-Connections between m fractions of x instead of n copies of it",
        equation="H = x in m rows,  H' = B * F(N(Y^T H)) + A^T H",
        law=_frac_connections,
        ends=_ends,
        final_norm="required",
        options={"fractions": 2, "dynamic": True},
        check=_check,
        stream="frac_connections",
        paper=stream_papers.FRAC_CONNECTIONS,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        note=(
            "the start is pre-norm, as in the paper; a public port of it starts with every "
            "fraction a copy of one"
        ),
    ),
)
