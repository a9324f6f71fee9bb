"""Granite 3: LLaMA with constants on the embedding, on every branch, the scores and the logits."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.llama import (
    BIASES,
    BRANCHES,
    ENDS,
    FIELDS,
    HEADS,
    IGNORED_KEYS,
    NORMS,
    TIED,
    classes,
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import CannotExpress, Rule, Settings, refused
from zoo.hf.rotary import rotary
from zoo.hf.windows import whole
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


def _scale(theirs: Settings) -> Settings:
    """None where it is what it is without being said."""
    width = theirs["head_dim"]
    if width is None:
        width = whole(theirs, "hidden_size") // whole(theirs, "num_attention_heads")
    scale = theirs["attention_multiplier"]
    return {"attention_scale": None if width and scale == width**-0.5 else scale}


def _multiplier(ours: Settings) -> Settings:
    scale = ours["attention_scale"]
    return {"attention_multiplier": ours["head_dim"] ** -0.5 if scale is None else scale}


FAMILIES = (
    Family(
        name="granite",
        classes=classes("Granite", "ForSequenceClassification", "ForTokenClassification"),
        fields=FIELDS,
        keys=(
            *sizes(),
            rotary(theta=10000.0),
            *BIASES,
            constants(
                {"residual_multiplier": 1.0, "embedding_multiplier": 1.0, "logits_scaling": 1.0},
                branch="residual_multiplier",
                embedding="embedding_multiplier",
                divisor="logits_scaling",
            ),
            Rule({"attention_multiplier": 1.0}, _scale, _multiplier),
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights={**ENDS, **BRANCHES, **NORMS},
        heads=HEADS,
        tied=TIED,
    ),
)
