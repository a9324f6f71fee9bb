"""Multi-gate residuals: each of a few streams moves towards the branch by a gate of its own."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import depth, stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count, make_norm, normed
from zoo.variants.variant import Context, Recipe, Variant

_SCORED = NormSlot(kind="rms_norm", affine=False)


class Pool(nnx.Module):
    """softmax_i(w . RMS(s_i) / sqrt(d)) s_i, summed over the first streams of [n, ..., d]."""

    def __init__(self, d_model: int, norm: NormSpec) -> None:
        self.norm = make_norm(_SCORED, "scores", d_model, norm)
        self.query = weight.vector("pool_query", d_model, "embed", kind="multiplier")

    def __call__(self, streams: jax.Array, filled: int) -> jax.Array:
        kept = streams[:filled]
        weights = jax.nn.softmax(scores(self.norm(kept), self.query[...]), axis=0)
        return jnp.sum(weights * kept.astype(jnp.float32), axis=0).astype(streams.dtype)


def scores(rows: jax.Array, query: jax.Array) -> jax.Array:
    """w . row / sqrt(d) in float32: [..., d] to [..., 1]."""
    along = jnp.sum(rows.astype(jnp.float32) * query, axis=-1, keepdims=True)
    return along / math.sqrt(rows.shape[-1])


class MultiGateSite(nnx.Module):
    """Reads the pool of [n, batch, length, d_model] streams; writes by gates.

    s_i' = s_i + beta_i (f - s_i), beta_i = sigmoid(w . RMS(s_i) / sqrt(d) + b_i). The first n - 1
    sublayers, of the trait `filling`, put their branch into a new stream instead.
    """

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.norm_in = make_norm(site.slots()["norm_in"], "norm_in", d_model, norm)
        streams = count(stack, "streams")
        self.filling = "filling" in site.traits
        # Streams that hold something before the sublayer: all, unless its traits count fewer.
        self.filled = int(site.traits[1]) if self.filling else streams
        if self.filled > 1:
            self.pool = Pool(d_model, norm)
        if not self.filling:
            self.norm = make_norm(_SCORED, "scores", d_model, norm)
            self.query = weight.vector("gate_query", d_model, "embed", kind="multiplier")
            self.shifts = weight.array("gate_shifts", (streams,), ("streams",))

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
        pooled = self.pool(carry, self.filled) if self.filled > 1 else carry[0]
        return normed(self.norm_in, pooled, numbers["norm_in_scale"])

    def write(
        self,
        carry: jax.Array,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        if self.filling:
            if keep is not None:
                branch = branch * keep
            streams = depth.stored(carry, self.filled, branch)
            held = self.filled + 1
            kept, added = jnp.sum(carry, axis=0) / held, branch / held
        else:
            shifts = self.shifts[...].reshape(-1, *(1,) * branch.ndim)
            gates = jax.nn.sigmoid(scores(self.norm(carry), self.query[...]) + shifts)
            if keep is not None:
                gates = gates * keep.astype(jnp.float32)
            gates = gates.astype(carry.dtype)
            streams = (1 - gates) * carry + gates * branch
            kept = jnp.mean((1 - gates) * carry, axis=0)
            added = jnp.mean(gates, axis=0) * branch
        if tap is not None:
            tap.record(stream=kept + added, skip=kept, branch=added)
        return streams


class MultiGateEnds(nnx.Module):
    """The embedding is the first stream; the pool of all leaves."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.streams = count(stack, "streams")
        sublayers = sum(len(layer) for layer in stack.layers)
        self.filled = min(self.streams, sublayers + 1)
        if self.filled > 1:
            self.pool = Pool(d_model, norm)

    def open(self, x: jax.Array) -> jax.Array:
        return depth.opened(x, self.streams)

    def close(self, carry: jax.Array) -> jax.Array:
        return self.pool(carry, self.filled) if self.filled > 1 else carry[0]


def _site(context: Context, *, streams: int) -> Site:
    index = context.sublayer_index
    if index < streams - 1:
        return Site(context.sublayer, norm_in=NormSlot(), traits=("filling", str(index + 1)))
    # A gate writes sigmoid(-3) sqrt(21 / S) of the branch at the start.
    share = (context.num_sublayers / 21) ** 0.5 * (math.exp(3.0) + 1.0)
    start = (-math.log(share - 1.0),) * streams
    return Site(context.sublayer, norm_in=NormSlot(), starts=(("gate_shifts", start),))


def _ends(context: Context, *, streams: int) -> StackPlacement:
    return StackPlacement(final_norm="required", options=(("streams", streams),))


def _check(*, streams: int) -> None:
    if streams < 1:
        raise VariantError(f"multi_gate_residual(streams={streams}): must be at least 1")


def _wiring(stack: StackPlacement) -> Wiring:
    pool = "Σ_i softmax_i(w·RMS(s_i) / √d) s_i"
    return Wiring(
        lanes=("S",),
        opens=("s_1 = e",),
        steps=(
            Step(f"{pool}, those filled", ("next s_i = f",), trait="filling"),
            Step(pool, ("s_i' = (1 − β_i) s_i + β_i f",)),
        ),
        closes=pool,
        where=("S = (s_1, s_2, …)", "β_i = σ(v·RMS(s_i) / √d + b_i);  w, v, b learned"),
    )


STREAM = Stream(site=MultiGateSite, ends=MultiGateEnds, wiring=_wiring)
VARIANTS = (
    Variant(
        name="multi_gate_residual",
        summary="a few streams that each move towards the branch by a gate; branches read a pool",
        equation="h = sum_i softmax_i(w RMS(s_i)/sqrt(d)) s_i, f = F(N(h));  "
        "s_i' = (1 - beta_i) s_i + beta_i f, beta_i = sigmoid(v RMS(s_i)/sqrt(d) + b_i);  "
        "the first n - 1 sublayers fill the streams",
        law=_site,
        ends=_ends,
        stream="multi_gate_residual",
        final_norm="required",
        options={"streams": 4},
        check=_check,
        paper=stream_papers.MULTI_GATE_RESIDUAL,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        failure="every stream is a mean of what was written, so the output never outgrows the "
        "largest of them, and early writes fade with depth",
        provenance="second_hand",
        note="The form with independent gates; the start of b is the published one of the "
        "competing gates carried over, with S sublayers for the paper's layers.",
    ),
)
