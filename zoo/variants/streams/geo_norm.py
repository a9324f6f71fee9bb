"""GeoNorm: a sublayer turns the stream along a sphere, which keeps its length."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError, choices
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, times
from zoo.variants.variant import Context, Recipe, Variant

_LARGEST_ANGLE = math.pi / 4
# Shorter vectors have no direction to turn from or to.
_SHORTEST = 1e-6
_DECAYS = ("harmonic", "root", "linear")


class GeodesicSite(nnx.Module):
    """x' = x cos(t) + |x| (v / |v|) sin(t), v the part of F(x) that is orthogonal to x.

    t = s |v| / |x| + b, held to [0, pi / 4], times a decay by layer; s and b are learned.
    """

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.scale = weight.scalar("angle_scale", start=1.0)
        self.shift = weight.scalar("angle_shift")

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
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
        x, f = carry.astype(jnp.float32), branch.astype(jnp.float32)
        size = _length(x)
        # The second pass removes what rounding left: f may be almost parallel to x.
        v = _orthogonal(_orthogonal(f, x, size), x, size)
        reach = _length(v)
        angle = jnp.minimum(reach / size, _LARGEST_ANGLE) * self.scale[...] + self.shift[...]
        angle = jnp.clip(times(angle, numbers["decay"]), 0.0, _LARGEST_ANGLE)
        if keep is not None:
            angle = angle * keep.astype(jnp.float32)
        kept, added = x * jnp.cos(angle), v * (size / reach) * jnp.sin(angle)
        turned = (kept + added).astype(carry.dtype)
        if tap is not None:
            tap.record(stream=turned, skip=kept, branch=added)
        return turned


def _length(x: jax.Array) -> jax.Array:
    """[..., 1], never below the shortest that is told from 0."""
    return jnp.sqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), _SHORTEST**2))


def _orthogonal(f: jax.Array, x: jax.Array, size: jax.Array) -> jax.Array:
    return f - x * (jnp.sum(f * x, axis=-1, keepdims=True) / size**2)


def _site(context: Context, *, decay: str) -> Site:
    layers = context.num_layers
    factor = {
        "harmonic": 1.0 / (context.layer + 1),
        "root": (context.layer + 1) ** -0.5,
        "linear": (layers - context.layer) / layers,
    }[decay]
    return Site(
        context.sublayer,
        constants=(("decay", factor),),
        starts=(("angle_scale", 1.0), ("angle_shift", 0.0)),
    )


def _check(*, decay: str) -> None:
    if decay not in _DECAYS:
        raise VariantError(f"geo_norm(decay={decay!r}): use {choices(_DECAYS)}")


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x",),
        opens=("e",),
        steps=(Step("x", ("x cos t + |x| (v / |v|) sin t",)),),
        closes="x",
        where=(
            "v = f − ⟨f, x⟩ x / |x|²",
            "t = decay (s min(|v| / |x|, π/4) + b), in [0, π/4];  s, b learned",
        ),
    )


STREAM = Stream(site=GeodesicSite, wiring=_wiring)
VARIANTS = (
    Variant(
        name="geo_norm",
        summary="no norm: each sublayer turns the stream by an angle and keeps its length",
        equation="x' = x cos t + |x| v/|v| sin t,  v = F(x) - <F(x), x> x / |x|^2;  "
        "t = (s min(|v|/|x|, pi/4) + b) / l in [0, pi/4];  l = 1, 2 … counts layers",
        law=_site,
        stream="geo_norm",
        options={"decay": "harmonic"},
        check=_check,
        paper=stream_papers.GEO_NORM,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        failure="the length of the stream is the embedding's for ever, and so is the softness of "
        "the logits unless a final norm is asked for",
        provenance="second_hand",
        note="From a port; whether the paper's decay counts layers or sublayers is not known "
        "here. decay = root is 1/sqrt(l), linear (N - l + 1)/N.",
    ),
)
