"""Granite 3: LLaMA with constants on the embedding, on every branch, the scores and the logits."""

from __future__ import annotations

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

_NAMES = ("residual_multiplier", "embedding_multiplier", "logits_scaling")


def _variant(theirs: Settings) -> Settings:
    for name in _NAMES:
        value = theirs[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise refused(name, value, ["a number above 0"])
    branch, embedding, divisor = (float(theirs[name]) for name in _NAMES)
    options = {
        "multiplier": branch,
        "embedding_multiplier": embedding,
        "logit_multiplier": 1.0 / divisor,
    }
    return {"variant": get_variant("scaled_residual").with_options(**options).spec}


def _constants(ours: Settings) -> Settings:
    variant = get_variant(ours["variant"])
    options = variant.values
    if variant.name == "pre_norm":
        return dict.fromkeys(_NAMES, 1.0)
    if variant.name != "scaled_residual" or options["by_depth"]:
        raise CannotExpress(f"variant = {ours['variant']!r}: it has one constant on every branch")
    factor = float(options["logit_multiplier"])  # type: ignore[arg-type]
    # A divisor that was written in few digits comes back as it was.
    short = round(1.0 / factor, 9)
    divisor = short if short and 1.0 / short == factor else 1.0 / factor
    return {
        "residual_multiplier": options["multiplier"],
        "embedding_multiplier": options["embedding_multiplier"],
        "logits_scaling": divisor,
    }


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
            Rule(dict.fromkeys(_NAMES, 1.0), _variant, _constants),
            Rule({"attention_multiplier": 1.0}, _scale, _multiplier),
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights={**ENDS, **BRANCHES, **NORMS},
        heads=HEADS,
        tied=TIED,
    ),
)
