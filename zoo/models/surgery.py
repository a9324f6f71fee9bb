"""Trained weights under another placement: folded where that is exact, moved where it is nearest.

Between two sublayers there is a port with room for two norms: the one behind the add below
(`norm_out`; at the lowest port the norm on the embedding) and the one before F above (`norm_in`; at
the highest the final norm). Where the new placement has one of them and the old one the other, it
gets the other's gain and shift: post-norm's N_out becomes the N_in of the next sublayer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.norms import KINDS, can_fold
from zoo.layers.weight import Weight
from zoo.models.config import ModelConfig
from zoo.models.resolve import place
from zoo.models.stages import parts
from zoo.models.tower import Transformer
from zoo.models.transformer import declare, initialiser
from zoo.variants.placement import Multiplier, NormSlot, Placement, Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.streams.base import filled
from zoo.variants.variant import Variant

Array = npt.NDArray[np.float64]

# Roles of matrices that read the stream, and that write to it.
_READS, _WRITES = ("q", "k", "v", "w1", "xq"), ("o", "w2", "xo")


class Place(NamedTuple):
    """Where a weight stands: in a sublayer, by its name in it; layer -1 is outside of all."""

    stack: str
    layer: int
    sublayer: str
    name: str

    def __str__(self) -> str:
        return f"{self.sublayer} {self.name.removeprefix('residual/')}".strip()


class Port(NamedTuple):
    """A norm: a slot of a sublayer, or one of the stack's ends (layer -1)."""

    slot: str
    layer: int = -1
    sublayer: str = ""

    def __str__(self) -> str:
        return f"{self.sublayer} {self.slot}".strip()


# A port with the slot that the old and the new placement have there.
_Slots = tuple[Port, NormSlot | None, NormSlot | None]


@dataclasses.dataclass
class Ledger:
    """What became of the weights: (what happened, weight) -> the layers, -1 outside of them."""

    entries: dict[tuple[str, str], list[int]] = dataclasses.field(default_factory=dict)

    def note(self, what: str, name: str, layer: int = -1) -> None:
        layers = self.entries.setdefault((what, name), [])
        if layer not in layers:
            layers.append(layer)

    def lines(self, what: str) -> tuple[str, ...]:
        """`name (layers 0-5)` of all to which this happened."""
        return tuple(
            name + _span(layers)
            for (happened, name), layers in self.entries.items()
            if happened == what
        )


def transplanted(
    model: Transformer, variant: str | Variant, *, fold_gains: bool = False, seed: int = 0
) -> tuple[Transformer, Ledger]:
    """(the model under another placement, what became of its weights).

    Multipliers are made up for: where the new placement weighs skip and branch otherwise, the last
    matrix of F (or the norm on the branch) is scaled, or a learned multiplier set, so that what is
    added keeps its share. What is new starts as the variant has it.

    Args:
        fold_gains: put the gain and shift of each norm before F into the matrices that read it,
            where nothing else does.
        seed: of what is drawn.

    Raises:
        VariantError: on another kind of stream, for which the weights of this one mean nothing.
        ConfigError: when the model's settings do not go with the variant.
    """
    chosen = get_variant(variant)
    old = model.placement
    config = _config(model.config, old, chosen)
    new = place(config, chosen)
    for name, stack in new.stacks:
        _check_streams(old.stack(name), stack, old.variant, new.variant)
    made = declare(config, new)
    ledger = Ledger()
    _, declared = weight.split(made)
    before = _apart(*weight.split(model))
    after = _apart(initialiser(made)(jax.random.key(seed)), declared)
    _copy(before, after)
    was, now = parts(model.config), parts(made.config)
    for name, stack in new.stacks:
        configs = was[name], now[name]
        _Stack(name, *configs, old.stack(name), stack, before, after, ledger).run(fold_gains)
    for what, own in (("new", after), ("dropped", before)):
        for at in own.arrays:
            if at not in own.settled:
                ledger.note(what, str(at), at.layer)
    bound = weight.bind(made, _together(after, declared))
    bound.descend(model)
    return bound, ledger


@dataclasses.dataclass
class _Apart:
    """Weights layer by layer; `settled` are those that were put somewhere, or came from there."""

    arrays: dict[Place, Array]
    weights: dict[Place, Weight]
    settled: set[Place] = dataclasses.field(default_factory=set)

    def norm(self, stack: str, port: Port) -> dict[str, Place]:
        """The weights of a norm by their name in it; none where there is no norm."""
        if port.layer < 0:
            return {
                place.name.rpartition("/")[2]: place
                for place in self.arrays
                if port.slot in place.name.split("/") and self.weights[place].stack == stack
            }
        prefix = f"residual/{port.slot}/"
        return {
            place.name.removeprefix(prefix): place
            for place in self.sublayer(stack, port.layer, port.sublayer).values()
            if place.name.startswith(prefix)
        }

    def sublayer(self, stack: str, layer: int, sublayer: str) -> dict[str, Place]:
        """The weights of a sublayer by their name in it."""
        places = (Place(stack, layer, sublayer, name) for name in self.names)
        return {place.name: place for place in places if place in self.arrays}

    @functools.cached_property
    def names(self) -> list[str]:
        return list(dict.fromkeys(place.name for place in self.arrays))


def _config(config: ModelConfig, old: Placement, variant: Variant) -> ModelConfig:
    """The model's settings as the new placement allows them."""
    open_ = dataclasses.replace(
        config, variant=variant.name, embedding_norm=None, final_norm=None, qk_norm=None
    )
    new = place(open_, variant)
    ends, before = new.stacks[0][1], old.stacks[0][1]
    sites = [site for _, stack in new.stacks for layer in stack.layers for site in layer]
    asked = {site.qk_norm for site in sites} - {None}
    first, was = ends.layers[0][0], before.layers[0][0]
    embedding = config.embedding_norm
    # Where the skip is normed too, norm_in of the first sublayer is the norm on the embedding.
    if first.skip_normed and was.norm_in is None:
        embedding = False
    elif was.skip_normed and first.norm_in is None:
        embedding = True
    final = config.final_norm if ends.layers[-1][-1].norm_out is None else None
    return dataclasses.replace(
        open_,
        embedding_norm=embedding if ends.embedding_norm == "free" else None,
        final_norm=final if ends.final_norm == "free" else None,
        qk_norm=None if asked else config.qk_norm,
    )


def _check_streams(old: StackPlacement, new: StackPlacement, before: str, after: str) -> None:
    if old.stream == new.stream == "plain" or old == new:
        return
    other, name = (new, after) if new.stream != "plain" else (old, before)
    raise VariantError(
        f"the placement of {before} cannot become that of {after}: {name} carries the stream "
        f"{other.stream!r} from sublayer to sublayer, which weights that were trained with "
        "another one know nothing of; use a variant of the plain stream, or train anew"
    )


def _copy(before: _Apart, after: _Apart) -> None:
    """What stands at the same place in the same shape; norms and multipliers come after it."""
    for at, array in after.arrays.items():
        if at in before.arrays and before.arrays[at].shape == array.shape:
            after.arrays[at] = before.arrays[at]
            before.settled.add(at)
            after.settled.add(at)


def _span(layers: list[int]) -> str:
    inside = sorted(layer for layer in layers if layer >= 0)
    if not inside:
        return ""
    first, last = inside[0], inside[-1]
    if inside == list(range(first, last + 1)):
        return f" (layer {first})" if first == last else f" (layers {first}-{last})"
    return f" (layers {', '.join(map(str, inside))})"


def _apart(params: dict[str, Any], declared: dict[str, Any]) -> _Apart:
    flat = flatten_dict(params)
    made = _Apart({}, {})
    for path, own in flatten_dict(declared).items():
        rows = np.asarray(flat[path], np.float64)
        for at, row in zip(_places(path, own), rows if own.stacked else [rows], strict=True):
            made.arrays[at], made.weights[at] = row, own
    return made


def _places(path: tuple[str, ...], own: Weight) -> list[Place]:
    """Where the layers of a stacked weight stand, or the one place of another."""
    if own.layers is None:
        return [Place("", -1, "", "/".join(path))]
    name = "/".join(path[path.index("sublayers") + 2 :])
    return [Place(own.stack or "", layer, own.sublayer or "", name) for layer in own.layers]


def _together(made: _Apart, declared: dict[str, Any]) -> dict[str, Any]:
    params: dict[tuple[str, ...], jax.Array] = {}
    for path, own in flatten_dict(declared).items():
        rows = [made.arrays[at] for at in _places(path, own)]
        params[path] = jnp.asarray(np.stack(rows) if own.stacked else rows[0], jnp.float32)
    whole: dict[str, Any] = unflatten_dict(params)
    return whole


@dataclasses.dataclass
class _Stack:
    """One stack on its way from one placement to another; `after` is written to."""

    name: str
    old_config: ModelConfig
    new_config: ModelConfig
    old: StackPlacement
    new: StackPlacement
    before: _Apart
    after: _Apart
    ledger: Ledger

    def run(self, fold_gains: bool) -> None:
        self._move_norms()
        self._match_multipliers()
        self._match_logits()
        if fold_gains:
            for layer, _, new in self._sites():
                self._fold_gain(layer, new)

    def _sites(self) -> Iterator[tuple[int, Site, Site]]:
        for layer, pair in enumerate(zip(self.old.layers, self.new.layers, strict=True)):
            for old, new in zip(*pair, strict=True):
                yield layer, old, new

    def _move_norms(self) -> None:
        """Every norm from the old one at its port."""
        below, before, after = (
            Port("embedding_norm"),
            self.old.embedding_slot if self.old_config.embedding_norm else None,
            self.new.embedding_slot if self.new_config.embedding_norm else None,
        )
        for layer, old, new in self._sites():
            above = Port("norm_in", layer, new.sublayer)
            self._port((below, before, after), (above, old.norm_in, new.norm_in))
            branch = Port("norm_branch", layer, new.sublayer)
            if old.norm_branch is not None and new.norm_branch is not None:
                self._norm(branch, old.norm_branch, branch, new.norm_branch)
            below, before, after = Port("norm_out", layer, new.sublayer), old.norm_out, new.norm_out
        last = self.old.final_slot if self.old_config.final_norm else None
        final = self.new.final_slot if self.new_config.final_norm else None
        self._port((below, before, after), (Port("final_norm"), last, final))

    def _port(self, below: _Slots, above: _Slots) -> None:
        for (port, old, new), (other, others, _) in ((below, above), (above, below)):
            if new is not None and old is not None:
                self._norm(port, old, port, new)
            elif new is not None and others is not None:
                self._norm(other, others, port, new)

    def _norm(self, source: Port, old: NormSlot, target: Port, new: NormSlot) -> None:
        """A norm's weights in another one, the factors of the slots made up for."""
        found = self.before.norm(self.name, source)
        before = filled(old, self.old_config.norm_spec()).kind
        after = filled(new, self.new_config.norm_spec()).kind
        factor = old.scale / new.scale
        for name, at in self.after.norm(self.name, target).items():
            array = None if name not in found else self.before.arrays[found[name]]
            if array is None or array.shape != self.after.arrays[at].shape:
                continue
            if name == "gain" and (factor != 1.0 or before != after):
                array = (array + KINDS[before].offset) * factor - KINDS[after].offset
            elif name == "bias":
                array = array * factor
            self.after.arrays[at] = array
            self.after.settled.add(at)
            self.before.settled.add(found[name])
            if source != target:
                self.ledger.note("moved", f"{source} to {target}", max(source.layer, target.layer))

    def _match_multipliers(self) -> None:
        """Skip and branch in their old proportion; `size` is the new stream's against the old."""
        size = self.new.embedding_multiplier / self.old.embedding_multiplier
        size = 1.0 if self.new_config.embedding_norm else size
        for layer, old, new in self._sites():
            own = self.after.sublayer(self.name, layer, new.sublayer)
            if new.norm_in is None and size != 1.0:
                self._scale(own, _READS, 1.0 / size, kinds=("matrix",))
            self._match_scores(own, old, new)
            was = {
                role: self._effective(self.before, layer, new.sublayer, role, multiplier)
                for role, multiplier in old.multipliers().items()
            }
            skip = self._set(layer, new, "skip", was["skip"])
            if np.all(was["skip"]):
                size = (1.0 if new.skip_normed else size) * float(
                    np.mean(skip) / np.mean(was["skip"])
                )
            wanted = size * was["branch"]
            branch = self._set(layer, new, "branch", wanted)
            if np.all(branch):
                self._scale_branch(own, old, new, wanted / branch)
            if old.norm_out is not None or new.norm_out is not None:
                size = 1.0

    def _effective(
        self, apart: _Apart, layer: int, sublayer: str, role: str, multiplier: Multiplier
    ) -> Array:
        """What a multiplier comes to: a number, or one for each feature."""
        at = Place(self.name, layer, sublayer, f"residual/{role}")
        number = np.asarray(multiplier.number, np.float64)
        if multiplier.learned is None:
            return number
        apart.settled.add(at)
        effective: Array = number * apart.arrays[at]
        return effective

    def _set(self, layer: int, site: Site, role: str, wanted: Array) -> Array:
        """What a multiplier of the new site comes to, a learned one set as near as its shape."""
        multiplier = site.multipliers()[role]
        if multiplier.learned is not None:
            at = Place(self.name, layer, site.sublayer, f"residual/{role}")
            like, value = self.after.arrays[at], wanted / multiplier.number
            whole = value if value.shape == like.shape else np.mean(value)
            self.after.arrays[at] = np.broadcast_to(whole, like.shape)
        return self._effective(self.after, layer, site.sublayer, role, multiplier)

    def _scale_branch(self, own: dict[str, Place], old: Site, new: Site, factor: Array) -> None:
        if np.allclose(factor, 1.0, rtol=1e-9, atol=0.0):
            return
        if new.norm_branch is None:
            self._scale(own, _WRITES, factor)
            return
        gain, shift = (own.get(f"residual/norm_branch/{name}") for name in ("gain", "bias"))
        # Where none was before, its gain starts as the variant has it.
        if old.norm_branch is not None and gain is not None:
            kind = filled(new.norm_branch, self.new_config.norm_spec()).kind
            offset, arrays = KINDS[kind].offset, self.after.arrays
            arrays[gain] = (arrays[gain] + offset) * factor - offset
            if shift is not None:
                arrays[shift] = arrays[shift] * factor
            self.ledger.note("folded", f"multipliers into {new.sublayer} norm_branch", gain.layer)

    def _match_scores(self, own: dict[str, Place], old: Site, new: Site) -> None:
        """The factor on the scores of attention, in the queries."""
        usual = self.new_config.attention_scale or self.new_config.sizes().head_dim ** -0.5
        factor = (old.attention_scale or usual) / (new.attention_scale or usual)
        if factor != 1.0 and not new.qk_unit and not any("q_norm" in name for name in own):
            self._scale(own, ("q", "xq"), factor, what="factor on the scores")

    def _match_logits(self) -> None:
        """The constant on the logits, in a head that has a matrix of its own."""
        factor = self.old.logit_scale.number / self.new.logit_scale.number
        found = [
            at
            for at, own in self.after.weights.items()
            if (own.stack, own.role) == (self.name, "head") and "vocab" in own.axes
        ]
        if factor != 1.0 and any(self.after.weights[at].kind == "matrix" for at in found):
            for at in found:
                self.after.arrays[at] = self.after.arrays[at] * factor
            self.ledger.note("folded", "factor on the logits into the head")

    def _scale(
        self,
        own: dict[str, Place],
        roles: tuple[str, ...],
        factor: Any,
        *,
        kinds: tuple[str, ...] = ("matrix", "bias"),
        what: str = "multipliers",
    ) -> None:
        for at in own.values():
            declared = self.after.weights[at]
            if declared.role in roles and declared.kind in kinds:
                self.after.arrays[at] = self.after.arrays[at] * factor
                self.ledger.note("folded", f"{what} into {at.sublayer} {declared.role}", at.layer)

    def _fold_gain(self, layer: int, site: Site) -> None:
        """The gain and shift of norm_in into the matrices that read it, where nothing else does."""
        if site.norm_in is None or site.skip_normed or site.scalar_biases:
            return
        kind = filled(site.norm_in, self.new_config.norm_spec()).kind
        own, arrays = self.after.sublayer(self.name, layer, site.sublayer), self.after.arrays
        gain, shift = (own.get(f"residual/norm_in/{name}") for name in ("gain", "bias"))
        if gain is None or not can_fold(kind):
            return
        readers = [
            at
            for at in own.values()
            if self.after.weights[at].role in _READS and self.after.weights[at].kind == "matrix"
        ]
        beside = [own.get(at.name.removesuffix("kernel") + "bias") for at in readers]
        moves = shift is not None and bool(np.any(arrays[shift]))
        if moves and None in beside:
            return  # nothing there could hold the shift
        offset = KINDS[kind].offset
        for at, bias in zip(readers, beside, strict=True):
            if moves and bias is not None and shift is not None:
                arrays[bias] = arrays[bias] + site.norm_in.scale * arrays[shift] @ arrays[at]
            rows = np.broadcast_to(arrays[gain] + offset, arrays[at].shape[:1])
            arrays[at] = rows[:, None] * arrays[at]
            role = self.after.weights[at].role
            self.ledger.note("folded", f"{site.sublayer} norm_in into {role}", layer)
        arrays[gain] = np.full_like(arrays[gain], 1.0 - offset)
        if shift is not None:
            arrays[shift] = np.zeros_like(arrays[shift])
