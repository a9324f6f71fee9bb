"""What a variant resolves to: numbers and enums only, equal by value, hashable, JSON.

Model, describe, diagrams, checkpoints and export read this and nothing else of a variant.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Mapping
from typing import Any, Literal

from zoo.errors import VariantError
from zoo.layers.norms import NormKind
from zoo.layers.weight import Weight
from zoo.variants import serial

Presence = Literal["required", "forbidden", "free"]
Learned = Literal["scalar", "vector"]
BaseInit = Literal["normal", "lecun_normal", "spectral_normal"]
Hook = Literal["profile", "sphere"]
Option = bool | int | float | str | tuple[float, ...]
Start = float | tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class NormSlot:
    """A slot that holds a norm, of the architecture's kind unless it asks for its own.

    Attributes:
        gain: initial value of the learned gain.
        scale: constant factor on the norm's output.
        kind, eps, bias: None: the architecture's.
        affine: whether there is a gain, and with it a shift.
    """

    gain: float = 1.0
    scale: float = 1.0
    kind: NormKind | None = None
    eps: float | None = None
    bias: bool | None = None
    affine: bool = True

    def structure(self) -> Hashable:
        return (self.kind, self.eps, self.bias, self.affine)


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A schedule: floor + (1 - floor) clip((step - start) / steps, 0, 1)^power, then 1 for ever."""

    steps: float
    floor: float = 0.0
    start: float = 0.0
    power: float = 1.0

    def at(self, step: int) -> float:
        """The factor at a step."""
        reached = min(max((step - self.start) / self.steps, 0.0), 1.0)
        return self.floor + (1.0 - self.floor) * float(reached**self.power)


@dataclasses.dataclass(frozen=True)
class Multiplier:
    """A factor on the skip or the branch: a constant, or the initial value of a learned one.

    Attributes:
        stored: the learned array starts here and is used times value / stored, which sets its
            effective learning rate; None: it starts at `value` and is used as it is.
        ramp: a schedule that multiplies it, by the optimizer's step; at its end without a step.
    """

    value: float = 1.0
    learned: Learned | None = None
    stored: float | None = None
    ramp: Ramp | None = None

    def __post_init__(self) -> None:
        # Where a schedule stands is kept as value / stored.
        if self.learned and self.start == 0 and (self.ramp is not None or self.stored is not None):
            raise VariantError(
                "a learned multiplier that starts at 0 takes no ramp and no `stored` value; "
                "let it start at another number, or leave them out"
            )

    @property
    def start(self) -> float:
        """Where the learned array starts."""
        return self.value if self.stored is None else self.stored

    @property
    def number(self) -> float:
        """The constant factor, beside the learned one if there is one."""
        if self.learned is None:
            return self.value
        return 1.0 if self.stored is None else self.value / self.stored

    def structure(self) -> Hashable:
        return (self.learned, self.ramp is not None)

    def at(self, step: int) -> Multiplier:
        """The same without a schedule, standing where it stands at a step."""
        if self.ramp is None or self.ramp.at(step) == 1.0:
            return dataclasses.replace(self, ramp=None)
        factor = self.ramp.at(step)
        if self.learned is None:
            return Multiplier(self.value * factor)
        # What is learned stays as it is stored; its factor becomes a constant.
        stored = self.start
        return Multiplier(self.value * factor, self.learned, stored=stored)


@dataclasses.dataclass(frozen=True)
class Gate:
    """A learned gate on the add.

    Attributes:
        form: `straight_through`: a factor 1 - SiLU(g) on the value whose Jacobian is 1 (GPAS),
            g a scalar; `variance`: b = sigmoid(w / temperature), a^2 = 1 - b^2 per feature.
        on: what a straight-through gate multiplies, the sum or the skip.
        start: of g or w.
    """

    form: Literal["straight_through", "variance"]
    on: Literal["sum", "skip"] = "sum"
    start: float = 0.0
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class Site:
    """One sublayer's place: `x' = norm_out(skip x + branch norm_branch(F(norm_in(x))))`.

    Attributes:
        sublayer: `self_attention`, `linear_attention`, `cross_attention`, `mlp`, or `parallel`
            (attention + MLP).
        norm_in, norm_branch, norm_out: the three slots around F and the add.
        skip, branch: the multipliers a and b.
        inner_norm: asked of F: a norm before its output matrix, whose scale is 1: that of the
            branch or of the matrix's init is the place for a factor.
        qk_norm: asked of attention: whether queries and keys are normalised; None: free.
        init_gains: (matrix role, factor on the standard deviation of its base init), sorted;
            1 for the others.
        skip_normed: the skip starts from norm_in(x) instead of x.
        gate: a learned gate on the add.
        v_norm: asked of attention: a norm on each head's values.
        qk_unit: asked of attention: queries and keys of unit length, without weights.
        qk_scale: asked of attention: a learned vector on queries and keys, after positions.
        attention_scale: factor on the scores; None: head_dim^-0.5.
        head_scale: asked of attention: a learned scalar for each head's output.
        score_scale: asked of attention: a learned scalar for each head's scores, from 10 on.
        hidden_scale: asked of the MLP: learned vectors on what enters the activation.
        scalar_biases: asked of F: a learned scalar before each of its operations.
        norms: (role, slot): norms of the stream's own.
        constants: (name, number): numbers of the stream's own.
        starts: (role, value or values): where the stream's own learned arrays start.
        traits: words of the stream's own.
        lr_multipliers, decay_multipliers: (role or kind of weight, factor), sorted.
    """

    sublayer: str
    norm_in: NormSlot | None = None
    norm_branch: NormSlot | None = None
    norm_out: NormSlot | None = None
    skip: Multiplier = Multiplier()
    branch: Multiplier = Multiplier()
    inner_norm: NormSlot | None = None
    qk_norm: bool | None = None
    init_gains: tuple[tuple[str, float], ...] = ()
    skip_normed: bool = False
    gate: Gate | None = None
    v_norm: bool = False
    qk_unit: bool = False
    qk_scale: Multiplier | None = None
    attention_scale: float | None = None
    head_scale: bool = False
    score_scale: bool = False
    hidden_scale: Multiplier | None = None
    scalar_biases: bool = False
    norms: tuple[tuple[str, NormSlot], ...] = ()
    constants: tuple[tuple[str, float], ...] = ()
    starts: tuple[tuple[str, Start], ...] = ()
    traits: tuple[str, ...] = ()
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    decay_multipliers: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        # F is not handed the numbers of its layer, so a factor there would be lost in silence.
        if self.inner_norm is not None and self.inner_norm.scale != 1.0:
            raise VariantError(
                f"inner_norm.scale = {self.inner_norm.scale}: a norm inside F has scale 1; use "
                "its gain, the branch's multiplier or init_gains of the matrix after it"
            )

    def slots(self) -> dict[str, NormSlot]:
        """The slots that hold a norm, by the role of the gains in them."""
        slots = {
            "norm_in": self.norm_in,
            "norm_branch": self.norm_branch,
            "norm_out": self.norm_out,
            "inner_norm": self.inner_norm,
            **dict(self.norms),
        }
        return {role: slot for role, slot in slots.items() if slot is not None}

    def multipliers(self) -> dict[str, Multiplier]:
        """Both multipliers by their role."""
        return {"skip": self.skip, "branch": self.branch}

    def numbers(self) -> dict[str, float]:
        """Every constant that enters the computation, by name; schedules at their end."""
        return {
            **{role: each.number for role, each in self.multipliers().items()},
            **{f"{role}_scale": slot.scale for role, slot in self.slots().items()},
            **dict(self.constants),
        }

    def init_gain(self, role: str) -> float:
        """Factor on the standard deviation of a matrix role's base init."""
        return dict(self.init_gains).get(role, 1.0)

    def initial(self, weight: Weight) -> Start:
        """Factor on a matrix's base init; the value at which any other weight starts."""
        if weight.kind in ("matrix", "embedding"):
            return self.init_gain(weight.role)
        if weight.kind == "gain" and weight.role in self.slots():
            return self.slots()[weight.role].gain - weight.offset
        own: dict[str, Start] = {role: each.start for role, each in self.multipliers().items()}
        if self.gate is not None:
            own["gate"] = self.gate.start
        if weight.kind == "multiplier":
            return (own | dict(self.starts)).get(weight.role, weight.start)
        return weight.start

    def structure(self) -> Hashable:
        """What must be equal for two layers to be stacked: everything but the numbers."""
        return (
            self.sublayer,
            tuple((role, slot.structure()) for role, slot in self.slots().items()),
            self.skip.structure(),
            self.branch.structure(),
            self.qk_norm,
            self.skip_normed,
            None if self.gate is None else (self.gate.form, self.gate.on, self.gate.temperature),
            (self.v_norm, self.qk_unit, self.qk_scale, self.attention_scale),
            (self.head_scale, self.score_scale, self.hidden_scale, self.scalar_biases),
            tuple(name for name, _ in self.constants),
            self.traits,
        )


@dataclasses.dataclass(frozen=True)
class StackPlacement:
    """One stack: its stream, its ends, and a site per layer and sublayer.

    Attributes:
        layers: [num_layers][sublayers] of sites.
        stream: a name in `zoo.variants.streams`.
        options: (name, value): settings of the stream.
        embedding_norm, final_norm: whether the ends require, forbid or leave free a norm.
        embedding_slot, final_slot: what those norms are like, where there are any.
        embedding_multiplier: constant factor on the embedding.
        embedding_gradient: factor on the gradient of the embedding alone.
        logit_scale: factor on the logits; `vector`: learned, one per word.
        init_gains: (role, factor) for `emb`, `pos`, `head` and the matrices of the stream's ends.
        starts: (role, value or values): where learned arrays of the stream's ends start.
        lr_multipliers, decay_multipliers: (role or kind of weight, factor), outside the layers.
    """

    layers: tuple[tuple[Site, ...], ...] = ()
    stream: str = "plain"
    embedding_norm: Presence = "free"
    final_norm: Presence = "free"
    options: tuple[tuple[str, Option], ...] = ()
    embedding_slot: NormSlot = NormSlot()
    final_slot: NormSlot = NormSlot()
    embedding_multiplier: float = 1.0
    embedding_gradient: float = 1.0
    logit_scale: Multiplier = Multiplier()
    init_gains: tuple[tuple[str, float], ...] = ()
    starts: tuple[tuple[str, Start], ...] = ()
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    decay_multipliers: tuple[tuple[str, float], ...] = ()

    def option(self, name: str) -> Option:
        """A setting of the stream."""
        return dict(self.options)[name]

    def initial(self, weight: Weight) -> Start:
        """As `Site.initial`, for weights outside the layers."""
        if weight.kind in ("matrix", "embedding"):
            return dict(self.init_gains).get(weight.role, 1.0)
        slots = {"embedding_norm": self.embedding_slot, "final_norm": self.final_slot}
        if weight.kind == "gain" and weight.role in slots:
            return slots[weight.role].gain - weight.offset
        if weight.role == "logit_scale":
            return self.logit_scale.start
        return dict(self.starts).get(weight.role, weight.start)


@dataclasses.dataclass(frozen=True)
class Placement:
    """A resolved variant.

    Attributes:
        variant: the canonical name with the options that differ from their defaults.
        stacks: (name, stack) for `encoder` and / or `decoder`.
        base_init: a distribution of the matrices that takes the architecture's place.
        hooks: `profile`: multipliers are set from one batch before training (`zoo.profile`);
            `sphere`: weights are put back to unit length after every step.
    """

    variant: str
    stacks: tuple[tuple[str, StackPlacement], ...]
    base_init: BaseInit | None = None
    hooks: tuple[Hook, ...] = ()

    def stack(self, name: str) -> StackPlacement:
        return dict(self.stacks)[name]

    def at(self, step: int) -> Placement:
        """The placement with its schedules standing where they stand at a training step."""

        def settled(site: Site) -> Site:
            return dataclasses.replace(site, skip=site.skip.at(step), branch=site.branch.at(step))

        stacks = tuple(
            (
                name,
                dataclasses.replace(
                    stack, layers=tuple(tuple(map(settled, layer)) for layer in stack.layers)
                ),
            )
            for name, stack in self.stacks
        )
        return dataclasses.replace(self, stacks=stacks)

    def initial(self, weight: Weight) -> list[Start]:
        """`initial` along the weight's layer axis; one value for what is in no layer."""
        if weight.stack is None:
            return [1.0 if weight.kind in ("matrix", "embedding") else weight.start]
        if weight.layers is None:
            return [self.stack(weight.stack).initial(weight)]
        return [site.initial(weight) for site in self._sites(weight)]

    def lr_multipliers(self, weight: Weight) -> list[float]:
        """Factors on the learning rate, along the weight's layer axis."""
        return [_factor(each.lr_multipliers, weight) for each in self._owners(weight)]

    def decay_multipliers(self, weight: Weight) -> list[float]:
        """Factors on the weight decay, along the weight's layer axis."""
        return [_factor(each.decay_multipliers, weight) for each in self._owners(weight)]

    def to_json(self) -> dict[str, Any]:
        """A JSON object in which runs of equal layers are counted; `from_json` reverses it."""
        stacks = {name: _stack_to_json(stack) for name, stack in self.stacks}
        rest = serial.encode(dataclasses.replace(self, stacks=()))
        return {"variant": self.variant, "stacks": stacks} | {
            name: rest[name] for name in ("base_init", "hooks") if name in rest
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Placement:
        rest = {name: value for name, value in data.items() if name != "stacks"}
        stacks = tuple((name, _stack_from_json(stack)) for name, stack in data["stacks"].items())
        made: Placement = serial.decode(cls, rest | {"stacks": {}})
        return dataclasses.replace(made, stacks=stacks)

    def _owners(self, weight: Weight) -> list[Site] | list[StackPlacement]:
        if weight.stack is None:
            return [StackPlacement()]
        return [self.stack(weight.stack)] if weight.layers is None else self._sites(weight)

    def _sites(self, weight: Weight) -> list[Site]:
        layers = self.stack(weight.stack or "").layers
        return [
            site
            for layer in weight.layers or ()
            for site in layers[layer]
            if site.sublayer == weight.sublayer
        ]


def _factor(factors: tuple[tuple[str, float], ...], weight: Weight) -> float:
    """That of the weight's role if there is one, else of its kind, else 1."""
    known = dict(factors)
    return known.get(weight.role, known.get(weight.kind, 1.0))


def _stack_to_json(stack: StackPlacement) -> dict[str, Any]:
    runs = [(len(list(run)), layer) for layer, run in itertools.groupby(stack.layers)]
    ends = serial.encode(dataclasses.replace(stack, layers=()))
    if not stack.init_gains:
        del ends["init_gains"]
    always = {key: getattr(stack, key) for key in ("stream", "embedding_norm", "final_norm")}
    layers = [
        {"repeats": repeats, "sites": [serial.encode(site) for site in layer]}
        for repeats, layer in runs
    ]
    return always | ends | {"layers": layers}


def _stack_from_json(data: Mapping[str, Any]) -> StackPlacement:
    layers = tuple(
        tuple(serial.decode(Site, site) for site in run["sites"])
        for run in data["layers"]
        for _ in range(run["repeats"])
    )
    ends = {name: value for name, value in data.items() if name != "layers"}
    made: StackPlacement = serial.decode(StackPlacement, ends)
    return dataclasses.replace(made, layers=layers)
