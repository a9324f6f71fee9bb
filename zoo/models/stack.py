"""A stack of layers: weights stacked by structure, one scan per block, taps as scan outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from zoo.layers import weight
from zoo.layers.attention import Scope
from zoo.layers.linear import dropout, fold
from zoo.models.branches import make_branch, outside
from zoo.models.config import ModelConfig
from zoo.models.inputs import LayerInputs, combine, layer_inputs, partition
from zoo.models.planner import BlockPlan, grouped, plan
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.streams import STREAMS, Carry, Numbers, StreamEnds, Tap
from zoo.variants.streams.base import weighed

Taps = dict[str, jax.Array]
R = TypeVar("R")
Measure = Literal["figures", "arrays", "attention", "profile"]

# What the backward pass of a scanned layer finds saved with remat = "selective";
# everything else is cheap to compute again.
_SAVED = ("qkv", "attention", "pre_activation", "branch", "residual_sum")


class Sublayer(nnx.Module):
    """One F and its access to the stream."""

    def __init__(self, site: Site, placement: StackPlacement, config: ModelConfig) -> None:
        self.kind = site.sublayer
        self.dropout = config.dropout
        access = STREAMS[placement.stream].site
        self.residual: Any = access(
            outside(site, config), placement, config.d_model, config.norm_spec()
        )
        self.branch: Any = make_branch(site, config)

    def __call__(
        self, carry: Carry, scope: Scope, inputs: LayerInputs, numbers: Numbers, tap: Tap | None
    ) -> Carry:
        carry = weighed(self.residual, carry)
        branch = self.apply(self.residual.read(carry, numbers), scope, inputs)
        branch = checkpoint_name(branch, "branch")
        keep = _keep(fold(inputs.key, 2), inputs.drop_rate, branch)
        return self.residual.write(carry, branch, numbers, keep=keep, tap=tap)

    def apply(self, x: jax.Array, scope: Scope, inputs: LayerInputs) -> jax.Array:
        """F(x) and its dropout, [batch, length, d_model]."""
        key = inputs.key
        if self.kind == "mlp":
            branch = self.branch(x)
        else:
            seen, settings = self._view(scope, inputs)
            drops = {} if self.kind == "linear_attention" else {"key": fold(key, 0)}
            branch = self.branch(x, seen, **settings, **drops)
        return dropout(branch, self.dropout, fold(key, 1))

    def remember(
        self, carry: Carry, scope: Scope, inputs: LayerInputs, numbers: Numbers, past: Any
    ) -> tuple[Carry, Any]:
        """As a call without dropout, and what the branch keeps for later tokens."""
        carry = weighed(self.residual, carry)
        x = self.residual.read(carry, numbers)
        if self.kind == "mlp":
            branch = self.branch(x)
        else:
            seen, settings = self._view(scope, inputs)
            branch, past = self.branch.remember(x, seen, past, **settings)
        return self.residual.write(carry, branch, numbers), past

    def attention(self, x: jax.Array, scope: Scope, inputs: LayerInputs) -> jax.Array:
        """The weights with which attention takes averages, [batch, heads, length, source]."""
        seen, settings = self._view(scope, inputs)
        weights: jax.Array = self.branch.weights(x, seen, **settings)
        return weights

    def _view(self, scope: Scope, inputs: LayerInputs) -> tuple[Scope, dict[str, Any]]:
        if self.kind == "cross_attention":
            return scope.across(), {"source": scope.source}
        if self.kind == "linear_attention":
            return scope, {"decay": inputs.decay}
        if scope.rotary is not None and inputs.rotary is not None:
            scope = dataclasses.replace(scope, rotary=scope.rotary.way(inputs.rotary))
        return scope, {"window": inputs.window}


class Layer(nnx.Module):
    """The sublayers of one layer, in order."""

    def __init__(
        self, sites: Sequence[Site], placement: StackPlacement, config: ModelConfig
    ) -> None:
        self.sublayers = nnx.List([Sublayer(site, placement, config) for site in sites])

    def __call__(
        self, carry: Carry, scope: Scope, inputs: LayerInputs, *, measure: Measure | None
    ) -> tuple[Carry, Taps]:
        """The carry after the layer and, if asked, measurements of shape [sublayers, ...].

        Those of `attention` come by kind of sublayer, [batch, heads, length, source].
        """
        if measure == "attention":
            return self._attention(carry, scope, inputs)
        records: list[Taps] = []
        for sublayer, numbers, own in self._calls(inputs):
            tap = None if measure is None else Tap(arrays=measure == "arrays")
            carry = sublayer(carry, scope, own, numbers, tap)
            records.append({} if tap is None else tap.values)
        return carry, jax.tree.map(lambda *values: jnp.stack(values), *records)

    def _attention(self, carry: Carry, scope: Scope, inputs: LayerInputs) -> tuple[Carry, Taps]:
        maps: Taps = {}
        for sublayer, numbers, own in self._calls(inputs):
            if sublayer.kind != "mlp":
                read = sublayer.residual.read(carry, numbers)
                maps[sublayer.kind] = sublayer.attention(read, scope, own)
            carry = sublayer(carry, scope, own, numbers, None)
        return carry, maps

    def remember(
        self, carry: Carry, scope: Scope, inputs: LayerInputs
    ) -> tuple[Carry, tuple[Any, ...]]:
        """The carry after the layer, and [sublayers] of what each keeps for later tokens."""
        pasts = []
        before = inputs.past or (None,) * len(self.sublayers)
        for (sublayer, numbers, own), past in zip(self._calls(inputs), before, strict=True):
            carry, past = sublayer.remember(carry, scope, own, numbers, past)
            pasts.append(past)
        return carry, tuple(pasts)

    def profile(
        self, carry: tuple[Carry, jax.Array], scope: Scope, inputs: LayerInputs
    ) -> tuple[tuple[Carry, jax.Array], Taps]:
        """As a call that measures; the carry has the next sublayer's skip beside the stream."""
        x, skip = carry
        skips = []
        for sublayer, numbers, own in self._calls(inputs):
            skips.append(skip)
            branch = sublayer.apply(sublayer.residual.read(x, numbers), scope, own)
            keep = _keep(fold(own.key, 2), own.drop_rate, branch)
            branch = branch if keep is None else branch * keep
            x, skip = sublayer.residual.profile(x, branch, numbers, skip)
        return (x, skip), {"skip": jnp.stack(skips)}

    def _calls(self, inputs: LayerInputs) -> list[tuple[Sublayer, Numbers, LayerInputs]]:
        pairs = zip(self.sublayers, inputs.numbers, strict=True)
        return [
            (sublayer, numbers, dataclasses.replace(inputs, key=fold(inputs.key, index)))
            for index, (sublayer, numbers) in enumerate(pairs)
        ]


class Block(nnx.Module):
    """`period` layers whose weights carry a leading axis of `repeats` (or, where some share theirs,
    of as many as differ), run by one scan."""

    def __init__(self, plan: BlockPlan, layers: Sequence[Layer]) -> None:
        self.plan = plan
        self.layers = nnx.List(layers)

    def __call__(
        self,
        carry: Carry,
        scope: Scope,
        inputs: Sequence[LayerInputs],
        *,
        config: ModelConfig,
        run: Callable[[Layer, Carry, Scope, LayerInputs], tuple[Carry, Taps]],
    ) -> tuple[Carry, Taps]:
        """`inputs` holds one stacked entry per position; taps come back as [layers, sublayers]."""
        carry, measured = self.run(carry, scope, inputs, config=config, run=run)
        return carry, _interleave(measured)

    def run(
        self,
        carry: Carry,
        scope: Scope,
        inputs: Sequence[LayerInputs],
        *,
        config: ModelConfig,
        run: Callable[[Layer, Carry, Scope, LayerInputs], tuple[Carry, R]],
    ) -> tuple[Carry, list[R]]:
        """(carry, one entry per position of what `run` gives beside it, stacked like `inputs`)."""
        graphdef, params = nnx.split(self.layers)
        shared = self.plan.shared
        fixed, varying = partition(inputs, self.plan.repeats)

        def body(carry: Carry, scanned: tuple[Any, Any]) -> tuple[Carry, list[R]]:
            layers = nnx.merge(graphdef, scanned[0])
            records = []
            for layer, own in zip(layers, combine(fixed, scanned[1]), strict=True):
                carry, record = run(layer, carry, scope, own)
                records.append(record)
            return carry, records

        body = _rematerialised(body, config)
        if config.unroll or self.plan.repeats == 1:
            steps = []
            for step in range(self.plan.repeats):
                own = _rows(params, step // shared), _rows(varying, step)
                carry, records = body(carry, own)
                steps.append(records)
            measured = jax.tree.map(lambda *values: jnp.stack(values), *steps)
        elif shared == 1:
            carry, measured = jax.lax.scan(body, carry, (params, varying))
        else:

            def group(carry: Carry, own: tuple[Any, Any]) -> tuple[Carry, list[R]]:
                row, varying = own
                return jax.lax.scan(lambda c, v: body(c, (row, v)), carry, varying, length=shared)

            groups = jax.tree.map(lambda a: a.reshape(-1, shared, *a.shape[1:]), varying)
            carry, measured = jax.lax.scan(group, carry, (params, groups))
            measured = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), measured)
        return carry, measured

    def first(self, inputs: Sequence[LayerInputs]) -> tuple[Sequence[Layer], list[LayerInputs]]:
        """The layers of the first period, and what differs in them."""
        graphdef, params = nnx.split(self.layers)
        fixed, varying = partition(inputs, self.plan.repeats)
        params, varying = _rows((params, varying), 0)
        return nnx.merge(graphdef, params), combine(fixed, varying)

    def values(self, carry: Carry, inputs: Sequence[LayerInputs]) -> jax.Array:
        """The values of the first layer's attention, which reads `carry`."""
        (layer, *_), (own, *_) = self.first(inputs)
        first: Sublayer = layer.sublayers[0]
        values: jax.Array = first.branch.values(first.residual.read(carry, own.numbers[0]))
        return values


class Stack(nnx.Module):
    """All layers between an embedding and a final norm; `name` is its key in a Placement."""

    def __init__(self, placement: StackPlacement, config: ModelConfig, *, name: str) -> None:
        self.name = name
        blocks = plan(
            [
                (_structure(layer), config.of_layer(index))
                for index, layer in enumerate(placement.layers)
            ]
        )
        if config.layer_groups is not None:
            blocks = (grouped(blocks, config.layer_groups),)
        self.blocks = nnx.List([_block(block, placement, config, name) for block in blocks])
        ends = STREAMS[placement.stream].ends
        made = ends(placement, config.d_model, config.norm_spec())
        self.ends: StreamEnds = owned(made, stack=name)

    def __call__(
        self,
        x: jax.Array,
        scope: Scope,
        *,
        placement: StackPlacement,
        config: ModelConfig,
        step: jax.Array | None = None,
        key: jax.Array | None = None,
        measure: Measure | None = None,
    ) -> tuple[jax.Array, Taps]:
        """[batch, length, d_model] to the same shape, and measurements [layers, sublayers, ...].

        Args:
            step: of the optimizer, for scheduled multipliers; None: the end of their schedules.
            measure: what to measure, see `Tap`; None: nothing. `attention` gives its weights by
                kind of sublayer, [layers, batch, heads, length, source]. `profile` runs with skips
                that make every sum of unit variance, and gives them as `skip`.
        """
        if measure == "profile":
            return self._profile(x, scope, placement, config, key)

        def run(layer: Layer, carry: Carry, scope: Scope, own: LayerInputs) -> tuple[Carry, Taps]:
            return layer(carry, scope, own, measure=measure)

        carry = self.ends.open(x)
        scope = self.with_values(carry, scope, placement, config, step)
        carry, measured = self._run(run, carry, scope, placement, config, step, key)
        return self.ends.close(carry), measured

    def _profile(
        self,
        x: jax.Array,
        scope: Scope,
        placement: StackPlacement,
        config: ModelConfig,
        key: jax.Array | None,
    ) -> tuple[jax.Array, Taps]:
        def run(layer: Layer, carry: Carry, scope: Scope, own: LayerInputs) -> tuple[Carry, Taps]:
            return layer.profile(carry, scope, own)

        opened = self.ends.open(x)
        scope = self.with_values(opened, scope, placement, config, None)
        carry = (opened, jnp.ones((), jnp.float32))
        (x, _), measured = self._run(run, carry, scope, placement, config, None, key)
        return self.ends.close(x), measured

    def _run(
        self,
        run: Callable[[Layer, Carry, Scope, LayerInputs], tuple[Carry, Taps]],
        carry: Carry,
        scope: Scope,
        placement: StackPlacement,
        config: ModelConfig,
        step: jax.Array | None,
        key: jax.Array | None,
    ) -> tuple[Carry, Taps]:
        measured = []
        for block in self.blocks:
            inputs = self.inputs(block, placement, config, step, key)
            carry, record = block(carry, scope, inputs, config=config, run=run)
            measured.append(record)
        return carry, jax.tree.map(lambda *v: jnp.concatenate(v), *measured)

    def with_values(
        self,
        carry: Carry,
        scope: Scope,
        placement: StackPlacement,
        config: ModelConfig,
        step: jax.Array | None,
    ) -> Scope:
        """The scope with the first layer's values, which are known before the scan: its first
        sublayer is attention, and reads the stream as it is opened."""
        if not config.value_residual:
            return scope
        first = self.blocks[0]
        inputs = self.inputs(first, placement, config, step, None)
        return dataclasses.replace(scope, first_values=first.values(carry, inputs))

    def inputs(
        self,
        block: Block,
        placement: StackPlacement,
        config: ModelConfig,
        step: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> list[LayerInputs]:
        """One entry per position of a block's period."""
        return [
            layer_inputs(placement, config, block.plan.layers(position), step, key)
            for position in range(block.plan.period)
        ]


def _rows(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda array: array[index], tree)


def _block(plan: BlockPlan, placement: StackPlacement, config: ModelConfig, stack: str) -> Block:
    """The layers of a plan, with a leading axis on every weight."""
    layers = []
    for position in range(plan.period):
        number = plan.start + position
        layer = Layer(placement.layers[number], placement, config.of_layer(number))
        for index, sublayer in enumerate(layer.sublayers):
            declared = {"stack": stack, "below": config.layers_below()}
            layer.sublayers[index] = _stacked(sublayer, plan, position, declared)
        layers.append(layer)
    return Block(plan, layers)


def owned(ends: Any, *, stack: str, below: int = 0) -> Any:
    """The same module with the stack's name on every weight, and the layers below it."""
    graphdef, state = nnx.split(ends)
    where: dict[str, Any] = {"stack": stack, "below": below}

    def own(_: Any, param: nnx.Param[jax.Array]) -> nnx.Param[jax.Array]:
        declared: weight.Weight = param.get_metadata()["weight"]
        return nnx.Param(param.get_value(), weight=dataclasses.replace(declared, **where))

    return nnx.merge(graphdef, nnx.map_state(own, state))


def _structure(layer: Sequence[Site]) -> tuple[Any, ...]:
    return tuple(site.structure() for site in layer)


def _stacked(
    sublayer: Sublayer, plan: BlockPlan, position: int, declared: dict[str, Any]
) -> Sublayer:
    """The same sublayer with a leading axis on every weight, over the layers at one position of a
    plan, or over the first of each group that shares it."""
    graphdef, state = nnx.split(sublayer)
    layers = plan.layers(position)[:: plan.shared]
    where = declared | {"layers": layers, "shared": plan.shared, "sublayer": sublayer.kind}

    def stack(_: Any, param: nnx.Param[jax.Array]) -> nnx.Param[jax.Array]:
        value = param.get_value()
        own: weight.Weight = param.get_metadata()["weight"]
        own = dataclasses.replace(own, **where)
        return nnx.Param(jnp.broadcast_to(value, (len(layers), *value.shape)), weight=own)

    return nnx.merge(graphdef, nnx.map_state(stack, state))


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
