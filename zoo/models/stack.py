"""A stack of layers: weights stacked by structure, one scan per block, taps as scan outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.layers import weight
from zoo.layers.attention import Attention, Scope
from zoo.layers.linear import dropout, fold
from zoo.layers.mlp import MLP
from zoo.models.config import ModelConfig
from zoo.models.planner import BlockPlan, plan
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.streams import STREAMS, Carry

Taps = dict[str, jax.Array]
Numbers = Mapping[str, Any]

# What the backward pass of a scanned layer finds saved with remat = "selective";
# everything else is cheap to compute again.
_SAVED = ("qkv", "attention", "pre_activation", "residual_sum")


@dataclasses.dataclass(frozen=True)
class LayerInputs:
    """What differs from layer to layer: a pytree, scanned beside the weights.

    Attributes:
        numbers: [sublayers] of the constant multipliers.
        window: how far attention looks back, or None.
        drop_rate: stochastic depth's probability of leaving a branch out.
        key: of dropout, or None.
    """

    numbers: tuple[Numbers, ...]
    window: Any
    drop_rate: Any
    key: Any


jax.tree_util.register_dataclass(LayerInputs)


class Sublayer(nnx.Module):
    """One F and its access to the stream."""

    def __init__(self, site: Site, config: ModelConfig, stream: str) -> None:
        self.kind = site.sublayer
        self.dropout = config.dropout
        self.residual = STREAMS[stream].site(site, config.d_model, config.norm_spec())
        self.branch = _branch(site, config)

    def __call__(
        self, carry: Carry, scope: Scope, inputs: LayerInputs, numbers: Numbers, taps: Taps | None
    ) -> Carry:
        x = self.residual.read(carry)
        key = inputs.key
        if self.kind == "mlp":
            branch = self.branch(x)
        else:
            branch = self.branch(x, scope, window=inputs.window, key=fold(key, 0))
        branch = dropout(branch, self.dropout, fold(key, 1))
        keep = _keep(fold(key, 2), inputs.drop_rate, branch)
        return self.residual.write(carry, branch, numbers, keep=keep, taps=taps)


class Layer(nnx.Module):
    """The sublayers of one layer, in order."""

    def __init__(self, sites: Sequence[Site], config: ModelConfig, stream: str) -> None:
        self.sublayers = nnx.List([Sublayer(site, config, stream) for site in sites])

    def __call__(
        self, carry: Carry, scope: Scope, inputs: LayerInputs, *, taps: bool
    ) -> tuple[Carry, Taps]:
        """The carry after the layer and, if asked, measurements of shape [sublayers]."""
        records: list[Taps] = []
        for index, (sublayer, numbers) in enumerate(
            zip(self.sublayers, inputs.numbers, strict=True)
        ):
            record: Taps = {}
            own = dataclasses.replace(inputs, key=fold(inputs.key, index))
            carry = sublayer(carry, scope, own, numbers, record if taps else None)
            records.append(record)
        return carry, jax.tree.map(lambda *values: jnp.stack(values), *records)


class Block(nnx.Module):
    """`period` layers whose weights carry a leading axis of `repeats`, run by one scan."""

    def __init__(
        self, plan: BlockPlan, placement: StackPlacement, config: ModelConfig, stack: str
    ) -> None:
        self.plan = plan
        layers = []
        for position in range(plan.period):
            sites = placement.layers[plan.start + position]
            layer = Layer(sites, config, placement.stream)
            for index, sublayer in enumerate(layer.sublayers):
                layer.sublayers[index] = _stacked(sublayer, plan.layers(position), stack)
            layers.append(layer)
        self.layers = nnx.List(layers)

    def __call__(
        self,
        carry: Carry,
        scope: Scope,
        inputs: Sequence[LayerInputs],
        *,
        config: ModelConfig,
        taps: bool,
    ) -> tuple[Carry, Taps]:
        """`inputs` holds one stacked entry per position; taps come back as [layers, sublayers]."""
        graphdef, params = nnx.split(self.layers)
        fixed, varying = _partition(inputs, self.plan.repeats)

        def body(carry: Carry, scanned: tuple[Any, Any]) -> tuple[Carry, list[Taps]]:
            layers = nnx.merge(graphdef, scanned[0])
            records = []
            for layer, own in zip(layers, _combine(fixed, scanned[1]), strict=True):
                carry, record = layer(carry, scope, own, taps=taps)
                records.append(record)
            return carry, records

        body = _rematerialised(body, config)
        if config.unroll or self.plan.repeats == 1:
            steps = []
            for step in range(self.plan.repeats):
                carry, records = body(carry, jax.tree.map(lambda a: a[step], (params, varying)))  # noqa: B023
                steps.append(records)
            measured = jax.tree.map(lambda *values: jnp.stack(values), *steps)
        else:
            carry, measured = jax.lax.scan(body, carry, (params, varying))
        return carry, _interleave(measured)


class Stack(nnx.Module):
    """All layers between an embedding and a final norm; `name` is its key in a Placement."""

    def __init__(self, placement: StackPlacement, config: ModelConfig, *, name: str) -> None:
        self.name = name
        self.stream = placement.stream
        blocks = plan([_structure(layer) for layer in placement.layers])
        self.blocks = nnx.List([Block(block, placement, config, name) for block in blocks])

    def __call__(
        self,
        x: jax.Array,
        scope: Scope,
        *,
        placement: StackPlacement,
        config: ModelConfig,
        key: jax.Array | None = None,
        taps: bool = False,
    ) -> tuple[jax.Array, Taps]:
        """[batch, length, d_model] to the same shape, and measurements [layers, sublayers]."""
        stream = STREAMS[self.stream]
        carry = stream.open(x)
        measured = []
        for block in self.blocks:
            inputs = [
                _inputs(placement, config, block.plan.layers(position), key)
                for position in range(block.plan.period)
            ]
            carry, record = block(carry, scope, inputs, config=config, taps=taps)
            measured.append(record)
        return stream.close(carry), jax.tree.map(lambda *v: jnp.concatenate(v), *measured)


def _branch(site: Site, config: ModelConfig) -> nnx.Module:
    norm, sizes = config.norm_spec(), config.sizes()
    inner_norm = None if site.inner_norm is None else norm
    if site.sublayer == "mlp":
        return MLP(
            config.d_model,
            sizes.d_ff,
            activation=config.activation,
            gated=config.gated,
            bias=config.bias,
            inner_norm=inner_norm,
        )
    return Attention(
        config.d_model,
        num_heads=config.num_heads,
        num_kv_heads=sizes.num_kv_heads,
        head_dim=sizes.head_dim,
        bias=config.bias,
        qk_norm=norm if config.qk_norm else None,
        inner_norm=inner_norm,
        dropout=config.attention_dropout,
        implementation=config.attention,
        cross=site.sublayer == "cross_attention",
    )


def _structure(layer: Sequence[Site]) -> tuple[Any, ...]:
    return tuple(site.structure() for site in layer)


def _stacked(sublayer: Sublayer, layers: range, name: str) -> Sublayer:
    """The same sublayer with a leading axis of len(layers) on every weight."""
    graphdef, state = nnx.split(sublayer)

    def stack(_: Any, param: nnx.Param[jax.Array]) -> nnx.Param[jax.Array]:
        value = param.get_value()
        own: weight.Weight = param.get_metadata()["weight"]
        own = dataclasses.replace(own, layers=layers, sublayer=sublayer.kind, stack=name)
        return nnx.Param(jnp.broadcast_to(value, (len(layers), *value.shape)), weight=own)

    return nnx.merge(graphdef, nnx.map_state(stack, state))


def _inputs(
    placement: StackPlacement, config: ModelConfig, layers: range, key: jax.Array | None
) -> LayerInputs:
    """Per-layer inputs of some layers: a plain number where all agree, an array where not."""
    sublayers = range(len(placement.layers[0]))
    numbers = tuple(
        {
            name: _agree([placement.layers[i][index].multipliers()[name].value for i in layers])
            for name in ("skip", "branch")
        }
        for index in sublayers
    )
    windows = config.windows()
    everything = config.sizes().max_length
    window = _agree([windows[layer] or everything for layer in layers])
    top = max(len(placement.layers) - 1, 1)
    keys = None
    if key is not None:
        keys = jax.vmap(lambda layer: jax.random.fold_in(key, layer))(jnp.asarray(list(layers)))
    return LayerInputs(
        numbers=numbers,
        window=None if config.window is None else window,
        drop_rate=_agree([config.stochastic_depth * layer / top for layer in layers]),
        key=keys,
    )


def _agree(values: Sequence[int | float]) -> Any:
    same = all(value == values[0] for value in values)
    return values[0] if same else np.asarray(values, np.asarray(values[0]).dtype)


def _partition(inputs: Sequence[LayerInputs], repeats: int) -> tuple[Any, Any]:
    """(numbers shared by all repeats, arrays to scan); None stands where the other has it."""
    leaves, treedef = jax.tree.flatten(list(inputs))
    fixed = [leaf if isinstance(leaf, int | float) else None for leaf in leaves]
    varying = [None if isinstance(leaf, int | float) else jnp.asarray(leaf) for leaf in leaves]
    return (treedef, fixed), varying


def _combine(fixed: Any, varying: Sequence[Any]) -> list[LayerInputs]:
    treedef, numbers = fixed
    leaves = [v if n is None else n for n, v in zip(numbers, varying, strict=True)]
    combined: list[LayerInputs] = jax.tree.unflatten(treedef, leaves)
    return combined


def _keep(key: jax.Array | None, rate: Any, branch: jax.Array) -> jax.Array | None:
    """Stochastic depth: 0 or 1 / (1 - rate) per example, [batch, 1, 1]."""
    if key is None or (isinstance(rate, float) and rate == 0.0):
        return None
    kept = jax.random.bernoulli(key, 1.0 - rate, (branch.shape[0], 1, 1))
    return (kept / (1.0 - rate)).astype(branch.dtype)


def _rematerialised(body: Callable[..., Any], config: ModelConfig) -> Callable[..., Any]:
    match config.remat:
        case "none":
            return body
        case "full":
            return jax.checkpoint(body, prevent_cse=False)
        case "selective":
            policy = jax.checkpoint_policies.save_only_these_names(*_SAVED)
            return jax.checkpoint(body, policy=policy, prevent_cse=False)


def _interleave(measured: Sequence[Taps]) -> Taps:
    """One [repeats, sublayers] entry per position to [repeats x period, sublayers] in order."""
    return jax.tree.map(lambda *v: jnp.stack(v, axis=1).reshape(-1, *v[0].shape[1:]), *measured)
