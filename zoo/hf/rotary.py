"""Rotary positions in a `config.json`: `rope_parameters`, or the older `rope_theta`."""

from __future__ import annotations

from typing import Any

from zoo.hf.keys import Rule, Settings, refused


def rotary(*, theta: float, fraction: float = 1.0) -> Rule:
    """The keys of rotary positions.

    Args:
        theta, fraction: what a missing `rope_theta` or `partial_rotary_factor` means.
    """

    def read(theirs: Settings) -> Settings:
        kind, values = _parameters(theirs)
        if kind != "default":
            raise refused("rope_parameters.rope_type", kind, ["default"])
        own = {"rope_theta": theta, "partial_rotary_factor": fraction}
        for name in own:
            found = values.get(name, theirs[name])
            own[name] = own[name] if found is None else found
        return {
            "rotary_theta": own["rope_theta"],
            "rotary_fraction": own["partial_rotary_factor"],
        }

    def write(ours: Settings) -> Settings:
        own: Settings = {"rope_type": "default", "rope_theta": ours["rotary_theta"]}
        if ours["rotary_fraction"] != 1.0 or fraction != 1.0:
            own["partial_rotary_factor"] = ours["rotary_fraction"]
        return {"rope_parameters": own}

    keys = ("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor")
    return Rule(dict.fromkeys(keys), read, write)


def _parameters(theirs: Settings) -> tuple[str, dict[str, Any]]:
    """(rope_type, the rest) under either name of the key."""
    values = theirs["rope_parameters"] or theirs["rope_scaling"] or {}
    if not isinstance(values, dict):
        raise refused("rope_parameters", values, [{}])
    return str(values.get("rope_type", values.get("type", "default"))), values
