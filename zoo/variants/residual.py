"""A placement around a sublayer of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError, choices
from zoo.layers import weight
from zoo.layers.norms import NormKind, NormSpec
from zoo.layers.weight import ROLES
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import SUBLAYERS, Architecture, Context, Stack, Variant


class Residual(nnx.Module):
    """`residual(x, f)`: x and f's output joined as the variant says, in one layer.

    A plain NNX module: its norms and learned multipliers are ordinary parameters.
    The weights inside `f` are drawn by their owner, with `init_gain`.
    """

    def __init__(
        self,
        variant: str | Variant,
        *,
        num_layers: int,
        d_model: int,
        layer: int | None = None,
        sublayer: str = "mlp",
        architecture: Architecture = "decoder",
        stack: Stack | None = None,
        num_encoder_layers: int | None = None,
        norm: NormKind = "layer_norm",
        eps: float = 1e-5,
        norm_bias: bool = True,
        rngs: nnx.Rngs | int | None = None,
    ) -> None:
        """Make the residual of one sublayer.

        Args:
            num_layers: layers of this stack (for `encoder_decoder`: of both, unless
                num_encoder_layers says otherwise).
            layer: index from 0; may be left out when the law is the same in all layers.
            sublayer: `self_attention`, `cross_attention` or `mlp`.
            rngs: accepted for symmetry with other modules; nothing here is random.

        Raises:
            VariantError: when the law needs `layer` and none is given, or a name is unknown.
        """
        context = _context(
            num_layers=num_layers,
            num_encoder_layers=num_encoder_layers,
            layer=layer,
            sublayer=sublayer,
            architecture=architecture,
            stack=stack,
            d_model=d_model,
        )
        chosen = get_variant(variant)
        if chosen.stream != "plain":
            raise VariantError(
                f"{chosen.name} carries more than x from sublayer to sublayer; "
                "use zoo.ResidualStack"
            )
        self.site: Site = chosen.site(context)
        spec = NormSpec(norm, eps, norm_bias)
        access: Any = PlainSite(self.site, StackPlacement(), d_model, spec)
        params, weights = weight.split(access)
        filled = weight.map_weights(self._initial, weights, params)
        self.access = weight.bind(access, filled)

    def __call__(self, x: jax.Array, f: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """[batch, length, d_model] to the same; `f` maps what it is given likewise."""
        numbers = self.site.numbers()
        return self.access.write(x, f(self.access.read(x, numbers)), numbers)

    def _initial(self, declared: weight.Weight, value: jax.Array) -> jax.Array:
        return jnp.full_like(value, jnp.asarray(self.site.initial(declared)))


def init_gain(
    variant: str | Variant,
    *,
    role: str,
    num_layers: int,
    layer: int | None = None,
    architecture: Architecture = "decoder",
    stack: Stack | None = None,
    num_encoder_layers: int | None = None,
    d_model: int = 0,
) -> float:
    """The factor a placement puts on the base init's standard deviation for one role.

    Args:
        role: `q k v o` (attention), `w1 w2` (MLP; w1 is the gate too), `xq xk xv xo`
            (cross-attention), `emb`, `pos`, `head`.

    Raises:
        VariantError: on an unknown role or variant, or a law that needs `layer`.
    """
    if role not in ROLES:
        raise VariantError(f"role = {role!r} is not known; roles: {choices(ROLES)}")
    chosen = get_variant(variant)
    if role in ("emb", "pos", "head"):
        return 1.0
    sublayer = "mlp" if role in ("w1", "w2") else "self_attention"
    context = _context(
        num_layers=num_layers,
        num_encoder_layers=num_encoder_layers,
        layer=layer,
        sublayer="cross_attention" if role.startswith("x") else sublayer,
        architecture=architecture,
        stack=stack,
        d_model=d_model,
    )
    return chosen.site(context).init_gain(role)


def _context(
    *,
    num_layers: int,
    num_encoder_layers: int | None,
    layer: int | None,
    sublayer: str,
    architecture: Architecture,
    stack: Stack | None,
    d_model: int,
) -> Context:
    if architecture not in SUBLAYERS:
        raise VariantError(f"architecture = {architecture!r}; use {choices(SUBLAYERS)}")
    stacks = SUBLAYERS[architecture]
    own: Stack = stack or ("encoder" if architecture == "encoder" else "decoder")
    if own not in stacks:
        raise VariantError(f"stack = {own!r}: {architecture} has {choices(stacks)}")
    if sublayer not in stacks[own]:
        raise VariantError(
            f"sublayer = {sublayer!r}: {architecture}'s {own} has {choices(stacks[own])}"
        )
    if num_layers < 1 or (layer is not None and not 0 <= layer < num_layers):
        raise VariantError(
            f"layer = {layer} of num_layers = {num_layers}: layers run from 0 to num_layers - 1"
        )
    encoder = num_layers if num_encoder_layers is None else num_encoder_layers
    return Context(
        architecture=architecture,
        stack=own,
        num_encoder_layers=encoder if "encoder" in stacks else 0,
        num_decoder_layers=num_layers if "decoder" in stacks else 0,
        sublayers=stacks[own],
        sublayer=sublayer,
        layer_index=layer,
        d_model=d_model,
    )
