"""Whether the weights of someone's own model start as a placement says."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from zoo.errors import VariantError, choices, near_matches
from zoo.layers.distributions import Distribution, deviation
from zoo.layers.weight import ROLES
from zoo.tables import table
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.residual import stack_context
from zoo.variants.variant import Architecture, Layout, Stack, Variant

Array = npt.NDArray[Any]
Roles = Mapping[str, str | tuple[str, int]]
Constants = Mapping[str, float | Sequence[float]]

_ENDS = ("emb", "pos", "head")
# Matrices out of a sublayer have the width of the stream as their output, all others as input.
_OUT = ("o", "xo", "w2")
# How many standard errors a sample deviation may be off.
_SIGMAS = 5.0
# Published constants have four digits or more; a largest singular value takes some iterations.
_EXACT, _SPECTRAL = 1e-4, 1e-2


@dataclasses.dataclass(frozen=True)
class AuditItem:
    """One weight or constant.

    Attributes:
        path: of the parameter; `constants` for one that was given as a number.
        role, layer: as the roles say; layer None for what is in no layer.
        measured, expected: standard deviations for matrices (largest singular values where the
            base init sets those), values for constants, gains and multipliers.
        tolerance: largest difference that is put down to the draw: 5 standard errors of a
            deviation of n numbers, expected / sqrt(2 n).
        note: what else there is to say.
    """

    path: str
    role: str
    layer: int | None
    measured: float
    expected: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return abs(self.measured - self.expected) <= self.tolerance


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        variant: with its options.
        items: everything that was compared.
        unchecked: what the placement sets and nothing that was given shows.
    """

    variant: str
    items: tuple[AuditItem, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was compared fits."""
        return all(item.ok for item in self.items)

    @property
    def failed(self) -> tuple[AuditItem, ...]:
        return tuple(item for item in self.items if not item.ok)

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """One row for layers of a role that came out alike, with the one that is furthest off."""
        rows = []
        for (role, ok, note), found in _grouped(self.items):
            worst = max(found, key=lambda item: abs(item.measured - item.expected))
            figures = (worst.measured, worst.expected, worst.tolerance)
            rows.append(
                [
                    *(role, _spans([item.layer for item in found])),
                    *(f"{figure:.4g}" for figure in figures),
                    *("ok" if ok else "differs", note),
                ]
            )
        header = ["role", "layers", "measured", "expected", "tolerance", "", "note"]
        verdict = "fits" if self.ok else f"{len(self.failed)} of {len(self.items)} differ"
        lines = [f"{self.variant}: {verdict}", "", table(rows, header)]
        if self.unchecked:
            lines += ["", *(f"not checked: {line}" for line in self.unchecked)]
        return "\n".join(lines)


def audit(
    params: Any,
    variant: str | Variant,
    *,
    roles: Roles,
    num_layers: int,
    d_model: int,
    architecture: Architecture = "decoder",
    stack: Stack | None = None,
    num_encoder_layers: int | None = None,
    d_ff: int = 0,
    num_heads: int = 0,
    layout: Layout = "sequential",
    base: Distribution = "xavier_normal",
    std: float = 0.02,
    embedding_std: float | None = None,
    constants: Constants | None = None,
) -> Audit:
    """Compare freshly initialised parameters with what a placement asks of them.

    Args:
        params: a pytree of arrays, an `nnx.State` or an `nnx.Module`. Names are joined by `/`.
        roles: pattern to role. In a pattern `*` is one name (ended by `/` or `.`) and `**` any
            number of them; the first `*` that is a number is the layer, or the value is
            (role, layer). A weight without one that has an axis of num_layers in front of its
            own holds all layers. Roles are those of `zoo.init_gain`; `q+k+v` is a matrix that
            holds several, equally wide, beside each other; `mlp.norm_out` and `mlp.skip` are
            the gains and learned multipliers of a sublayer.
        num_layers, architecture, stack, num_encoder_layers: as for `zoo.Residual`.
        d_ff, num_heads: for laws that look at them; 0: not known.
        base: what the matrices are drawn from before the placement's factor, unless the variant
            brings its own: its deviation is `std` for `normal`, and otherwise follows from the
            size of a weight, d_model, and whether its role reads the stream or writes to it.
            So it does not matter whether a matrix is transposed or split into heads.
        embedding_std: of `emb` and `pos`; default d_model^-0.5, or `std` with base = normal.
        constants: of the model's code by name: `skip`, `branch`, `embedding_multiplier`, or for
            one sublayer `mlp.skip`; one number, or one for each layer.

    Raises:
        VariantError: on an unknown role or constant, a pattern that fits no parameter, or a
            weight whose shape does not go with d_model.
    """
    chosen = get_variant(variant)
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
    table_std = std if base == "normal" else d_model**-0.5
    auditor = _Auditor(
        placement=chosen.stack(context),
        sublayers=context.sublayers,
        d_model=d_model,
        base=chosen.base_init or base,
        std=std,
        embedding_std=table_std if embedding_std is None else embedding_std,
        sphere="sphere" in chosen.hooks,
    )
    items = list(auditor.weights(_named(params), roles))
    items += auditor.constants(constants or {})
    return Audit(chosen.spec, tuple(items), tuple(auditor.unchecked(items)))


@dataclasses.dataclass(frozen=True)
class _Auditor:
    placement: StackPlacement
    sublayers: tuple[str, ...]
    d_model: int
    base: Distribution
    std: float
    embedding_std: float
    sphere: bool

    def weights(self, arrays: Mapping[str, Array], roles: Roles) -> Iterator[AuditItem]:
        for pattern, said in roles.items():
            expression = _expression(pattern)
            found = {path: m for path in arrays if (m := expression.fullmatch(path))}
            if not found:
                raise VariantError(
                    f"roles: {pattern!r} fits no parameter{near_matches(pattern, arrays)}; "
                    f"there are {choices(list(arrays)[:12])}"
                )
            role, given = (said, None) if isinstance(said, str) else said
            for path, match in found.items():
                numbers = [int(part) for part in match.groups() if part and part.isdigit()]
                layer = given if given is not None else next(iter(numbers), None)
                yield from self._weight(path, arrays[path], role, layer)

    def constants(self, constants: Constants) -> Iterator[AuditItem]:
        for name, value in constants.items():
            if name == "embedding_multiplier":
                want = self.placement.embedding_multiplier
                yield _exact("constants", name, None, np.asarray(value), want)
                continue
            for sublayer, constant in self._constant(name):
                sites = [row[self.sublayers.index(sublayer)] for row in self.placement.layers]
                values = np.asarray(value, np.float64)
                if values.shape not in ((), (len(sites),)):
                    raise VariantError(
                        f"constants: {name!r} has shape {values.shape}; give one number, or "
                        f"{len(sites)}, one for each layer"
                    )
                values = np.broadcast_to(values, (len(sites),))
                for layer, (site, own) in enumerate(zip(sites, values, strict=True)):
                    known = _constants(site)
                    if constant not in known:
                        raise VariantError(
                            f"constants: {name!r} is none of this placement's; "
                            f"{sublayer} has {choices(known)}"
                        )
                    role = f"{sublayer}.{constant}"
                    yield _exact("constants", role, layer, own, known[constant])

    def unchecked(self, items: Sequence[AuditItem]) -> Iterator[str]:
        """What differs from the neutral value and was given neither as weight nor as constant."""
        seen = {(item.role, item.layer) for item in items}
        missing: dict[str, list[tuple[int, float]]] = {}
        for layer, row in enumerate(self.placement.layers):
            for sublayer, site in zip(self.sublayers, row, strict=True):
                known = _constants(site)
                scales = [f"{slot}_scale" for slot in site.slots()]
                wanted = {f"{sublayer}.{n}": known[n] for n in ("skip", "branch", *scales)}
                wanted |= {f"{sublayer}.{n}": slot.gain for n, slot in site.slots().items()}
                wanted |= {r: g for r, g in site.init_gains if self._has(sublayer, r)}
                for role, value in wanted.items():
                    if value != 1.0 and (role, layer) not in seen:
                        missing.setdefault(role, []).append((layer, value))
        for role, places in missing.items():
            least, most = (f"{end(v for _, v in places):.4g}" for end in (min, max))
            shown = least if least == most else f"{least} to {most}"
            what = "init gain" if role in ROLES else "value"
            yield f"{role} in layers {_spans([layer for layer, _ in places])}, {what} {shown}"
        ends = {role: (g, "init gain") for role, g in self.placement.init_gains if role in _ENDS}
        ends["embedding_multiplier"] = (self.placement.embedding_multiplier, "value")
        for role, (value, what) in ends.items():
            if value != 1.0 and (role, None) not in seen:
                yield f"{role}, {what} {value:.4g}"

    def _constant(self, name: str) -> list[tuple[str, str]]:
        sublayer, dot, constant = name.rpartition(".")
        if dot and sublayer not in self.sublayers:
            raise VariantError(f"{name!r}: use one of the sublayers {choices(self.sublayers)}")
        return [(sublayer, constant)] if dot else [(each, name) for each in self.sublayers]

    def _weight(self, path: str, array: Array, role: str, layer: int | None) -> Iterator[AuditItem]:
        depth = len(self.placement.layers)
        if role in _ENDS:
            yield self._matrix(path, array, role, None, self._gain(role, None))
            return
        if layer is None and array.ndim > 0 and array.shape[0] == depth:
            for index, own in enumerate(array):
                yield from self._weight(path, own, role, index)
            return
        if layer is None or not 0 <= layer < depth:
            raise VariantError(
                f"{path}, role {role!r}: layer = {layer}; say (role, layer) with a layer of 0 to "
                f"{depth - 1}, or put a * where its number stands"
            )
        parts = role.split("+")
        if all(part in ROLES for part in parts):
            split = self._split(path, array, parts)
            for index, (part, own) in enumerate(zip(parts, split, strict=True)):
                item = self._matrix(path, own, part, layer, self._gain(part, layer))
                note = f"part {index + 1} of {len(parts)}" if len(parts) > 1 else item.note
                yield dataclasses.replace(item, note=note)
            return
        yield from self._start(path, array, role, layer)

    def _gain(self, role: str, layer: int | None) -> float:
        if layer is None:
            return dict(self.placement.init_gains).get(role, 1.0)
        return self.placement.layers[layer][self._place(role)].init_gain(role)

    def _has(self, sublayer: str, role: str) -> bool:
        return role in ROLES and (sublayer == "parallel" or _home(role) == sublayer)

    def _place(self, role: str) -> int:
        """Which sublayer of a layer has the matrices of a role."""
        if self.sublayers == ("parallel",):
            return 0
        if _home(role) not in self.sublayers:
            raise VariantError(f"role = {role!r}: the layers have {choices(self.sublayers)} only")
        return self.sublayers.index(_home(role))

    def _split(self, path: str, array: Array, parts: Sequence[str]) -> list[Array]:
        """The matrices that one array holds beside each other, along the axis that is not the
        stream's."""
        if len(parts) == 1:
            return [array]
        axis = 0 if array.shape[-1] == self.d_model != array.shape[0] else -1
        if array.ndim > 2 and len(parts) in array.shape:
            axis = array.shape.index(len(parts))
        if array.shape[axis] % len(parts):
            raise VariantError(
                f"{path}, role {'+'.join(parts)!r}: {array.shape} does not hold {len(parts)} "
                "equally wide matrices; split it and give each its role"
            )
        return np.split(array, len(parts), axis=axis)

    def _matrix(
        self, path: str, array: Array, role: str, layer: int | None, gain: float
    ) -> AuditItem:
        if array.size % self.d_model or self.d_model not in array.shape:
            raise VariantError(
                f"{path}, role {role!r}: shape {array.shape} has no axis of d_model = "
                f"{self.d_model}"
            )
        other = array.size // self.d_model
        fan_in, fan_out = (other, self.d_model) if role in _OUT else (self.d_model, other)
        values = np.asarray(array, np.float64)
        note = _shape_note(array, role, self.d_model)
        if self.sphere:
            # Of unit length along the stream, whatever they were drawn from.
            measured, expected = float(values.std()), float(self.d_model**-0.5)
        elif role in ("emb", "pos"):
            measured, expected = float(values.std()), gain * self.embedding_std
        elif self.base == "spectral_normal":
            # In either orientation, and whether or not the other axis is split into heads.
            rows = self.d_model if array.shape[0] == self.d_model else other
            flat = values.reshape(rows, -1)
            measured = float(np.linalg.norm(flat, ord=2))
            return AuditItem(path, role, layer, measured, gain, _SPECTRAL * gain, note)
        else:
            fans = {"fan_in": fan_in, "fan_out": fan_out}
            measured = float(values.std())
            expected = gain * deviation(self.base, std=self.std, **fans)
        error = expected / math.sqrt(2.0 * values.size)
        return AuditItem(path, role, layer, measured, expected, _SIGMAS * error, note)

    def _start(self, path: str, array: Array, role: str, layer: int) -> Iterator[AuditItem]:
        """A gain or a learned multiplier: every element at its start."""
        sublayer, _, name = role.rpartition(".")
        if sublayer not in self.sublayers:
            known = [*ROLES, *(f"{each}.skip" for each in self.sublayers)]
            raise VariantError(
                f"role = {role!r} is not known{near_matches(role, known)}; use {choices(ROLES)}, "
                f"or one like {self.sublayers[0]}.norm_out"
            )
        starts = _starts(self.placement.layers[layer][self.sublayers.index(sublayer)])
        if name not in starts:
            raise VariantError(f"role = {role!r}: {sublayer} has {choices(starts)}")
        yield _exact(path, role, layer, array, starts[name])


def _home(role: str) -> str:
    """The sublayer that has a role's matrices."""
    if role in ("w1", "w2"):
        return "mlp"
    return "cross_attention" if role.startswith("x") else "self_attention"


def _starts(site: Site) -> dict[str, float]:
    """Where gains and learned multipliers of a site start, by role."""
    slots = {role: slot.gain for role, slot in site.slots().items()}
    return slots | {role: each.start for role, each in site.multipliers().items()}


def _constants(site: Site) -> dict[str, float]:
    """What the forward pass multiplies with at the start, by name."""
    return site.numbers() | {role: each.value for role, each in site.multipliers().items()}


def _exact(path: str, role: str, layer: int | None, array: Array, expected: float) -> AuditItem:
    """The element that is furthest from one number which all should be."""
    values = np.asarray(array, np.float64).reshape(-1)
    worst = float(values[np.argmax(np.abs(values - expected))])
    return AuditItem(path, role, layer, worst, expected, _EXACT * max(abs(expected), 1e-8))


def _shape_note(array: Array, role: str, d_model: int) -> str:
    into = role not in _OUT and role not in ("emb", "pos")
    notes = []
    if array.ndim == 2 and array.shape[0] != array.shape[1]:
        transposed = array.shape[0 if into else 1] != d_model and role not in ("emb", "pos")
        notes += ["transposed: [out, in]"] if transposed else []
    if role in ("q", "k", "v") and array.size == 3 * d_model**2:
        notes.append("three times d_model wide: if it holds q, k and v, its role is q+k+v")
    return "; ".join(notes)


def _named(params: Any) -> dict[str, Array]:
    """Arrays by path."""
    if isinstance(params, nnx.Module):
        params = nnx.state(params, nnx.Param)
    if isinstance(params, nnx.State):
        params = nnx.to_pure_dict(params)
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(map(_name, path)): np.asarray(leaf) for path, leaf in leaves}


def _name(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _expression(pattern: str) -> re.Pattern[str]:
    """`*` captures one name, `**` passes over any number of them."""
    parts = re.split(r"(\*\*|\*)", pattern)
    made = {"**": ".*", "*": r"([^/.]+)"}
    return re.compile("".join(made.get(part, re.escape(part)) for part in parts))


def _grouped(
    items: Sequence[AuditItem],
) -> Iterator[tuple[tuple[str, bool, str], list[AuditItem]]]:
    def key(item: AuditItem) -> tuple[str, bool, str]:
        return (item.role, item.ok, item.note)

    for found, group in itertools.groupby(sorted(items, key=key), key):
        yield found, list(group)


def _spans(layers: Sequence[int | None]) -> str:
    """`0-3, 7`; `-` for what is in no layer."""
    numbers = sorted({layer for layer in layers if layer is not None})
    if not numbers:
        return "-"
    runs = []
    for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        span = [number for _, number in run]
        runs.append(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]))
    return ", ".join(runs)
