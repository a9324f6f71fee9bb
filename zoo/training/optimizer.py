"""One optimizer step over a tree of weights, told by each `Weight` what it is.

Optax sees only shapes: its muon takes a stack of matrices [layers, in, out] for something
else and a stack of gains [layers, d_model] for a matrix, its adafactor factors over the layer
axis. Here the declaration beside each array says which axis counts layers, so that a stacked
weight moves exactly as its layers would by themselves.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from zoo.errors import ConfigError, choices, near_matches
from zoo.layers.weight import EXPERTS, Weight, map_weights
from zoo.models.init import on_sphere
from zoo.training.optim_config import OptimConfig, parse_freeze
from zoo.variants.placement import Placement

Params = dict[str, Any]
"""A nested dict of arrays; gradients, moving averages and trees of `Weight`s look the same."""

Factor = float | npt.NDArray[np.float32]

# RMS of a muon update per unit of learning rate. AdamW's is about that, so one learning rate
# serves the matrices and the rest (Liu et al. 2025, "Muon is Scalable", section 2.2).
_MUON_RMS = 0.2

# Of an adafactor state under vmap over layers: the moments have a layer axis, the count none.
_LAYER_AXES = optax.FactoredState(count=None, v_row=0, v_col=0, v=0)


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the learning rate and the decay apply to one weight.

    Attributes:
        multiplier: of the learning rate: one number, or an array [layers, 1, ...] that
            broadcasts against a stacked weight. 0 is frozen.
        decay: of the weight decay, likewise; 0 where none applies.
    """

    multiplier: Factor
    decay: Factor


@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer:
    """Pure functions of (gradients, state, parameters); make one with `make_optimizer`."""

    transform: optax.GradientTransformation
    rules: Params
    clip_norm: float | None
    projection: optax.GradientTransformation

    def init(self, params: Params) -> Any:
        """The state: a pytree of arrays without entries for weights that are frozen."""
        return self.transform.init(_trainable(params, self.rules))

    def factor(
        self, grads: Params, *, scale: jax.Array | float = 1.0
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What `apply` multiplies the gradient with: `scale` and clipping in one number.

        Args:
            grads: a gradient of which `scale` makes the mean.

        Returns:
            The factor, and scalars: `grad_norm` (global norm over trainable weights of the
            mean gradient, before clipping) and `clipped` (1.0 when it is scaled down, else 0.0).
        """
        norm = optax.tree.norm(self._live_gradient(grads)) * scale
        clipped = norm > self.clip_norm if self.clip_norm else jnp.zeros((), bool)
        factor = jnp.where(clipped, (self.clip_norm or 1.0) / norm, 1.0) * scale
        return factor, {"grad_norm": norm, "clipped": clipped.astype(jnp.float32)}

    def apply(
        self,
        grads: Params,
        opt_state: Any,
        params: Params,
        *,
        lr: jax.Array | float,
        weight_decay: jax.Array | float,
        factor: jax.Array | float = 1.0,
    ) -> tuple[Params, Any]:
        """One step: p - lr * multiplier * (direction + weight_decay * p).

        Args:
            grads: gradient, a tree like `params`; `factor` times it is followed.
            opt_state: from `init` or the step before.
            params: the parameters.
            lr: learning rate of this step, its schedule applied; may be traced.
            weight_decay: decoupled decay per unit of learning rate; may be traced.
            factor: as the method of that name returns it.

        Returns:
            New parameters and new state.
        """
        rules, live = _trainable(self.rules, self.rules), _trainable(params, self.rules)
        grads = jax.tree.map(lambda grad: grad * factor, self._live_gradient(grads))
        direction, new_state = self.transform.update(grads, opt_state, live)

        def scale(rule: Rule, d: jax.Array, p: jax.Array) -> jax.Array:
            step = d + weight_decay * rule.decay * p if np.any(rule.decay) else d
            return _without_frozen_layers(rule, step * rule.multiplier * -lr)

        updates = jax.tree.map(scale, rules, direction, live)
        updates, _ = self.projection.update(updates, optax.EmptyState(), live)
        updates = jax.tree.map(_without_frozen_layers, rules, updates)
        return _replace(params, optax.apply_updates(live, updates)), new_state

    def update(
        self,
        grads: Params,
        opt_state: Any,
        params: Params,
        *,
        lr: jax.Array | float,
        weight_decay: jax.Array | float,
    ) -> tuple[Params, Any, dict[str, jax.Array]]:
        """`factor` and `apply` in one: new parameters, new state and the figures."""
        factor, figures = self.factor(grads)
        params, opt_state = self.apply(
            grads, opt_state, params, lr=lr, weight_decay=weight_decay, factor=factor
        )
        return params, opt_state, figures

    def _live_gradient(self, grads: Params) -> Params:
        rules = _trainable(self.rules, self.rules)
        return jax.tree.map(_without_frozen_layers, rules, _trainable(grads, self.rules))


def make_optimizer(
    config: OptimConfig, weights: Params, placement: Placement | None = None
) -> Optimizer:
    """The optimizer of a config for the weights declared by a model.

    Each equals its optax namesake on weights without a layer axis; adafactor differs in that
    weight decay is multiplied by the learning rate, as in the others. Muon takes matrices
    but the head; embeddings, head, gains and biases go to (Nesterov) Adam at the same rate.

    Args:
        config: resolved; `clip_norm` may stay None, and betas that the optimizer does not use.
        weights: the tree of `Weight`s beside the parameters.
        placement: of the model; its multipliers of rate and decay apply, and its projection.

    Raises:
        ConfigError: for a field that is None or cannot work, a freeze pattern that fits no
            weight (naming the roles or layers there are), or freezing everything.
    """
    config.validate()
    rules = update_rules(config, weights, placement)
    live = _trainable(weights, rules)
    if not live:
        raise ConfigError(f"optim.freeze = {config.freeze} leaves no weight to train")
    spherical = placement is not None and "sphere" in placement.hooks
    projection = keep_on_sphere(live) if spherical else optax.identity()
    return Optimizer(_direction(config, live), rules, config.clip_norm, projection)


def keep_on_sphere(weights: Params) -> optax.GradientTransformation:
    """The last link of a chain: what is left after it is a step to unit length (2410.01131).

    Matrices and embeddings have their vectors along the stream's width normalised; the rest
    passes. Needs the parameters.
    """

    def update(updates: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        assert params is not None, "the projection needs the parameters"
        moved = on_sphere(weights, optax.apply_updates(params, updates))
        return jax.tree.map(jnp.subtract, moved, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def ema_update(ema_params: Params, params: Params, decay: jax.typing.ArrayLike) -> Params:
    """decay * average + (1 - decay) * params; a tree like both."""
    averaged: Params = optax.incremental_update(params, ema_params, 1 - decay)
    return averaged


def update_rules(
    config: OptimConfig, weights: Params, placement: Placement | None = None
) -> Params:
    """The `Rule` of each weight, a tree like `weights`.

    What a placement multiplies comes on top.

    Layer-wise decay d of the learning rate: layer l (from 0) of N has d^(N-1-l); embeddings
    (and a norm on them) d^N; head, final norm and anything else outside the stack 1, so that
    the top layer learns at full rate (Howard and Ruder 2018, section 3.2). N is one more
    than the highest layer index; with an encoder and a decoder, that of the deeper stack; of a
    model in stages all count, and what merges patches stands below the layers of its stage.

    Raises:
        ConfigError: for a freeze pattern that fits no weight.
    """
    leaves = jax.tree.leaves(weights)
    heights = [height for own in leaves for height in own.heights if height is not None]
    num_layers = 1 + max(heights, default=-1)
    frozen = [_checked_freeze(pattern, leaves, num_layers) for pattern in config.freeze]
    decayed = ("matrix", "embedding") if config.decay_embeddings else ("matrix",)

    def rule(weight: Weight) -> Rule:
        factors = np.array(
            [
                0.0
                if any(_fits(weight.role, layer, *pattern) for pattern in frozen)
                else config.layer_lr_decay ** _distance_from_top(weight, layer, num_layers)
                for layer in weight.heights
            ],
            np.float32,
        )
        decay = np.full_like(factors, weight.kind in decayed)
        if placement is not None:
            factors = factors * np.asarray(placement.lr_multipliers(weight), np.float32)
            decay = decay * np.asarray(placement.decay_multipliers(weight), np.float32)
        return Rule(_along_layers(factors, weight), _along_layers(decay, weight))

    rules: Params = map_weights(rule, weights)
    return rules


def _along_layers(values: npt.NDArray[np.float32], weight: Weight) -> Factor:
    """One number where all layers agree, else an array that broadcasts against the weight."""
    if len(set(values.tolist())) == 1:
        return float(values[0])
    return values.reshape(-1, *(1 for _ in weight.axes))


def _distance_from_top(weight: Weight, layer: int | None, num_layers: int) -> int:
    if layer is not None:
        return num_layers - 1 - layer
    lowest = weight.below > 0 or weight.kind == "embedding" or "emb" in weight.role
    return num_layers - weight.below if lowest else 0


def _fits(role: str, layer: int | None, wanted: str | None, layers: range | None) -> bool:
    return wanted in (None, role) and (layers is None or layer in layers)


def _checked_freeze(
    pattern: str, leaves: list[Weight], num_layers: int
) -> tuple[str | None, range | None]:
    role, layers = parse_freeze(pattern)
    roles = sorted({weight.role for weight in leaves})
    if role is not None and role not in roles:
        raise ConfigError(
            f"optim.freeze has {pattern!r}, but no weight has the role {role!r}"
            f"{near_matches(role, roles)}; the roles are {choices(roles)}"
        )
    if layers is not None and layers[-1] >= num_layers:
        there = f"layers 0-{num_layers - 1}" if num_layers else "no layers"
        raise ConfigError(f"optim.freeze has {pattern!r}, but the model has {there}")
    if not any(_fits(w.role, at, role, layers) for w in leaves for at in w.heights):
        inside = sorted({weight.role for weight in leaves if weight.layers})
        raise ConfigError(
            f"optim.freeze has {pattern!r}, but {role!r} has no such layer; "
            f"the roles with layers are {choices(inside)}"
        )
    return role, layers


def _direction(config: OptimConfig, weights: Params) -> optax.GradientTransformation:
    """The transformation to the direction of descent before learning rate and decay."""
    if config.name == "adafactor":
        return _adafactor(weights)
    beta1 = _needed(config, "beta1")
    if config.name == "sgd":
        return optax.trace(decay=beta1) if beta1 else optax.identity()
    beta2 = _needed(config, "beta2")
    if config.name == "lion":
        return optax.scale_by_lion(beta1, beta2)
    if config.name == "adamw":
        return optax.scale_by_adam(beta1, beta2, config.eps)
    descent = optax.contrib.muon(
        1.0,
        beta=config.muon_beta,
        eps=config.eps,
        adam_b1=beta1,
        adam_b2=beta2,
        consistent_rms=_MUON_RMS,
        muon_weight_dimension_numbers=map_weights(_muon_axes, weights),
    )
    # At a rate of 1 muon yields minus the direction.
    return optax.GradientTransformation(*optax.chain(descent, optax.scale(-1.0)))


def _needed(config: OptimConfig, field: str) -> float:
    value: float | None = getattr(config, field)
    if value is None:
        raise ConfigError(f"optim.{field} = None, but {config.name} needs a number in [0, 1)")
    return value


def _muon_axes(weight: Weight) -> optax.contrib.MuonDimensionNumbers | None:
    """The in and out axis of a weight that muon orthogonalises; None is left to Adam."""
    if weight.kind != "matrix" or weight.role == "head":
        return None
    if len(weight.axes) != 2 and weight.axes[:-2] != (EXPERTS,):
        raise ConfigError(
            f"optim.name = 'muon' needs matrices of 2 axes, but {weight.role!r} has {weight.axes}"
        )
    # What is before the last two counts layers and experts.
    first = weight.stacked + len(weight.axes) - 2
    return optax.contrib.MuonDimensionNumbers(reduction_axis=first, output_axis=first + 1)


def _adafactor(weights: Params) -> optax.GradientTransformation:
    """optax.adafactor with one set of statistics per layer of a stacked weight."""
    rms = optax.scale_by_factored_rms()
    clip, relative = optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms()

    def start(weight: Weight, param: jax.Array) -> optax.FactoredState:
        init = jax.vmap(rms.init, out_axes=_LAYER_AXES) if weight.stacked else rms.init
        return init(param)

    def step(
        grad: jax.Array, state: optax.FactoredState, param: jax.Array
    ) -> tuple[jax.Array, optax.FactoredState]:
        scaled, state = rms.update(grad, state, param)
        scaled, _ = clip.update(scaled, optax.EmptyState())
        scaled, _ = relative.update(scaled, optax.EmptyState(), param)
        return scaled, state

    over_layers = jax.vmap(step, in_axes=(0, _LAYER_AXES, 0), out_axes=(0, _LAYER_AXES))

    def init_fn(params: Params) -> optax.FactoredState:
        return _gathered(jnp.zeros((), jnp.int32), jax.tree.map(start, weights, params))

    def update_fn(
        grads: Params, state: optax.FactoredState, params: Params | None = None
    ) -> tuple[Params, optax.FactoredState]:
        def one(weight: Weight, grad: Any, v_row: Any, v_col: Any, v: Any, param: Any) -> Any:
            own = optax.FactoredState(state.count, v_row, v_col, v)
            return (over_layers if weight.stacked else step)(grad, own, param)

        moments = (state.v_row, state.v_col, state.v)
        pairs = jax.tree.map(one, weights, grads, *moments, params)
        directions = _pick(pairs, operator.itemgetter(0), tuple)
        states = _pick(pairs, operator.itemgetter(1), tuple)
        return directions, _gathered(optax.safe_increment(state.count), states)

    return optax.GradientTransformation(init_fn, update_fn)


def _gathered(count: jax.Array, states: Params) -> optax.FactoredState:
    """One state of trees, as optax keeps it, from a tree of states."""

    def tree(field: str) -> Params:
        return _pick(states, operator.attrgetter(field), optax.FactoredState)

    return optax.FactoredState(count, tree("v_row"), tree("v_col"), tree("v"))


def _pick(tree: Params, choose: Callable[[Any], Any], leaf: type) -> Params:
    picked: Params = jax.tree.map(choose, tree, is_leaf=lambda node: type(node) is leaf)
    return picked


def _without_frozen_layers(rule: Rule, array: jax.Array) -> jax.Array:
    """Zero in layers that are frozen, even where the array is not finite."""
    if np.all(rule.multiplier):
        return array
    return jnp.where(rule.multiplier != 0, array, 0)


def _trainable(tree: Params, rules: Params) -> Params:
    """The tree without weights that are frozen in all layers."""
    kept: Params = {}
    for key, rule in rules.items():
        if isinstance(rule, dict):
            branch = _trainable(tree[key], rule)
            if branch:
                kept[key] = branch
        elif np.any(rule.multiplier):
            kept[key] = tree[key]
    return kept


def _replace(tree: Params, new: Params) -> Params:
    """The tree with the leaves that `new` has."""
    return {
        key: _replace(value, new.get(key, {})) if isinstance(value, dict) else new.get(key, value)
        for key, value in tree.items()
    }
