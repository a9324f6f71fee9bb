"""nGPT: a stream of unit length that turns towards each branch's direction."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.errors import VariantError
from zoo.layers.norms import NormSpec, unit
from zoo.variants import stream_papers
from zoo.variants.placement import Multiplier, Site, StackPlacement
from zoo.variants.streams.base import Ends, Numbers, Step, Stream, Tap, Wiring, learned
from zoo.variants.variant import Context, Recipe, Variant

# Start of the step towards the branch (2410.01131, section 2.2.2; the authors' code).
_STEP = 0.05


class SphereSite(nnx.Module):
    """One sublayer's access to x, [batch, length, d_model], of unit length."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.branch = learned(site.branch, "branch", d_model)

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
        """x as it is."""
        return carry

    def write(
        self,
        carry: jax.Array,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        """unit(x + |alpha| (unit(branch) - x))."""
        step = numbers["branch"] if self.branch is None else self.branch[...] * numbers["branch"]
        step = jnp.abs(step) if keep is None else jnp.abs(step) * keep.astype(jnp.float32)
        x = carry.astype(jnp.float32)
        goal = unit(checkpoint_name(branch, "residual_sum").astype(jnp.float32))
        skip, added = (1.0 - step) * x, step * goal
        new = unit(skip + added).astype(carry.dtype)
        if tap is not None:
            tap.record(stream=new, skip=skip, branch=added)
        return new


class SphereEnds(Ends):
    """The embedding's direction at the start; x itself at the end."""

    def open(self, x: jax.Array) -> jax.Array:
        return unit(x.astype(jnp.float32)).astype(x.dtype)


def _ngpt(context: Context) -> Site:
    stored = _stored(context)
    width, head_dim = float(context.d_model), float(context.head_dim)
    return Site(
        context.sublayer,
        branch=Multiplier(_STEP, learned="vector", stored=stored),
        qk_norm=False,
        qk_unit=True,
        qk_scale=Multiplier(1.0, learned="vector", stored=stored),
        # Scores of unit vectors have a deviation of head_dim^-0.5: this brings them to 1.
        attention_scale=head_dim**0.5 if context.head_dim else None,
        hidden_scale=Multiplier(width**0.5, learned="vector", stored=1.0),
    )


def _ends(context: Context) -> StackPlacement:
    return StackPlacement(
        embedding_norm="forbidden",
        final_norm="forbidden",
        logit_scale=Multiplier(1.0, learned="vector", stored=_stored(context)),
    )


def _stored(context: Context) -> float:
    """Where the scales' arrays start: about the size of a weight, so that both learn alike."""
    if not context.d_model:
        raise VariantError("ngpt: its scales start at d_model^-0.5; give d_model")
    return float(context.d_model**-0.5)


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x",),
        opens=("unit(e)",),
        steps=(Step("x", ("unit(x + |α| (unit(f) − x))",)),),
        closes="x",
        where=("α learned, for each feature",),
    )


STREAM = Stream(site=SphereSite, ends=SphereEnds, wiring=_wiring)

VARIANTS = (
    Variant(
        name="ngpt",
        summary="stream and weights of unit length; each sublayer turns x towards its branch",
        equation="x' = unit(x + |alpha| (unit(F(x)) - x)),  alpha = 0.05 at the start",
        law=_ngpt,
        ends=_ends,
        embedding_norm="forbidden",
        final_norm="forbidden",
        base_init="lecun_normal",
        hooks=("sphere",),
        stream="ngpt",
        paper=stream_papers.NGPT,
        recipe=Recipe(
            warmup=0, weight_decay=0.0, source="2410.01131: no warm-up and no weight decay"
        ),
        note=(
            "the authors have rotary positions, SwiGLU, an untied head and no biases; positions "
            "that are added are on the sphere before they are added. A moving average of the "
            "weights is not put back to unit length. Dory's activations are these."
        ),
    ),
)
