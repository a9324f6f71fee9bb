"""The plain stream: one vector per token, `x' = N_out(a x + b N_branch(F(N_in(x))))`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers import weight
from zoo.layers.norms import Norm, NormSpec
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import (
    Numbers,
    Stream,
    Tap,
    learned,
    make_norm,
    normed,
    scaled,
)

# Least skip^2 of a variance gate: the square root stays differentiable when b reaches 1.
_LEAST_SKIP = 1e-3


class PlainSite(nnx.Module):
    """The norms and learned multipliers of one sublayer; the one place a norm meets x."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        def fill(slot: NormSlot | None, role: str) -> Norm | None:
            return None if slot is None else make_norm(slot, role, d_model, norm)

        self.skip_normed, self.gated = site.skip_normed, site.gate
        self.norm_in = fill(site.norm_in, "norm_in")
        self.norm_branch = fill(site.norm_branch, "norm_branch")
        self.norm_out = fill(site.norm_out, "norm_out")
        self.skip = learned(site.skip, "skip", d_model)
        self.branch = learned(site.branch, "branch", d_model)
        if site.gate is not None and site.gate.form == "straight_through":
            self.gate = weight.scalar("gate")
        elif site.gate is not None:
            self.gate = weight.vector("gate", d_model, "embed", kind="multiplier")

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
        """N_in(x)."""
        return normed(self.norm_in, carry, numbers.get("norm_in_scale", 1.0))

    def write(
        self,
        carry: jax.Array,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        """N_out(a x + b N_branch(branch)); [batch, length, d_model] all."""
        branch = normed(self.norm_branch, branch, numbers.get("norm_branch_scale", 1.0))
        if keep is not None:
            branch = branch * keep
        skip = self.read(carry, numbers) if self.skip_normed else carry
        if self.gated is not None and self.gated.form == "variance":
            skip, branch = _variance_preserving(skip, branch, self.gate, self.gated.temperature)
        elif self.gated is not None and self.gated.on == "skip":
            skip = _straight_through(skip, self.gate)
        skip = scaled(skip, self.skip, numbers["skip"])
        branch = scaled(branch, self.branch, numbers["branch"])
        x = checkpoint_name(skip + branch, "residual_sum")
        if self.gated is not None and self.gated.form != "variance" and self.gated.on == "sum":
            x = _straight_through(x, self.gate)
        x = normed(self.norm_out, x, numbers.get("norm_out_scale", 1.0))
        if tap is not None:
            tap.record(stream=x, skip=skip, branch=branch)
        return x

    def profile(
        self, x: jax.Array, branch: jax.Array, numbers: Numbers, skip: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """(x', the next sublayer's skip) with `skip` in the place of the learned one.

        The next is the root of Var(skip x) + Var(branch) over everything (Admin, 2004.08249,
        section 4.2 and the authors' code).
        """
        kept = x * skip.astype(x.dtype)
        branch = scaled(branch, self.branch, numbers["branch"])
        variance = jnp.var(kept.astype(jnp.float32)) + jnp.var(branch.astype(jnp.float32))
        return normed(self.norm_out, kept + branch), jnp.sqrt(variance)


def _straight_through(x: jax.Array, gate: nnx.Param[jax.Array]) -> jax.Array:
    """(1 - SiLU(g)) x, with the identity as its Jacobian in x (GPAS, 2506.22049, eq. 5)."""
    factor = jax.nn.silu(gate[...]).astype(x.dtype)
    return x - factor * jax.lax.stop_gradient(x)


def _variance_preserving(
    skip: jax.Array, branch: jax.Array, gate: nnx.Param[jax.Array], temperature: float
) -> tuple[jax.Array, jax.Array]:
    """(a skip, b branch) with b = sigmoid(w / temperature) and a^2 = 1 - b^2, per feature."""
    logits = gate[...] / temperature
    b = jax.nn.sigmoid(logits)
    # 1 - b^2 = (1 - b)(1 + b), without cancellation where b is near 1.
    a = jnp.sqrt(jnp.maximum(jax.nn.sigmoid(-logits) * (1.0 + b), _LEAST_SKIP))
    return skip * a.astype(skip.dtype), branch * b.astype(branch.dtype)


STREAM = Stream(site=PlainSite)
