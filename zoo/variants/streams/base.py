"""The protocol between a stack and what flows along it.

A stack opens a stream on the embedding, every sublayer reads its input from it
and writes its branch back, and the stack closes it on the way to the head. The
plain stream carries x alone; others carry more. A new stream is one file here: a site, ends
if it needs other than `Ends`, a wiring to draw it by, `STREAM`, and its entries in `VARIANTS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import Norm, NormSpec
from zoo.variants.placement import Multiplier, NormSlot, Ramp, Site, StackPlacement

Carry = Any  # a pytree of arrays; [batch, length, d_model] for the plain stream
Numbers = Mapping[str, Any]  # the constants of a site: floats, or scalars traced over the layers


class Tap:
    """Measurements at one sublayer.

    Attributes:
        values: float32 scalars `stream_rms`, `branch_rms`, `branch_skip_ratio` and bool `finite`;
            with `arrays` also `stream` and `branch`, [batch, length, d_model].
    """

    def __init__(self, *, arrays: bool = False) -> None:
        self.arrays = arrays
        self.values: dict[str, jax.Array] = {}

    def record(self, *, stream: jax.Array, skip: jax.Array, branch: jax.Array) -> None:
        """What stands for the stream after the sublayer, and the two terms of the add."""
        size = rms(branch)
        self.values |= {
            "stream_rms": rms(stream),
            "branch_rms": size,
            "branch_skip_ratio": size / rms(skip),
            "finite": jnp.all(jnp.isfinite(stream)),
        }
        if self.arrays:
            self.values |= {"stream": stream, "branch": branch}


class StreamSite(Protocol):
    """A sublayer's access to the stream (an NNX module, it may hold weights)."""

    def read(self, carry: Carry, numbers: Numbers) -> jax.Array:
        """The sublayer's input, [batch, length, d_model]."""

    def write(
        self,
        carry: Carry,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> Carry:
        """Put the branch back.

        Args:
            carry: as it was read from.
            numbers: the constants of this layer's site, `Site.numbers`.
            keep: factor on the branch, broadcastable to it (stochastic depth).
            tap: to record to, when given.
        """


class StreamEnds(Protocol):
    """How a stack enters the stream and leaves it (an NNX module, it may hold weights)."""

    def open(self, x: jax.Array) -> Carry:
        """The carry before the first layer, of the embedding [batch, length, d_model]."""

    def close(self, carry: Carry) -> jax.Array:
        """The stack's output before the final norm, [batch, length, d_model]."""


class Ends(nnx.Module):
    """Ends of a stream whose carry is x itself."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        pass

    def open(self, x: jax.Array) -> Carry:
        return x

    def close(self, carry: Carry) -> jax.Array:
        x: jax.Array = carry
        return x


class PairEnds(Ends):
    """Ends of a stream that carries, beside x, what x was somewhere before: at first the same."""

    def open(self, x: jax.Array) -> Carry:
        return x, x

    def close(self, carry: Carry) -> jax.Array:
        x: jax.Array = carry[0]
        return x


@dataclasses.dataclass(frozen=True)
class Step:
    """What a sublayer does to a stream, in symbols.

    Attributes:
        reads: what goes to F, through N_in where the site has one.
        writes: for each lane its next value, or an equation, f being the branch.
        trait: that a site must have; none for all the others.
    """

    reads: str
    writes: tuple[str, ...]
    trait: str = ""


@dataclasses.dataclass(frozen=True)
class Wiring:
    """A stream in symbols, for drawings.

    Attributes:
        lanes: what is carried from sublayer to sublayer.
        opens: where each lane starts, e being the embedding.
        steps: the first whose trait a site has is that site's.
        closes: what leaves the stack, before its final norm.
        where: what the symbols mean.
    """

    lanes: tuple[str, ...] = ("carry",)
    opens: tuple[str, ...] = ("open(e)",)
    steps: tuple[Step, ...] = (Step("read(carry)", ("write(carry, f)",)),)
    closes: str = "close(carry)"
    where: tuple[str, ...] = ()

    def step(self, site: Site) -> Step:
        """What one site does."""
        return next(step for step in self.steps if not step.trait or step.trait in site.traits)

    def opened(self) -> list[str]:
        """An equation for the start of each lane."""
        return [_equation(*pair) for pair in zip(self.lanes, self.opens, strict=True)]

    def written(self, site: Site) -> list[str]:
        """What one site writes, an equation for each lane."""
        pairs = zip(self.lanes, self.step(site).writes, strict=True)
        return [_equation(f"{lane}'", new) for lane, new in pairs]


def _equation(lane: str, value: str) -> str:
    return value if " = " in value else f"{lane} = {value}"


def _in_words(stack: StackPlacement) -> Wiring:
    return Wiring()


@dataclasses.dataclass(frozen=True)
class Stream:
    """A kind of stream.

    Attributes:
        site: `site(site, stack, d_model, norm)`, the access of one sublayer.
        ends: `ends(stack, d_model, norm)`.
        wiring: `wiring(stack)`, how to draw it.
    """

    site: Callable[[Site, StackPlacement, int, NormSpec], StreamSite]
    ends: Callable[[StackPlacement, int, NormSpec], StreamEnds] = Ends
    wiring: Callable[[StackPlacement], Wiring] = _in_words


def weighed(site: StreamSite, carry: Carry) -> Carry:
    """The carry as `read` and `write` of one sublayer are given it.

    A site whose read and write start from one computation may have `weigh(carry)`, which puts
    its result beside the carry; its read and write take both forms. XLA shares equal values of
    itself, but not their derivatives.
    """
    weigh: Callable[[Carry], Carry] | None = getattr(site, "weigh", None)
    return carry if weigh is None else weigh(carry)


def count(stack: StackPlacement, option: str) -> int:
    """A setting of the stream that counts something."""
    number = stack.option(option)
    assert isinstance(number, int), f"{option} = {number!r}"
    return number


def make_norm(slot: NormSlot, role: str, d_model: int, norm: NormSpec) -> Norm:
    """A norm for a slot, over the width of the stream.

    Raises:
        VariantError: on a gain that is to start elsewhere than at 1, in a kind that has none.
    """
    spec = filled(slot, norm)
    made = Norm(d_model, spec, role=role)
    if slot.gain != 1.0:
        _, weights = weight.split(made)
        if not any(own.kind == "gain" for own in weights.values()):
            raise VariantError(
                f"norm = {spec.kind!r} has no gain, and {role} is to start with one of "
                f"{slot.gain:.4g}; use a kind that has, such as layer_norm or rms_norm"
            )
    return made


def filled(slot: NormSlot, norm: NormSpec) -> NormSpec:
    """What a slot holds: the architecture's norm, apart from what the slot asks for."""
    return NormSpec(
        kind=norm.kind if slot.kind is None else slot.kind,
        eps=norm.eps if slot.eps is None else slot.eps,
        bias=norm.bias if slot.bias is None else slot.bias,
        affine=norm.affine and slot.affine,
    )


def normed(norm: Norm | None, x: jax.Array, scale: Any = 1.0) -> jax.Array:
    """N(x) times the slot's constant, or x where there is no norm."""
    return x if norm is None else times(norm(x), scale)


def times(x: jax.Array, number: Any) -> jax.Array:
    """x times a constant of the placement; exactly 1 is no operation, and stays bit-exact."""
    if isinstance(number, float) and number == 1.0:
        return x
    return x * jnp.asarray(number, x.dtype)


def slowed(x: jax.Array, share: float) -> jax.Array:
    """x, and `share` of its gradient (GLM-130B, 2210.02414)."""
    return x if share == 1.0 else share * x + (1.0 - share) * jax.lax.stop_gradient(x)


def learned(multiplier: Multiplier, role: str, d_model: int) -> nnx.Param[jax.Array] | None:
    """The weight of a learned multiplier, or None for a constant."""
    match multiplier.learned:
        case None:
            return None
        case "scalar":
            return weight.scalar(role)
        case "vector":
            return weight.vector(role, d_model, "embed", kind="multiplier")


def scaled(x: jax.Array, own: nnx.Param[jax.Array] | None, number: Any) -> jax.Array:
    """x times a multiplier: its learned array, if any, and its constant."""
    return times(x if own is None else x * own[...].astype(x.dtype), number)


def ramped(ramps: Sequence[Ramp], step: jax.Array) -> jax.Array:
    """[layers] values of schedules at a step."""

    def column(field: str) -> jax.Array:
        return jnp.asarray([getattr(ramp, field) for ramp in ramps], jnp.float32)

    reached = jnp.clip((step - column("start")) / column("steps"), 0.0, 1.0)
    floor = column("floor")
    return floor + (1.0 - floor) * reached ** column("power")


def rms(x: jax.Array) -> jax.Array:
    """Root mean square over everything, float32 scalar."""
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))
