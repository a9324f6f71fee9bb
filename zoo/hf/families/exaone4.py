"""EXAONE 4.0 (2507.11407): norms behind the branches and on queries and keys; where some layers
have windows, the others have no positions."""

from __future__ import annotations

from zoo.hf.families.llama import (
    BRANCHES,
    ENDS,
    FIELDS,
    classes,
    decoder,
    sizes,
)
from zoo.hf.families.olmo2 import NORMS_BEHIND
from zoo.hf.families.qwen import QK_NORMS
from zoo.hf.keys import Rule, Settings
from zoo.hf.rotary import rotary
from zoo.hf.windows import every, layer_letters, whole, windows
from zoo.models.config import shortest_pattern


def _letters(theirs: Settings) -> str:
    if theirs["sliding_window"] is None:
        return "G" * whole(theirs, "num_hidden_layers")
    return every("sliding_window_pattern")(theirs)


def _turned(theirs: Settings) -> Settings:
    if theirs["sliding_window"] is None:
        return {"rotary_pattern": "R"}
    letters = layer_letters(theirs, _letters).replace("G", "N").replace("L", "R")
    return {"rotary_pattern": shortest_pattern(letters)}


FAMILIES = (
    decoder(
        name="exaone4",
        classes=classes("Exaone4"),
        fields=FIELDS | {"variant": "res_post_norm", "qk_norm": True},
        keys=(
            *sizes(
                vocab_size=102400,
                intermediate_size=16384,
                num_key_value_heads=32,
                rms_norm_eps=1e-5,
            ),
            rotary(theta=10000.0),
            windows(
                window=4096,
                layers=_letters,
                keys={"sliding_window_pattern": 4},
                # What `layer_types` says counts.
                write=lambda ours: {"sliding_window_pattern": None},
            ),
            Rule({}, _turned, lambda ours: {}),
        ),
        weights={**ENDS, **BRANCHES, **NORMS_BEHIND, **QK_NORMS},
    ),
)
