"""A placement around sublayers of one's own: one of them, or a whole stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError, choices
from zoo.layers import weight
from zoo.layers.distributions import draw
from zoo.layers.norms import Norm, NormKind, NormSpec
from zoo.layers.weight import ROLES
from zoo.variants.placement import NormSlot, Site, StackPlacement, Start
from zoo.variants.registry import get_variant
from zoo.variants.streams import STREAMS, Carry
from zoo.variants.streams.base import Numbers, make_norm, normed, ramped, slowed, times
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import SUBLAYERS, Architecture, Context, Layout, Stack, Variant

Branch = Callable[[jax.Array], jax.Array]

# Of variants whose base init is a normal distribution: that of models where none is asked for.
_STD = 0.02


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
        d_ff: int = 0,
        num_heads: int = 0,
        norm: NormKind = "layer_norm",
        eps: float = 1e-5,
        norm_bias: bool = True,
        rngs: nnx.Rngs | int | None = None,
    ) -> None:
        """Make the residual of one sublayer.

        Args:
            num_layers: layers of this stack (for `encoder_decoder`: of both, unless
                num_encoder_layers says otherwise).
            d_ff, num_heads: of the sublayers, for laws that look at them; 0: not known.
            layer: index from 0; may be left out when the law is the same in all layers.
            sublayer: `self_attention`, `cross_attention` or `mlp`.
            rngs: needed by kinds of norm that hold a matrix, which is drawn.

        Raises:
            VariantError: when the law needs `layer` and none is given, the variant carries more
                than x along the stack, or a name is unknown.
        """
        _check_width(d_model)
        context = stack_context(
            num_layers=num_layers,
            num_encoder_layers=num_encoder_layers,
            layer=layer,
            sublayer=sublayer,
            architecture=architecture,
            stack=stack,
            d_model=d_model,
            d_ff=d_ff,
            num_heads=num_heads,
        )
        chosen = get_variant(variant)
        if chosen.stream != "plain":
            raise VariantError(
                f"{chosen.name} carries more than x from sublayer to sublayer; "
                "use zoo.ResidualStack"
            )
        self.site: Site = chosen.site(context)
        spec = NormSpec(norm, eps, norm_bias)
        access = PlainSite(self.site, StackPlacement(), d_model, spec)
        self.access = _started(access, self.site.initial, chosen, rngs)

    def __call__(self, x: jax.Array, f: Branch, *, step: jax.Array | None = None) -> jax.Array:
        """[batch, length, d_model] to the same; `f` maps what it is given likewise.

        Args:
            step: of the optimizer, for scheduled multipliers; None: the end of their schedules.
        """
        numbers = _numbers(self.site, step)
        return self.access.write(x, f(self.access.read(x, numbers)), numbers)


class ResidualStack(nnx.Module):
    """A whole stack of residuals for sublayers of one's own, with what flows along it.

        carry = stack.open(embedded)
        for layer in range(num_layers):
            carry = stack(carry, attention[layer], layer=layer, sublayer="self_attention")
            carry = stack(carry, mlp[layer], layer=layer, sublayer="mlp")
        y = stack.close(carry)

    or `y = stack.run(embedded, functions)` in one. A plain NNX module: norms, learned multipliers
    and the weights of the stream are ordinary parameters, one set a sublayer.

    What the placement asks of the sublayers themselves stays with their owner: their init gains
    (`zoo.init_gain`), and what `stack.placement.layers[layer][index]` wants inside attention or
    MLP, such as norms on queries and keys.

    Attributes:
        placement: what the variant came to, numbers only.
    """

    def __init__(
        self,
        variant: str | Variant,
        *,
        num_layers: int,
        d_model: int,
        architecture: Architecture = "decoder",
        stack: Stack | None = None,
        num_encoder_layers: int | None = None,
        d_ff: int = 0,
        num_heads: int = 0,
        layout: Layout = "sequential",
        norm: NormKind = "layer_norm",
        eps: float = 1e-5,
        norm_bias: bool = True,
        rngs: nnx.Rngs | int | None = None,
    ) -> None:
        """Make the residuals of one stack.

        Args:
            num_layers: layers of this stack (for `encoder_decoder`: of both, unless
                num_encoder_layers says otherwise).
            stack: `encoder` or `decoder`; needed for the encoder of an `encoder_decoder` only.
            d_ff, num_heads: of the sublayers, for laws that look at them; 0: not known.
            layout: `parallel`: attention and MLP are one sublayer, named `parallel`.
            norm, eps, norm_bias: of every norm, unless the variant asks for its own.
            rngs: needed by streams and kinds of norm that hold a matrix, which is drawn.

        Raises:
            VariantError: on an unknown name, or where the variant does not go with the rest.
        """
        _check_width(d_model)
        context = stack_context(
            num_layers=num_layers,
            num_encoder_layers=num_encoder_layers,
            layer=None,
            sublayer=None,
            architecture=architecture,
            stack=stack,
            d_model=d_model,
            d_ff=d_ff,
            num_heads=num_heads,
            layout=layout,
        )
        chosen = get_variant(variant)
        self.placement = chosen.stack(context)
        self.sublayers = context.sublayers
        spec, stream = NormSpec(norm, eps, norm_bias), STREAMS[self.placement.stream]
        drawn = nnx.Rngs(rngs) if isinstance(rngs, int) else rngs

        def access(site: Site) -> Any:
            made: Any = stream.site(site, self.placement, d_model, spec)
            return _started(made, site.initial, chosen, drawn)

        def norm_at(end: str, slot: NormSlot) -> Any:
            made = make_norm(slot, end, d_model, spec)
            return _started(made, self.placement.initial, chosen, drawn)

        self.sites = nnx.List(
            [nnx.List([access(site) for site in layer]) for layer in self.placement.layers]
        )
        ends: Any = stream.ends(self.placement, d_model, spec)
        self.ends = _started(ends, self.placement.initial, chosen, drawn)
        if self.placement.embedding_norm == "required":
            self.embedding_norm = norm_at("embedding_norm", self.placement.embedding_slot)
        if self.placement.final_norm == "required":
            self.final_norm = norm_at("final_norm", self.placement.final_slot)

    def open(self, x: jax.Array) -> Carry:
        """What flows along the stack, of the embedding [batch, length, d_model].

        The placement's factors on the embedding and its gradient, its norm where the variant
        requires one, then the stream; for the plain stream the carry is x itself.
        """
        placement = self.placement
        x = times(slowed(x, placement.embedding_gradient), placement.embedding_multiplier)
        embedding_norm: Norm | None = getattr(self, "embedding_norm", None)
        x = normed(embedding_norm, x, placement.embedding_slot.scale)
        return self.ends.open(x)

    def __call__(
        self,
        carry: Carry,
        f: Branch,
        *,
        layer: int,
        sublayer: str,
        step: jax.Array | None = None,
    ) -> Carry:
        """The carry after one sublayer.

        Args:
            carry: as `open` or the sublayer before returned it.
            f: [batch, length, d_model] to the same.
            layer: index from 0.
            sublayer: one of `stack.sublayers`.
            step: of the optimizer, for scheduled multipliers; None: the end of their schedules.

        Raises:
            VariantError: when the stack has no such place.
        """
        if not 0 <= layer < len(self.sites):
            raise VariantError(
                f"layer = {layer} of num_layers = {len(self.sites)}: layers run from 0 to "
                "num_layers - 1"
            )
        if sublayer not in self.sublayers:
            raise VariantError(f"sublayer = {sublayer!r}: use {choices(self.sublayers)}")
        index = self.sublayers.index(sublayer)
        access: Any = self.sites[layer][index]
        numbers = _numbers(self.placement.layers[layer][index], step)
        return access.write(carry, f(access.read(carry, numbers)), numbers)

    def close(self, carry: Carry) -> jax.Array:
        """The stack's output, after the final norm where the variant requires one."""
        final_norm: Norm | None = getattr(self, "final_norm", None)
        return normed(final_norm, self.ends.close(carry), self.placement.final_slot.scale)

    def run(
        self,
        x: jax.Array,
        functions: Sequence[Mapping[str, Branch]],
        *,
        step: jax.Array | None = None,
    ) -> jax.Array:
        """`open`, every sublayer in order, `close`.

        Args:
            x: the embedding, [batch, length, d_model].
            functions: for each layer, the function of each of `stack.sublayers`.
            step: as for a call.

        Raises:
            VariantError: when there are more or fewer functions than places.
        """
        for layer, own in enumerate(functions):
            if set(own) != set(self.sublayers):
                raise VariantError(
                    f"functions[{layer}] has {choices(own)}; give {choices(self.sublayers)}"
                )
        if len(functions) != len(self.sites):
            raise VariantError(
                f"functions for {len(functions)} layers; the stack has {len(self.sites)}"
            )
        carry = self.open(x)
        for layer, own in enumerate(functions):
            for sublayer in self.sublayers:
                carry = self(carry, own[sublayer], layer=layer, sublayer=sublayer, step=step)
        return self.close(carry)


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
    d_ff: int = 0,
    num_heads: int = 0,
) -> float:
    """The factor a placement puts on the base init's standard deviation for one role.

    It is relative to what the weight would be drawn with under no placement: for matrices of the
    layers and `head` the model's base init (Xavier normal unless chosen otherwise, or the
    variant's own, `Variant.base_init`), for `emb` and `pos` the standard deviation of the
    embedding tables (d_model^-0.5 unless chosen otherwise).

    Args:
        role: `q k v o` (attention), `w1 w2` (MLP; w1 is the gate too), `xq xk xv xo`
            (cross-attention), and of the stack's ends `emb`, `pos`, `head`.
        d_model, d_ff, num_heads: for laws that look at them; 0: not known.

    Raises:
        VariantError: on an unknown role or variant, or a law that needs `layer`.
    """
    if role not in ROLES:
        raise VariantError(f"role = {role!r} is not known; roles: {choices(ROLES)}")
    chosen = get_variant(variant)
    at_ends = role in ("emb", "pos", "head")
    sublayer = "mlp" if role in ("w1", "w2") else "self_attention"
    context = stack_context(
        num_layers=num_layers,
        num_encoder_layers=num_encoder_layers,
        layer=layer,
        sublayer="cross_attention" if role.startswith("x") else sublayer,
        architecture=architecture,
        stack=stack,
        d_model=d_model,
        d_ff=d_ff,
        num_heads=num_heads,
    )
    if at_ends:
        return dict(chosen.stack(context).init_gains).get(role, 1.0)
    return chosen.site(context).init_gain(role)


def _started(
    module: Any,
    initial: Callable[[weight.Weight], Start],
    variant: Variant,
    rngs: nnx.Rngs | int | None,
) -> Any:
    """The module with every weight where its placement starts it; matrices are drawn."""
    drawn = nnx.Rngs(rngs) if isinstance(rngs, int) else rngs
    base = variant.base_init or "xavier_normal"

    def start(own: weight.Weight, value: jax.Array) -> jax.Array:
        values = jnp.asarray(initial(own), value.dtype)
        if own.kind in ("matrix", "embedding"):
            if drawn is None:
                raise VariantError(
                    f"rngs = None: {own.role!r} is a matrix to draw; give rngs=0, 1…"
                )
            fans = {"fan_in": own.fan_in, "fan_out": own.fan_out}
            return values * draw(drawn.params(), value.shape, base, std=_STD, **fans)
        # One number, or one for each element.
        return jnp.broadcast_to(
            values if values.size == 1 else values.reshape(value.shape), value.shape
        )

    params, weights = weight.split(module)
    return weight.bind(module, weight.map_weights(start, weights, params))


def _check_width(d_model: int) -> None:
    if d_model < 1:
        raise VariantError(f"d_model = {d_model}: must be at least 1")


def _numbers(site: Site, step: jax.Array | None) -> Numbers:
    """The site's constants, schedules taken at `step`."""
    numbers: dict[str, Any] = site.numbers()
    if step is None:
        return numbers
    for role, multiplier in site.multipliers().items():
        if multiplier.ramp is not None:
            numbers[role] = numbers[role] * ramped([multiplier.ramp], step)[0]
    return numbers


def stack_context(
    *,
    num_layers: int,
    num_encoder_layers: int | None,
    layer: int | None,
    sublayer: str | None,
    architecture: Architecture,
    stack: Stack | None,
    d_model: int,
    d_ff: int,
    num_heads: int,
    layout: Layout = "sequential",
) -> Context:
    if architecture not in SUBLAYERS:
        raise VariantError(f"architecture = {architecture!r}; use {choices(SUBLAYERS)}")
    stacks = SUBLAYERS[architecture]
    own: Stack = stack or ("decoder" if "decoder" in stacks else "encoder")
    if own not in stacks:
        raise VariantError(f"stack = {own!r}: {architecture} has {choices(stacks)}")
    if layout not in get_args(Layout):
        raise VariantError(f"layout = {layout!r}; use {choices(get_args(Layout))}")
    if layout == "parallel" and "cross_attention" in stacks[own]:
        raise VariantError(
            f"layout = 'parallel' with {architecture}'s {own}: cross-attention stands between "
            "attention and MLP; use layout = 'sequential'"
        )
    sublayers = ("parallel",) if layout == "parallel" else stacks[own]
    if sublayer is not None and sublayer not in sublayers:
        raise VariantError(
            f"sublayer = {sublayer!r}: {architecture}'s {own} has {choices(sublayers)}"
        )
    encoder = num_layers if num_encoder_layers is None else num_encoder_layers
    depth = encoder if own == "encoder" else num_layers
    if depth < 1 or (layer is not None and not 0 <= layer < depth):
        raise VariantError(
            f"layer = {layer} of num_layers = {depth}: layers run from 0 to num_layers - 1"
        )
    return Context(
        architecture=architecture,
        stack=own,
        num_encoder_layers=encoder if "encoder" in stacks else 0,
        num_decoder_layers=num_layers if "decoder" in stacks else 0,
        sublayers=sublayers,
        sublayer=sublayer or sublayers[0],
        layer_index=layer,
        d_model=d_model,
        d_ff=d_ff,
        num_heads=num_heads,
        head_dim=d_model // num_heads if num_heads else 0,
    )
