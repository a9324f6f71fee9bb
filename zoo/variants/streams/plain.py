"""The plain stream: one vector per token, `x' = N_out(a x + b N_branch(F(N_in(x))))`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers import weight
from zoo.layers.norms import Norm, NormSpec
from zoo.variants.placement import Multiplier, NormSlot, Site
from zoo.variants.streams.base import Stream


class PlainSite(nnx.Module):
    """The norms and learned multipliers of one sublayer; the one place a norm meets x."""

    def __init__(self, site: Site, d_model: int, norm: NormSpec) -> None:
        def fill(slot: NormSlot | None, role: str) -> Norm | None:
            return None if slot is None else Norm(d_model, norm, role=role)

        self.norm_in = fill(site.norm_in, "norm_in")
        self.norm_branch = fill(site.norm_branch, "norm_branch")
        self.norm_out = fill(site.norm_out, "norm_out")
        self.skip = _learned(site.skip, "skip", d_model)
        self.branch = _learned(site.branch, "branch", d_model)

    def read(self, carry: jax.Array) -> jax.Array:
        """N_in(x)."""
        return carry if self.norm_in is None else self.norm_in(carry)

    def write(
        self,
        carry: jax.Array,
        branch: jax.Array,
        numbers: Mapping[str, Any],
        *,
        keep: jax.Array | None = None,
        taps: dict[str, jax.Array] | None = None,
    ) -> jax.Array:
        """N_out(a x + b N_branch(branch)); [batch, length, d_model] all."""
        if self.norm_branch is not None:
            branch = self.norm_branch(branch)
        if keep is not None:
            branch = branch * keep
        skip = _scale(carry, self.skip, numbers["skip"])
        branch = _scale(branch, self.branch, numbers["branch"])
        x = checkpoint_name(skip + branch, "residual_sum")
        if self.norm_out is not None:
            x = self.norm_out(x)
        if taps is not None:
            taps["stream_rms"] = rms(x)
            taps["branch_skip_ratio"] = rms(branch) / rms(skip)
            taps["finite"] = jnp.all(jnp.isfinite(x))
        return x


def rms(x: jax.Array) -> jax.Array:
    """Root mean square over everything, float32 scalar."""
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))


def _learned(multiplier: Multiplier, role: str, d_model: int) -> nnx.Param[jax.Array] | None:
    match multiplier.learned:
        case None:
            return None
        case "scalar":
            return weight.scalar(role)
        case "vector":
            return weight.vector(role, d_model, "embed", kind="multiplier")


def _scale(x: jax.Array, learned: nnx.Param[jax.Array] | None, number: Any) -> jax.Array:
    if learned is not None:
        return x * learned[...].astype(x.dtype)
    # A constant of exactly 1 is no operation at all, and stays bit-exact by itself.
    return x if isinstance(number, float) and number == 1.0 else x * jnp.asarray(number, x.dtype)


PLAIN_STREAM = Stream(site=PlainSite, open=lambda x: x, close=lambda carry: carry)
