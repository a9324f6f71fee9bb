"""The one declaration per weight, made where the weight is made.

Everything that must treat weights differently reads the `Weight` beside the
array: initialisation (role, fans), the decay mask and optimizers that tell
matrices from gains (kind), sharding (axes), per-layer figures and layer-wise
learning rates (layers). Nobody matches path strings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

M = TypeVar("M", bound=nnx.Module)
Kind = Literal["matrix", "embedding", "gain", "bias", "multiplier"]

# Matrix roles; a placement gives its init gains per role. `w1` is every matrix
# into the MLP (the gate too), `x...` are those of cross-attention.
EXPERTS = "experts"  # the axis of weights that every expert has one of
ROLES = ("q", "k", "v", "o", "w1", "w2", "xq", "xk", "xv", "xo", "emb", "pos", "head")
QKV = ("q", "k", "v", "xq", "xk", "xv")


@dataclasses.dataclass(frozen=True)
class Weight:
    """What a weight is.

    Attributes:
        role: one of `ROLES` for matrices and embeddings; for the rest the slot it
            sits in, such as `norm_in` (a gain) or `skip`, `branch` (a multiplier).
        kind: matrix, embedding, gain, bias or multiplier (a learned residual scalar).
        axes: one logical axis name per dimension, without the layer axis.
        fan_in, fan_out: of the matrix product the weight serves.
        layers: the layer indices along the leading layer axis, or None when the
            weight has no such axis; of a weight that neighbouring layers share, the first of them.
        shared: how many neighbouring layers share it.
        sublayer: the sublayer it belongs to (`self_attention`, `mlp`, ...), if any.
        stack: the stack it belongs to (`encoder`, `decoder`, or `stage1` and so on), if any.
        below: layers of the stacks whose stream goes on into that one.
        start: where a weight that is not drawn starts, unless its placement says otherwise: one
            number, or one per element.
        offset: what the forward pass adds to a gain (1 for norms that store gain - 1).
    """

    role: str
    kind: Kind
    axes: tuple[str, ...]
    fan_in: int = 1
    fan_out: int = 1
    layers: range | None = None
    shared: int = 1
    sublayer: str | None = None
    stack: str | None = None
    below: int = 0
    start: float | tuple[float, ...] = 0.0
    offset: float = 0.0

    @property
    def stacked(self) -> bool:
        """Whether the array has a leading layer axis that is not in `axes`."""
        return self.layers is not None

    @property
    def heights(self) -> tuple[int | None, ...]:
        """Each layer's number in the chain of stacks, from 0; one None for what is in no layer."""
        if not self.layers:
            return (None,)
        return tuple(self.below + layer for layer in self.layers)


def matrix(
    role: str, fan_in: int, fan_out: int, axes: tuple[str, str], *, kind: Kind = "matrix"
) -> nnx.Param[jax.Array]:
    """A [fan_in, fan_out] weight, zero until the model is initialised."""
    return _param(Weight(role, kind, axes, fan_in, fan_out), (fan_in, fan_out))


def experts(
    role: str, count: int, fan_in: int, fan_out: int, axes: tuple[str, str]
) -> nnx.Param[jax.Array]:
    """[count, fan_in, fan_out]: a matrix for each expert, zero until the model is initialised."""
    own = Weight(role, "matrix", (EXPERTS, *axes), fan_in, fan_out)
    return _param(own, (count, fan_in, fan_out))


def vector(
    role: str, size: int, axis: str, *, kind: Kind, start: float = 0.0, offset: float = 0.0
) -> nnx.Param[jax.Array]:
    """A [size] weight, zero until the model is initialised."""
    return _param(Weight(role, kind, (axis,), start=start, offset=offset), (size,))


def scalar(role: str, *, kind: Kind = "multiplier", start: float = 0.0) -> nnx.Param[jax.Array]:
    """A learned scalar, zero until the model is initialised."""
    return _param(Weight(role, kind, (), start=start), ())


def array(
    role: str,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    *,
    kind: Kind = "multiplier",
    start: float | tuple[float, ...] = 0.0,
) -> nnx.Param[jax.Array]:
    """A learned array that is not drawn, zero until the model is initialised."""
    return _param(Weight(role, kind, axes, start=start), shape)


def _param(weight: Weight, shape: tuple[int, ...]) -> nnx.Param[jax.Array]:
    return nnx.Param(jnp.zeros(shape, jnp.float32), weight=weight)


def split(module: nnx.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, weights): pure nested dicts of arrays and of their declarations.

    Keys are strings throughout, so that the tree survives any file format.
    """
    arrays: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for path, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        *parents, name = [str(key) for key in path]
        array_room, weight_room = arrays, weights
        for key in parents:
            array_room = array_room.setdefault(key, {})
            weight_room = weight_room.setdefault(key, {})
        array_room[name] = param.get_value()
        weight_room[name] = param.get_metadata()["weight"]
    return arrays, weights


def bind(module: M, params: dict[str, Any]) -> M:
    """A module of the same structure that holds `params` (as `split` returns them)."""
    graphdef, declared, *rest = nnx.split(module, nnx.Param, ...)
    flat = []
    for path, param in nnx.to_flat_state(declared):
        value: Any = params
        for key in path:
            value = value[str(key)]
        flat.append((path, param.replace(value)))
    return nnx.merge(graphdef, nnx.from_flat_state(flat), *rest)


def map_weights(function: Callable[..., Any], weights: dict[str, Any], *params: Any) -> Any:
    """Apply `function(weight, *leaves)` at every weight; returns the same nested dict."""
    return jax.tree.map(function, weights, *params)
