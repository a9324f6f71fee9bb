"""What a variant resolves to: numbers and enums only, equal by value, hashable, JSON.

Model, describe, diagrams, checkpoints and export read this and nothing else of a variant.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Mapping
from typing import Any, Literal

from zoo.layers.weight import Weight

Presence = Literal["required", "forbidden", "free"]
Learned = Literal["scalar", "vector"]


@dataclasses.dataclass(frozen=True)
class NormSlot:
    """A slot that holds a norm, of the architecture's kind; `gain` is its initial gain."""

    gain: float = 1.0


@dataclasses.dataclass(frozen=True)
class Multiplier:
    """A factor on the skip or the branch: a constant, or the initial value of a learned one."""

    value: float = 1.0
    learned: Learned | None = None


@dataclasses.dataclass(frozen=True)
class Site:
    """One sublayer's place: `x' = norm_out(skip x + branch norm_branch(F(norm_in(x))))`.

    Attributes:
        sublayer: `self_attention`, `cross_attention` or `mlp`.
        norm_in, norm_branch, norm_out: the three slots around F and the add.
        skip, branch: the multipliers a and b.
        inner_norm: asked of F: a norm before its output matrix.
        qk_norm: asked of attention: whether queries and keys are normalised; None: free.
        init_gains: (matrix role, factor on the standard deviation of its base init), sorted;
            1 for the others.
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

    def slots(self) -> dict[str, NormSlot]:
        """The slots that hold a norm, by the role of the gains in them."""
        slots = {
            "norm_in": self.norm_in,
            "norm_branch": self.norm_branch,
            "norm_out": self.norm_out,
            "inner_norm": self.inner_norm,
        }
        return {role: slot for role, slot in slots.items() if slot is not None}

    def multipliers(self) -> dict[str, Multiplier]:
        """Both multipliers by their role."""
        return {"skip": self.skip, "branch": self.branch}

    def init_gain(self, role: str) -> float:
        """Factor on the standard deviation of a matrix role's base init."""
        return dict(self.init_gains).get(role, 1.0)

    def initial(self, weight: Weight) -> float:
        """Factor on a matrix's base init; the value at which any other weight starts."""
        match weight.kind:
            case "matrix" | "embedding":
                return self.init_gain(weight.role)
            case "gain":
                # Norms that are no slot of the site, such as those of queries and keys, start at 1.
                return self.slots().get(weight.role, NormSlot()).gain
            case "multiplier":
                return self.multipliers()[weight.role].value
            case "bias":
                return 0.0

    def structure(self) -> Hashable:
        """What must be equal for two layers to be stacked: everything but the numbers."""
        slots = tuple(self.slots())
        return (self.sublayer, slots, self.skip.learned, self.branch.learned, self.qk_norm)


@dataclasses.dataclass(frozen=True)
class StackPlacement:
    """One stack: its stream, its ends, and a site per layer and sublayer.

    Attributes:
        stream: a name in `zoo.variants.streams`.
        embedding_norm, final_norm: whether the ends require, forbid or leave free a norm.
        layers: [num_layers][sublayers] of sites.
    """

    layers: tuple[tuple[Site, ...], ...]
    stream: str = "plain"
    embedding_norm: Presence = "free"
    final_norm: Presence = "free"


@dataclasses.dataclass(frozen=True)
class Placement:
    """A resolved variant.

    Attributes:
        variant: the canonical name with the options that differ from their defaults.
        stacks: (name, stack) for `encoder` and / or `decoder`.
    """

    variant: str
    stacks: tuple[tuple[str, StackPlacement], ...]

    def stack(self, name: str) -> StackPlacement:
        return dict(self.stacks)[name]

    def initial(self, weight: Weight) -> list[float]:
        """`Site.initial` along the weight's layer axis; a single 1 for what is in no stack."""
        if weight.stack is None or weight.layers is None:
            return [1.0]
        layers = self.stack(weight.stack).layers
        return [
            site.initial(weight)
            for layer in weight.layers
            for site in layers[layer]
            if site.sublayer == weight.sublayer
        ]

    def to_json(self) -> dict[str, Any]:
        """A JSON object in which runs of equal layers are counted; `from_json` reverses it."""
        return {
            "variant": self.variant,
            "stacks": {name: _stack_to_json(stack) for name, stack in self.stacks},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Placement:
        stacks = tuple((name, _stack_from_json(stack)) for name, stack in data["stacks"].items())
        return cls(data["variant"], stacks)


def _stack_to_json(stack: StackPlacement) -> dict[str, Any]:
    runs = [(len(list(run)), layer) for layer, run in itertools.groupby(stack.layers)]
    return {
        "stream": stack.stream,
        "embedding_norm": stack.embedding_norm,
        "final_norm": stack.final_norm,
        "layers": [
            {"repeats": repeats, "sites": [_site_to_json(site) for site in layer]}
            for repeats, layer in runs
        ],
    }


def _site_to_json(site: Site) -> dict[str, Any]:
    fields = dataclasses.asdict(site) | {"init_gains": dict(site.init_gains)}
    return {key: value for key, value in fields.items() if value is not None}


def _stack_from_json(data: Mapping[str, Any]) -> StackPlacement:
    layers = [
        tuple(_site_from_json(site) for site in run["sites"])
        for run in data["layers"]
        for _ in range(run["repeats"])
    ]
    ends = {key: data[key] for key in ("stream", "embedding_norm", "final_norm")}
    return StackPlacement(tuple(layers), **ends)


def _site_from_json(data: Mapping[str, Any]) -> Site:
    fields = dict(data) | {"init_gains": tuple(data["init_gains"].items())}
    for slot in ("norm_in", "norm_branch", "norm_out", "inner_norm"):
        if slot in fields:
            fields[slot] = NormSlot(**fields[slot])
    for multiplier in ("skip", "branch"):
        fields[multiplier] = Multiplier(**fields[multiplier])
    return Site(**fields)
