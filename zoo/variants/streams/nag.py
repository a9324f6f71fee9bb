"""NAG: branches read the stream's direction and add a step in proportion to its size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count
from zoo.variants.variant import Context, Recipe, Variant

_SMALLEST = 1e-6


class NagSite(nnx.Module):
    """x' = x + rho alpha m u: rho the size of x, u the branch orthogonal to x with size 1.

    m = sum_c p_c sigmoid(w_c . x / rho + b_c), p the softmax of learned logits; sizes are roots
    of mean squares.
    """

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        gates = count(stack, "gates")
        self.alpha = weight.scalar("step_size")
        self.into_gates = weight.matrix("step_gates", d_model, gates, ("embed", "gates"))
        self.gate_shift = weight.vector("step_gates", gates, "gates", kind="bias")
        self.gate_logits = weight.array("gate_logits", (gates,), ("gates",))

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
        x = carry.astype(jnp.float32)
        return (x / _size(x)).astype(carry.dtype)

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
        size = _size(x)
        direction = x / size
        f = f - jnp.mean(f, axis=-1, keepdims=True)
        # The second pass removes what rounding left: f may be almost parallel to x.
        f = _orthogonal(_orthogonal(f, direction), direction)
        gates = jax.nn.sigmoid(direction @ self.into_gates[...] + self.gate_shift[...])
        gate = jnp.sum(jax.nn.softmax(self.gate_logits[...]) * gates, axis=-1, keepdims=True)
        step = size * self.alpha[...] * gate * (f / _size(f))
        if keep is not None:
            step = step * keep.astype(jnp.float32)
        moved = (x + step).astype(carry.dtype)
        if tap is not None:
            tap.record(stream=moved, skip=carry, branch=step)
        return moved


def _size(x: jax.Array) -> jax.Array:
    """Root mean square over the features, [..., 1]."""
    return jnp.sqrt(jnp.maximum(jnp.mean(x * x, axis=-1, keepdims=True), _SMALLEST**2))


def _orthogonal(f: jax.Array, direction: jax.Array) -> jax.Array:
    return f - direction * jnp.mean(f * direction, axis=-1, keepdims=True)


def _site(context: Context, *, gates: int) -> Site:
    start = (context.sublayer_index + 1) ** -0.5
    return Site(context.sublayer, starts=(("step_size", start),))


def _ends(context: Context, *, gates: int) -> StackPlacement:
    return StackPlacement(final_norm="required", options=(("gates", gates),))


def _check(*, gates: int) -> None:
    if gates < 1:
        raise VariantError(f"nag(gates={gates}): must be at least 1")


def _wiring(stack: StackPlacement) -> Wiring:
    return Wiring(
        lanes=("x",),
        opens=("e",),
        steps=(Step("x / ρ", ("x + ρ α m u",)),),
        closes="x",
        where=(
            "ρ: root mean square of x",
            "u: f − mean, orthogonal to x, of size 1",
            "m: a mean of gates σ(w·x / ρ + b);  α learned",
        ),
    )


STREAM = Stream(site=NagSite, wiring=_wiring)
VARIANTS = (
    Variant(
        name="nag",
        summary="norm-agnostic residual: gated steps across the stream, relative to its size",
        equation="r = x/rho, u = unit((F(r) - mean) orthogonal to r);  x' = x + rho alpha m(r) u;  "
        "alpha = i^-1/2 at the start, i counts sublayers",
        law=_site,
        ends=_ends,
        stream="nag",
        final_norm="required",
        options={"gates": 8},
        check=_check,
        paper=stream_papers.NAG,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        provenance="second_hand",
        note="The paper's exponent on the gate is left at 1, where it is said to start; gates are "
        "drawn from the base init, not N(0, 0.02). Its skipping of layers is not here.",
    ),
)
