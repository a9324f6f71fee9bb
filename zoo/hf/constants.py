"""Constants of a placement in a `config.json`: on the embedding, on every branch, on the logits."""

from __future__ import annotations

from typing import Any

from zoo.hf.keys import CannotExpress, Rule, Settings, refused
from zoo.variants.registry import get_variant

_VARIANT = "scaled_residual"


def constants(
    defaults: dict[str, float],
    *,
    branch: str | None = None,
    embedding: str | None = None,
    logits: str | None = None,
    divisor: str | None = None,
) -> Rule:
    """The keys of pre-norm's constants, each by its name where a family has it.

    Args:
        defaults: what a missing key means.
        logits, divisor: the factor on the logits, or what they are divided by.
    """
    options = {
        "multiplier": branch,
        "embedding_multiplier": embedding,
        "logit_multiplier": logits or divisor,
    }

    def read(theirs: Settings) -> Settings:
        own = {name: 1.0 if key is None else _above(theirs, key) for name, key in options.items()}
        if divisor is not None:
            own["logit_multiplier"] = 1.0 / own["logit_multiplier"]
        if all(value == 1.0 for value in own.values()):
            return {"variant": "pre_norm"}
        return {"variant": get_variant(_VARIANT).with_options(**own).spec}

    def write(ours: Settings) -> Settings:
        variant = get_variant(ours["variant"])
        values: dict[str, Any] = dict(variant.values)
        if variant.name == "pre_norm":
            values = dict.fromkeys(options, 1.0)
        elif variant.name != _VARIANT or values["by_depth"]:
            raise CannotExpress(f"variant = {ours['variant']!r}: it says constants of pre-norm")
        if divisor is not None:
            values["logit_multiplier"] = _inverse(values["logit_multiplier"])
        for name, key in options.items():
            if key is None and values[name] != 1.0:
                raise CannotExpress(f"variant = {ours['variant']!r}: it has no {name}")
        return {key: values[name] for name, key in options.items() if key is not None}

    return Rule(dict(defaults), read, write)


def _above(theirs: Settings, key: str) -> float:
    value = theirs[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise refused(key, value, ["a number above 0"])
    return float(value)


def _inverse(factor: float) -> float:
    """1 / factor; a divisor that was written in few digits comes back as it was."""
    short = round(1.0 / factor, 9)
    return short if short and 1.0 / short == factor else 1.0 / factor
