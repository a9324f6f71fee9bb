"""Normalisation layers; statistics are always taken in float32.

A kind of norm is one entry of `KINDS`. Which kind fills a slot is the architecture's choice
unless a placement asks for its own, so all of them go with every placement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.settings import check_types

NormKind = Literal[
    "layer_norm",
    "rms_norm",
    "offset_rms_norm",
    "center_norm",
    "unit_norm",
    "scale_norm",
    "dyt",
    "derf",
    "bhyt",
    "seed_norm",
    "gated_rms_norm",
]

# Rank of the gate of `gated_rms_norm`, and the bound 1 / kappa of `bhyt`, as published.
_GATE_RANK, _BHYT_BOUND = 16, 0.1


@dataclasses.dataclass(frozen=True)
class NormSpec:
    """An architecture's kind of norm: what every slot of a placement is filled with.

    Attributes:
        kind: a key of `KINDS`.
        eps: added to the variance (or mean square) before the root.
        bias: whether kinds that may have a shift have one.
        affine: whether there is a gain (and with it a shift) at all.

    Raises:
        ConfigError: on another kind, or an eps that is not above 0.
    """

    kind: NormKind = "layer_norm"
    eps: float = 1e-5
    bias: bool = True
    affine: bool = True

    def __post_init__(self) -> None:
        check_types(self, "norm.")
        if not self.eps > 0.0:
            raise ConfigError(f"norm.eps = {self.eps}: must be above 0")


Own = Mapping[str, jax.Array]
Declare = Callable[[str, int, str], dict[str, nnx.Param[jax.Array]]]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How one kind of norm computes.

    Attributes:
        core: (x float32, eps, own weights) to the normalised x, before gain and shift.
        shifts: whether it may have a shift.
        gain: the gain's shape: `vector`, `scalar`, or None for kinds without one.
        offset: what is added to the stored gain.
        own: (role, size, axis) to the weights of the kind itself.
        after: applied last, for kinds that go on after the gain.
    """

    core: Callable[[jax.Array, float, Own], jax.Array]
    shifts: bool = False
    gain: Literal["vector", "scalar"] | None = "vector"
    offset: float = 0.0
    own: Declare = lambda role, size, axis: {}
    after: Callable[[jax.Array, Own], jax.Array] = lambda y, own: y


class Norm(nnx.Module):
    """A norm over the last axis, with a gain and perhaps a bias."""

    def __init__(self, size: int, spec: NormSpec, *, role: str, axis: str = "embed") -> None:
        self.spec = spec
        kind = KINDS[spec.kind]
        if spec.affine and kind.gain == "vector":
            start = 1.0 - kind.offset
            self.gain = weight.vector(
                role, size, axis, kind="gain", start=start, offset=kind.offset
            )
        elif spec.affine and kind.gain == "scalar":
            self.gain = weight.scalar(role, kind="gain", start=1.0)
        if spec.affine and spec.bias and kind.shifts:
            self.bias = weight.vector(role, size, axis, kind="bias")
        own = kind.own(role, size, axis)
        self.own_names = tuple(own)
        for name, param in own.items():
            setattr(self, name, param)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., size] to the same shape and dtype."""
        kind = KINDS[self.spec.kind]
        own: dict[str, Any] = {name: getattr(self, name)[...] for name in self.own_names}
        y = kind.core(x.astype(jnp.float32), self.spec.eps, own)
        if hasattr(self, "gain"):
            y = y * (self.gain[...] + kind.offset if kind.offset else self.gain[...])
        if hasattr(self, "bias"):
            y = y + self.bias[...]
        return kind.after(y, own).astype(x.dtype)


def unit(x: jax.Array, axis: int = -1, eps: float = 1e-12) -> jax.Array:
    """x divided by its Euclidean length along an axis; eps is added to the squared length."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=axis, keepdims=True) + eps)


def _layer(x: jax.Array, eps: float, own: Own) -> jax.Array:
    return _rms(x - jnp.mean(x, axis=-1, keepdims=True), eps, own)


def _rms(x: jax.Array, eps: float, own: Own) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)


def _center(x: jax.Array, eps: float, own: Own) -> jax.Array:
    size = x.shape[-1]
    return (x - jnp.mean(x, axis=-1, keepdims=True)) * (size / (size - 1))


def _dyt(x: jax.Array, eps: float, own: Own) -> jax.Array:
    return jnp.tanh(own["alpha"] * x)


def _derf(x: jax.Array, eps: float, own: Own) -> jax.Array:
    return jax.lax.erf(own["alpha"] * x + own["shift"])


def _bhyt(x: jax.Array, eps: float, own: Own) -> jax.Array:
    return jnp.tanh(own["alpha"] * _BHYT_BOUND * _rms(x, eps, own))


def _seed(x: jax.Array, eps: float, own: Own) -> jax.Array:
    # The gain gamma is part of the bracket: (tanh(x . beta) alpha + gamma) x / RMS(x).
    along = jnp.tanh(jnp.sum(x * own["direction"], axis=-1, keepdims=True))
    return (along * own["alpha"] + own["gamma"]) * _rms(x, eps, own)


def _gated(y: jax.Array, own: Own) -> jax.Array:
    return y * jax.nn.sigmoid((y @ own["gate_down"]) @ own["gate_up"])


def _scalar(name: str, start: float) -> Declare:
    return lambda role, size, axis: {name: weight.scalar(f"{role}_{name}", start=start)}


def _derf_weights(role: str, size: int, axis: str) -> dict[str, nnx.Param[jax.Array]]:
    return {
        "alpha": weight.scalar(f"{role}_alpha", start=0.5),
        "shift": weight.scalar(f"{role}_shift", kind="bias"),
    }


def _seed_weights(role: str, size: int, axis: str) -> dict[str, nnx.Param[jax.Array]]:
    return {
        "direction": weight.vector(f"{role}_direction", size, axis, kind="multiplier"),
        "alpha": weight.vector(f"{role}_alpha", size, axis, kind="multiplier", start=1.0),
        # The slot's gain like any other, so that it starts where a placement has it start.
        "gamma": weight.vector(role, size, axis, kind="gain", start=1.0),
    }


def _gate_weights(role: str, size: int, axis: str) -> dict[str, nnx.Param[jax.Array]]:
    rank = min(_GATE_RANK, size)
    return {
        "gate_down": weight.matrix(f"{role}_gate_down", size, rank, (axis, "gate")),
        "gate_up": weight.matrix(f"{role}_gate_up", rank, size, ("gate", axis)),
    }


KINDS: dict[NormKind, _Kind] = {
    "layer_norm": _Kind(_layer, shifts=True),  # Ba et al. 2016, 1607.06450
    "rms_norm": _Kind(_rms),  # Zhang and Sennrich 2019, 1910.07467
    # As Gemma stores it: gain - 1, so that decay pulls the gain towards 1.
    "offset_rms_norm": _Kind(_rms, offset=1.0),
    # No division by a deviation, so it is Lipschitz (LipsFormer, 2304.09856, eq. 8).
    "center_norm": _Kind(_center, shifts=True),
    "unit_norm": _Kind(lambda x, eps, own: unit(x, eps=eps), gain=None),
    # g x / |x| with one g that starts at sqrt(size); written as g' times RMS (1910.05895).
    "scale_norm": _Kind(_rms, gain="scalar"),
    "dyt": _Kind(_dyt, shifts=True, own=_scalar("alpha", 0.5)),  # 2503.10622
    "derf": _Kind(_derf, shifts=True, own=_derf_weights),  # 2512.10938
    "bhyt": _Kind(_bhyt, own=_scalar("alpha", 2.0)),  # 2601.09719, both variances exact
    "seed_norm": _Kind(_seed, gain=None, own=_seed_weights),  # 2510.22777
    "gated_rms_norm": _Kind(_rms, own=_gate_weights, after=_gated),  # 2601.22966
}


def can_fold(kind: NormKind) -> bool:
    """Whether a linear layer behind the norm can take over its gain and shift."""
    return KINDS[kind].gain is not None and KINDS[kind].after is _Kind.after
