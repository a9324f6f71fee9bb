"""How the layers of a model turn queries and keys: from a config's words to tables."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from zoo.errors import ConfigError, VariantError, choices
from zoo.layers.positions import Rotary, RotaryScaling, rotary_tables
from zoo.models.config import ModelConfig
from zoo.variants.variant import parse_spec

# The options of each kind of scaling and their defaults; `...` marks one that must be given.
_OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {"factor": ...},
    "llama3": {"factor": ..., "length": ..., "slow": 1.0, "fast": 4.0},
    "yarn": {
        "factor": ...,
        "length": ...,
        "slow": 1.0,
        "fast": 32.0,
        "truncate": True,
        # 0.1 ln(factor) + 1, the paper's recommendation (2309.00071, equation 22).
        "amplitude": None,
    },
}


def read_scaling(spec: str | None) -> RotaryScaling | None:
    """What `rotary_scaling` of a config says.

    Raises:
        ConfigError: on another kind, or an option that is missing, unknown or makes no sense.
    """
    if spec is None:
        return None
    said = f"rotary_scaling = {spec!r}"
    try:
        kind, given = parse_spec(spec)
    except VariantError as error:
        raise ConfigError(f"{said} cannot be read; use name(option=value, ...)") from error
    if kind not in _OPTIONS:
        raise ConfigError(f"{said}: {kind!r} is not known; use {choices(_OPTIONS)}")
    options = _OPTIONS[kind] | given
    if options.keys() != _OPTIONS[kind].keys():
        raise ConfigError(f"{said}: {kind} takes {choices(_OPTIONS[kind])}")
    for name, value in options.items():
        if value is ...:
            raise ConfigError(f"{said}: {kind} needs {name}")
        options[name] = _option(said, name, value)
    if kind == "yarn" and options["amplitude"] is None:
        options["amplitude"] = 0.1 * math.log(options["factor"]) + 1.0
    made = RotaryScaling(kind, **options)  # type: ignore[arg-type]
    if not made.slow < made.fast:
        raise ConfigError(f"{said}: slow = {made.slow} must be below fast = {made.fast}")
    return made


def _option(said: str, name: str, value: Any) -> Any:
    """An option in its type."""
    if name == "truncate":
        accepted, fits = "True or False", isinstance(value, bool)
    elif name == "length":
        accepted = "a whole number above 0"
        fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
    else:
        accepted = "1 or more" if name == "factor" else "a number above 0"
        least = 1.0 if name == "factor" else 0.0
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and math.isfinite(value) and value >= least and value > 0.0
        fits = fits or (name == "amplitude" and value is None)
        value = float(value) if fits and value is not None else value
    if not fits:
        raise ConfigError(f"{said}: {name} = {value!r}; use {accepted}")
    return value


def write_scaling(scaling: RotaryScaling | None) -> str | None:
    """`read_scaling` reversed, with every option."""
    if scaling is None:
        return None
    options = (f"{name}={getattr(scaling, name)!r}" for name in _OPTIONS[scaling.kind])
    return f"{scaling.kind}({', '.join(options)})"


def rotary_turns(config: ModelConfig, positions: jax.Array) -> Rotary | None:
    """The turns of [batch or 1, length] positions, for every way that some layer has."""
    if config.positions != "rotary":
        return None
    ways = [_way(config, letter, positions) for letter in config.rotary_ways()]
    if len(ways) == 1:
        return None if config.rotary_ways() == "N" else ways[0]
    cos, sin = (jnp.stack([getattr(way, name) for way in ways]) for name in ("cos", "sin"))
    return dataclasses.replace(ways[0], cos=cos, sin=sin)


def _way(config: ModelConfig, letter: str, positions: jax.Array) -> Rotary:
    local = letter == "L"
    theta = config.rotary_local_theta if local else config.rotary_theta
    # No turn is a turn by nothing: the layers of a scan have one structure.
    return rotary_tables(
        jnp.zeros_like(positions) if letter == "N" else positions,
        config.rotary_width(),
        theta or config.rotary_theta,
        interleaved=config.rotary_interleaved,
        scaling=None if letter in "LN" else read_scaling(config.rotary_scaling),
    )
