"""A mixture of experts in the place of the MLP (GShard, 2006.16668; Mixtral, 2401.04088)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers import weight
from zoo.layers.linear import Linear
from zoo.layers.mlp import Activation, activate


class Experts(nnx.Module):
    """Each token goes through a few of several gated MLPs, weighted by a softmax over all.

    The router has no loss of its own that would balance the experts' loads, and no token is
    dropped.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        count: int,
        chosen: int,
        renormalised: bool,
        activation: Activation,
    ) -> None:
        """Make the weights.

        Args:
            count, chosen: experts, and how many of them a token goes through.
            renormalised: whether the weights of those chosen sum to 1.
        """
        self.chosen, self.renormalised = chosen, renormalised
        self.activation: Activation = activation
        self.router = Linear(
            d_model, count, role="router", axes=("embed", "expert_scores"), bias=False
        )
        self.gate = weight.experts("w1", count, d_model, d_ff, ("embed", "mlp"))
        self.w1 = weight.experts("w1", count, d_model, d_ff, ("embed", "mlp"))
        self.w2 = weight.experts("w2", count, d_ff, d_model, ("mlp", "embed"))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, d_model] to the same shape."""
        tokens = x.reshape(-1, x.shape[-1])
        shares, experts = self._route(tokens)
        # Sorted by expert, so that each expert's tokens lie together: one product for all.
        order = jnp.argsort(experts.reshape(-1))
        rows = tokens[order // self.chosen]
        sizes = jnp.bincount(experts.reshape(-1), length=self.gate.shape[0])
        gate = checkpoint_name(self._product(rows, self.gate, sizes), "pre_activation")
        hidden = checkpoint_name(self._product(rows, self.w1, sizes), "pre_activation")
        mixed = self._product(activate(gate, self.activation) * hidden, self.w2, sizes)
        mixed = mixed * shares.reshape(-1)[order, None].astype(mixed.dtype)
        summed = jnp.zeros_like(tokens).at[order // self.chosen].add(mixed)
        return summed.reshape(x.shape)

    def _route(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[tokens, chosen] of the weights and the experts; the softmax is over all experts."""
        scores = self.router(tokens).astype(jnp.float32)
        shares, experts = jax.lax.top_k(jax.nn.softmax(scores, axis=-1), self.chosen)
        if self.renormalised:
            shares = shares / jnp.sum(shares, axis=-1, keepdims=True)
        return shares, experts

    @staticmethod
    def _product(rows: jax.Array, kernels: nnx.Param[jax.Array], sizes: jax.Array) -> jax.Array:
        """Each row times its expert's matrix."""
        own = kernels[...].astype(rows.dtype)
        return jax.lax.ragged_dot(rows, own, sizes.astype(jnp.int32))
