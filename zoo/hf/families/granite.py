"""Granite 3: LLaMA with constants on the embedding, on every branch, the scores and the logits."""

from __future__ import annotations

from zoo.hf.constants import constants
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
from zoo.hf.keys import Rule, Settings
from zoo.hf.rotary import rotary
from zoo.hf.windows import whole


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
