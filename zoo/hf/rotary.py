"""Rotary positions in a `config.json`: `rope_parameters`, or `rope_theta` and `rope_scaling`."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from zoo.hf.keys import CannotExpress, Rule, Settings, refused
from zoo.hf.windows import Layers, layer_letters, whole
from zoo.layers.positions import RotaryScaling
from zoo.models.config import shortest_pattern
from zoo.models.rotary import read_scaling, write_scaling

# What each kind of scaling reads beside the base and the share of a head.
_SCALINGS = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": (
        "factor",
        "beta_fast",
        "beta_slow",
        "original_max_position_embeddings",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
}
_COMMON = ("rope_theta", "partial_rotary_factor")


def rotary(
    *,
    theta: float,
    fraction: float | None = None,
    scalings: Collection[str] = tuple(_SCALINGS),
    names: tuple[str, str] = ("rope_theta", "partial_rotary_factor"),
) -> Rule:
    """The keys of rotary positions that are the same in every layer.

    Args:
        theta, fraction: what a missing `rope_theta` or `partial_rotary_factor` means; a family
            without a fraction turns whole heads.
        scalings: the kinds of `rope_type`.
        names: of these two outside `rope_parameters`.
    """

    def read(theirs: Settings) -> Settings:
        values = _checked("rope_parameters", theirs["rope_scaling"] or theirs["rope_parameters"])
        if _kind(values) not in scalings:
            raise refused("rope_parameters.rope_type", _kind(values), scalings)
        usual = (theta, 1.0 if fraction is None else fraction)
        base, share = (
            values.get(key, default if theirs[name] is None else theirs[name])
            for key, name, default in zip(_COMMON, names, usual, strict=True)
        )
        if fraction is None and share != 1.0:
            raise refused(names[1], share, [1.0])
        scaling = _scaling(values, whole(theirs, "max_position_embeddings"))
        return {"rotary_theta": base, "rotary_fraction": share, "rotary_scaling": scaling}

    def write(ours: Settings) -> Settings:
        own = _written(ours["rotary_theta"], ours["rotary_scaling"])
        if own["rope_type"] not in scalings:
            raise CannotExpress(f"rotary_scaling = {ours['rotary_scaling']!r}: it has none")
        if fraction is not None:
            own["partial_rotary_factor"] = ours["rotary_fraction"]
        return {"rope_parameters": own}

    return Rule(dict.fromkeys(("rope_parameters", "rope_scaling", *names)), read, write)


def rotary_of_kinds(
    *, theta: float, local_theta: float, layers: Layers, local_key: str | None = None
) -> Rule:
    """The keys of rotary positions that differ between full and sliding layers.

    Args:
        theta, local_theta: what a missing base means in full and in sliding layers.
        layers: as of `windows`.
        local_key: the older name of the base in sliding layers.
    """

    def read(theirs: Settings) -> Settings:
        values = theirs["rope_parameters"] or {}
        kinds = ("full_attention", "sliding_attention")
        if not isinstance(values, dict) or values.keys() - set(kinds):
            raise refused(
                "rope_parameters", values, [{kind: {"rope_theta": theta} for kind in kinds}]
            )
        full, local = (_checked(f"rope_parameters.{kind}", values.get(kind)) for kind in kinds)
        full |= _checked("rope_scaling", theirs["rope_scaling"])
        older = None if local_key is None else theirs[local_key]
        outside = theirs["rope_theta"]
        full = {"rope_theta": theta if outside is None else outside} | full
        local = {"rope_theta": local_theta if older is None else older} | local
        longest = whole(theirs, "max_position_embeddings")
        for own in (full, local):
            if own.get("partial_rotary_factor", 1.0) != 1.0:
                raise refused("partial_rotary_factor", own["partial_rotary_factor"], [1.0])
        scaling, scaling_local = _scaling(full, longest), _scaling(local, longest)
        ours = {"rotary_theta": full["rope_theta"], "rotary_scaling": scaling}
        if (full["rope_theta"], scaling) == (local["rope_theta"], scaling_local):
            return ours
        if scaling_local is not None:
            raise refused("rope_parameters.sliding_attention.rope_type", local, ["default"])
        letters = layer_letters(theirs, layers).replace("G", "R")
        if "L" in letters:
            ours["rotary_local_theta"] = local["rope_theta"]
        return ours | {"rotary_pattern": shortest_pattern(letters)}

    def write(ours: Settings) -> Settings:
        full = _written(ours["rotary_theta"], ours["rotary_scaling"])
        local = ours["rotary_local_theta"]
        return {
            "rope_parameters": {
                "full_attention": full,
                "sliding_attention": dict(full) if local is None else _written(local, None),
            }
        }

    keys = ("rope_parameters", "rope_scaling", "rope_theta")
    older = () if local_key is None else (local_key,)
    return Rule(dict.fromkeys((*keys, *older)), read, write)


def _checked(name: str, values: Any) -> dict[str, Any]:
    """The settings that are given, when each belongs to their kind of scaling."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise refused(name, values, [{}])
    kind = _kind(values)
    if kind not in _SCALINGS:
        raise refused(f"{name}.rope_type", kind, _SCALINGS)
    for key in values:
        if key not in ("rope_type", "type", *_COMMON, *_SCALINGS[kind]):
            raise refused(f"{name}.{key}", values[key], [f"none with rope_type {kind}"])
    for key in (*_COMMON, *_SCALINGS[kind]):
        value = values.get(key)
        if value is not None and not isinstance(value, int | float):
            raise refused(f"{name}.{key}", value, ["a number"])
    return {key: value for key, value in values.items() if value is not None}


def _kind(values: dict[str, Any]) -> str:
    return str(values.get("rope_type", values.get("type", "default")))


def _scaling(values: dict[str, Any], longest: int) -> str | None:
    """`rotary_scaling` of checked settings."""
    kind = _kind(values)
    if kind == "default":
        return None
    length = values.get("original_max_position_embeddings", longest)
    if kind == "yarn":
        values = {"factor": longest / length if length else 0.0} | values
    if "factor" not in values:
        raise refused("rope_parameters.factor", None, ["a number"])
    factor = values["factor"]
    if kind == "linear":
        return write_scaling(RotaryScaling("linear", factor))
    if kind == "llama3":
        for key in ("low_freq_factor", "high_freq_factor"):
            if key not in values:
                raise refused(f"rope_parameters.{key}", None, ["a number"])
        slow, fast = values["low_freq_factor"], values["high_freq_factor"]
        return write_scaling(RotaryScaling("llama3", factor, length, slow, fast))
    slow, fast = values.get("beta_slow") or 1, values.get("beta_fast") or 32
    truncate = bool(values.get("truncate", True))
    amplitude = values.get("attention_factor", _amplitude(values))
    return write_scaling(RotaryScaling("yarn", factor, length, slow, fast, truncate, amplitude))


def _amplitude(values: dict[str, Any]) -> float:
    """Of yarn, where it is not given itself."""

    def of(scale: float) -> float:
        factor = values["factor"]
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1.0 else 1.0

    above, below = values.get("mscale"), values.get("mscale_all_dim")
    return of(above) / of(below) if above and below else of(1.0)


def _written(theta: float, spec: str | None) -> Settings:
    scaling = read_scaling(spec)
    own: Settings = {"rope_type": "default", "rope_theta": theta}
    if scaling is None:
        return own
    own |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "linear":
        return own
    own["original_max_position_embeddings"] = scaling.length
    if scaling.kind == "llama3":
        return own | {"low_freq_factor": scaling.slow, "high_freq_factor": scaling.fast}
    if not scaling.truncate:
        own["truncate"] = False
    return own | {
        "beta_slow": scaling.slow,
        "beta_fast": scaling.fast,
        "attention_factor": scaling.amplitude,
    }
