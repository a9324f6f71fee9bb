"""Attention Residuals: a sublayer reads a softmax over what earlier ones have added."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count, make_norm, normed
from zoo.variants.variant import Context, Recipe, Variant

_KEY_NORM = NormSlot(kind="rms_norm", bias=False)
# Logit of a block that is not there yet: finite, so that its gradient is 0 and not NaN.
_ABSENT = -1e30
# Accelerators round the factors of a float32 product otherwise.
_EXACT = jax.lax.Precision.HIGHEST


class DepthAttention(nnx.Module):
    """sum_i softmax_i(w . RMS(v_i)) v_i over blocks v_i, with a learned query w per read."""

    def __init__(self, prefix: str, d_model: int, norm: NormSpec) -> None:
        self.eps = norm.eps
        self.query = weight.vector(f"{prefix}query", d_model, "embed", kind="multiplier")
        self.gain = weight.vector(f"{prefix}key_norm", d_model, "embed", kind="gain", start=1.0)

    def __call__(self, blocks: jax.Array, sources: Any) -> jax.Array:
        """[blocks, batch, length, d_model] to the mixture of the first `sources` of them."""
        values = blocks.astype(jnp.float32)
        # w . (g RMS(v)) = ((g w) . v) / rms(v): no normed copy of every block. Products instead of
        # sums of elementwise ones make the gradient six times as fast on CPU.
        along = jnp.einsum(
            "nbld,d->nbl", values, self.gain[...] * self.query[...], precision=_EXACT
        )
        logits = along * jax.lax.rsqrt(jnp.mean(values * values, axis=-1) + self.eps)
        there = jnp.arange(blocks.shape[0]) < sources
        logits = jnp.where(there[:, None, None], logits, _ABSENT)
        weights = jax.nn.softmax(logits, axis=0)
        mixed = jnp.einsum("nbl,nbld->bld", weights, values, precision=_EXACT)
        return mixed.astype(blocks.dtype)


class AttentionResidualSite(nnx.Module):
    """One sublayer's access to the blocks, [1 + blocks, batch, length, d_model].

    The first is the embedding; each other is the sum of what the sublayers of one block have
    added so far, and 0 before.
    """

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.depth = DepthAttention("", d_model, norm)
        self.norm_in = make_norm(site.slots()["norm_in"], "norm_in", d_model, norm)

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
        """N_in of the mixture of all blocks that hold anything."""
        return normed(self.norm_in, self.depth(carry, numbers["sources"]), numbers["norm_in_scale"])

    def write(
        self,
        carry: jax.Array,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        """The branch added to its block; the sum of all blocks is what is recorded."""
        branch = checkpoint_name(branch if keep is None else branch * keep, "residual_sum")
        slot = jnp.asarray(numbers["slot"], jnp.int32)
        if tap is not None:
            skip = carry.sum(0)
            tap.record(stream=skip + branch, skip=skip, branch=branch)
        own = jax.lax.dynamic_index_in_dim(carry, slot, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(carry, own + branch, slot, axis=0)


class AttentionResidualEnds(nnx.Module):
    """The embedding as the first block; one more read over all of them at the end."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.slots = count(stack, "slots")
        self.depth = DepthAttention("final_", d_model, norm)

    def open(self, x: jax.Array) -> jax.Array:
        return jnp.zeros((self.slots, *x.shape), x.dtype).at[0].set(x)

    def close(self, carry: jax.Array) -> jax.Array:
        return self.depth(carry, self.slots)


def _attention_residuals(context: Context, *, blocks: int) -> Site:
    if blocks >= context.num_sublayers:
        slot, opens = context.sublayer_index + 1, True
    else:
        span = _span(context, blocks)
        slot = context.layer // span + 1
        opens = context.layer % span == 0 and context.sublayer == context.sublayers[0]
    # The sublayer that opens a block does not see it; the others see what is in it so far.
    sources = slot if opens else slot + 1
    return Site(
        context.sublayer,
        norm_in=NormSlot(),
        norms=(("key_norm", _KEY_NORM),),
        constants=(("slot", float(slot)), ("sources", float(sources))),
    )


def _ends(context: Context, *, blocks: int) -> StackPlacement:
    full = blocks >= context.num_sublayers
    made = context.num_sublayers if full else math.ceil(context.num_layers / _span(context, blocks))
    return StackPlacement(final_norm="required", options=(("slots", made + 1),))


def _span(context: Context, blocks: int) -> int:
    """Layers of a block; the last block may have fewer."""
    return math.ceil(context.num_layers / blocks)


def _check(*, blocks: int) -> None:
    if blocks < 1:
        raise VariantError(f"attention_residuals(blocks={blocks}): blocks must be at least 1")


def _wiring(stack: StackPlacement) -> Wiring:
    pool = "Σ_i softmax_i(w·RMS(v_i)) v_i"
    return Wiring(
        lanes=("V",),
        opens=("v_0 = e, the others 0",),
        steps=(Step(f"{pool}, blocks so far", ("v_b' = v_b + f, b the block it is in",)),),
        closes=pool,
        where=(
            "V = (v_0, v_1, …): the embedding, and the sum of branches of each block",
            "w learned",
        ),
    )


STREAM = Stream(site=AttentionResidualSite, ends=AttentionResidualEnds, wiring=_wiring)

VARIANTS = (
    Variant(
        name="attention_residuals",
        summary="each sublayer attends to the sums of earlier blocks instead of one running sum",
        equation="x = sum_i softmax_i(w . RMS(v_i)) v_i,  v_block <- v_block + F(N(x)),  w = 0",
        law=_attention_residuals,
        ends=_ends,
        final_norm="required",
        options={"blocks": 8},
        check=_check,
        stream="attention_residuals",
        paper=stream_papers.ATTENTION_RESIDUALS,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        failure="training keeps all blocks of every layer: full form grows with depth squared",
        note=(
            "with at least as many blocks as sublayers every sublayer is a block (the full form); "
            "else a block is whole layers, the last one perhaps fewer. Inkling-2's form, which "
            "norms the values too, is another. Figures of the stream are of the sum of the blocks."
        ),
    ),
)
