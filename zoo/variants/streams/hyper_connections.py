"""Hyper-Connections: n streams per token; learned weights read, mix and write them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement, Start
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count, make_norm, normed
from zoo.variants.variant import Context, Recipe, Variant

# Start of the scalars on the weights' dynamic part (2409.19606, section 2.2).
DYNAMIC_SCALE = 0.01
# The weights of `Mixing` that are drawn start at 0, whatever the base init.
UNDRAWN = (("mixing", 0.0),)


class Mixing(nnx.Module):
    """The weights A_m, A_r and B of one sublayer: a static part, and one that reads the rows.

    Rows are streams here and fractions in Frac-Connections; `reads` counts the columns of A_m.
    """

    def __init__(
        self, site: Site, *, rows: int, reads: int, width: int, norm: NormSpec, dynamic: bool
    ) -> None:
        self.reads = reads
        self.read = weight.array("static_read", (rows, reads), ("streams", "streams"))
        self.carry = weight.array("static_carry", (rows, rows), ("streams", "streams"))
        self.write = weight.array("static_write", (rows,), ("streams",))
        if dynamic:
            self.norm = make_norm(dict(site.norms)["mixing_norm"], "mixing_norm", width, norm)
            # One matrix and one scalar for A_m and A_r, as in the paper's algorithm 2.
            axes = ("embed", "streams")
            self.into_alpha = weight.matrix("mixing", width, reads + rows, axes)
            self.into_beta = weight.matrix("mixing", width, 1, axes)
            self.alpha_scale = weight.scalar("dynamic_scale", start=DYNAMIC_SCALE)
            self.beta_scale = weight.scalar("dynamic_scale", start=DYNAMIC_SCALE)

    def __call__(self, h: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[..., rows, width] to A_m [..., rows, reads], A_r [..., rows, rows] and B [..., rows].

        All float32; without their leading axes where nothing is dynamic.
        """
        alpha = jnp.concatenate([self.read[...], self.carry[...]], axis=-1)
        beta = self.write[...]
        if hasattr(self, "norm"):
            seen = self.norm(h.astype(jnp.float32))
            into = jnp.concatenate([self.into_alpha[...], self.into_beta[...]], axis=-1)
            moved = jnp.tanh(seen.reshape(-1, seen.shape[-1]) @ into)
            moved = moved.reshape(*seen.shape[:-1], into.shape[-1])
            alpha = alpha + self.alpha_scale[...] * moved[..., :-1]
            beta = beta + self.beta_scale[...] * moved[..., -1]
        return alpha[..., : self.reads], alpha[..., self.reads :], beta


@jax.custom_jvp
def mix(weights: jax.Array, h: jax.Array) -> jax.Array:
    """Sum over rows i of weights[..., i, j] h[..., i, :]: [..., j, width] in the dtype of h."""
    # Written as a sum: a batched product of matrices this small takes twice as long on CPU.
    return jnp.sum(weights[..., None] * h[..., None, :], axis=-3).astype(h.dtype)


@mix.defjvp
def _mix_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # What the derivative by the weights transposes to is a sum over the width: as a product it
    # takes a fifth of the time.
    (weights, h), (weights_dot, h_dot) = primals, tangents
    by_weights = jnp.einsum("...ij,...id->...jd", weights_dot, h.astype(weights.dtype))
    by_h = jnp.sum(weights[..., None] * h_dot[..., None, :], axis=-3)
    return mix(weights, h), (by_weights + by_h).astype(h.dtype)


def static_starts(read: tuple[float, ...], rows: int) -> tuple[tuple[str, Start], ...]:
    """Where `Mixing` starts: A_m as given, A_r the identity, B all 1."""
    identity = tuple(float(i == j) for i in range(rows) for j in range(rows))
    return (("static_carry", identity), ("static_read", read), ("static_write", (1.0,) * rows))


class Weighed(NamedTuple):
    """Streams, and what one sublayer computes from them for its read and its write."""

    h: jax.Array
    weights: Any


class HyperSite(nnx.Module):
    """One sublayer's access to n streams, [batch, length, streams, d_model]."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.norm_in = make_norm(site.slots()["norm_in"], "norm_in", d_model, norm)
        self.mixing = Mixing(
            site,
            rows=count(stack, "streams"),
            reads=1,
            width=d_model,
            norm=norm,
            dynamic=bool(stack.option("dynamic")),
        )

    def weigh(self, carry: jax.Array | Weighed) -> Weighed:
        """The streams with their A_m, A_r and B."""
        return carry if isinstance(carry, Weighed) else Weighed(carry, self.mixing(carry))

    def read(self, carry: jax.Array | Weighed, numbers: Numbers) -> jax.Array:
        """N_in(A_m^T H)."""
        h, (read, _, _) = self.weigh(carry)
        return normed(self.norm_in, mix(read, h)[..., 0, :], numbers["norm_in_scale"])

    def write(
        self,
        carry: jax.Array | Weighed,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        """A_r^T H + B (x) branch."""
        h, (_, carried, written) = self.weigh(carry)
        return update(mix(carried, h), branch, written, keep=keep, tap=tap)


def update(
    kept: jax.Array,
    branch: jax.Array,
    written: jax.Array,
    *,
    keep: jax.Array | None,
    tap: Tap | None,
) -> jax.Array:
    """kept + written (x) branch, [batch, length, streams, d_model].

    What is recorded are means over the streams; written is float32 [..., streams].
    """
    if keep is not None:
        branch = branch * keep
    # A product, as its derivative by the weights then is one too (see `mix`).
    outer = jnp.einsum("...i,...d->...id", written, branch.astype(written.dtype))
    added = outer.astype(kept.dtype)
    new = checkpoint_name(kept + added, "residual_sum")
    if tap is not None:
        tap.record(stream=new.mean(-2), skip=kept.mean(-2), branch=added.mean(-2))
    return new


class HyperEnds(nnx.Module):
    """n copies of the embedding at the start, the sum of the streams at the end."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.streams = count(stack, "streams")

    def open(self, x: jax.Array) -> jax.Array:
        return copies(x, self.streams)

    def close(self, carry: jax.Array) -> jax.Array:
        return carry.sum(-2)


def copies(x: jax.Array, streams: int) -> jax.Array:
    """[batch, length, d_model] to [batch, length, streams, d_model]."""
    return jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], streams, x.shape[-1]))


def _hyper_connections(context: Context, *, streams: int, dynamic: bool, scaled_init: bool) -> Site:
    turn = context.sublayer_index % streams
    read = tuple(float(row == turn) for row in range(streams))
    scaled = tuple((role, streams**-0.5) for role in ("o", "w2", "xo")) if scaled_init else ()
    return Site(
        context.sublayer,
        norm_in=NormSlot(),
        norms=(("mixing_norm", NormSlot()),) if dynamic else (),
        init_gains=(*scaled, *(UNDRAWN if dynamic else ())),
        starts=static_starts(read, streams),
    )


def _ends(context: Context, *, streams: int, dynamic: bool, scaled_init: bool) -> StackPlacement:
    return StackPlacement(
        final_norm="required", options=(("dynamic", dynamic), ("streams", streams))
    )


def _check(*, streams: int, dynamic: bool, scaled_init: bool) -> None:
    if streams < 1:
        raise VariantError(f"hyper_connections(streams={streams}): streams must be at least 1")


def _wiring(stack: StackPlacement) -> Wiring:
    own = ("A_m, A_r, B each learned + s tanh(N(H) W)",) if stack.option("dynamic") else ()
    return Wiring(
        lanes=("H",),
        opens=(f"{stack.option('streams')} copies of e",),
        steps=(Step("A_mᵀ H", ("A_rᵀ H + B ⊗ f",)),),
        closes="sum of the rows of H",
        where=own or ("A_m, A_r, B learned",),
    )


STREAM = Stream(site=HyperSite, ends=HyperEnds, wiring=_wiring)

VARIANTS = (
    Variant(
        name="hyper_connections",
        summary="n residual streams per token, read, mixed and written by learned weights",
        equation="x = A_m^T H,  H' = A_r^T H + B (x) F(N(x))",
        law=_hyper_connections,
        ends=_ends,
        final_norm="required",
        options={"streams": 4, "dynamic": True, "scaled_init": True},
        check=_check,
        stream="hyper_connections",
        paper=stream_papers.HYPER_CONNECTIONS,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        failure="one stream is worse than pre-norm; nothing bounds the product of the mixtures",
        note=(
            "scaled_init divides the output matrices by sqrt(streams), so that the sum of the "
            "streams keeps pre-norm's size; the authors' text says scaled by sqrt(n). Without it "
            "the start is pre-norm exactly. Figures of the stream are of the streams' mean."
        ),
    ),
)
