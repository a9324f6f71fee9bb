"""Mistral (2310.06825) and Ministral, whose layers have windows, and SmolLM 3, of whose layers
every fourth has no positions."""

from __future__ import annotations

from zoo.hf.families.llama import (
    BIASES,
    BRANCHES,
    ENDS,
    FIELDS,
    HEAD_FIELDS,
    HEADS,
    IGNORED_KEYS,
    NORMS,
    TIED,
    classes,
    decoder,
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import Rule, Settings, refused
from zoo.hf.rotary import rotary
from zoo.hf.windows import every, whole, windows
from zoo.models.config import shortest_pattern, spread

_WEIGHTS = {**ENDS, **BRANCHES, **NORMS}
_MISTRAL = {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}


def alike(theirs: Settings) -> str:
    """All layers have the window, if there is one."""
    return whole(theirs, "num_hidden_layers") * ("G" if theirs["sliding_window"] is None else "L")


def _turned(theirs: Settings) -> str:
    """R or N for each layer."""
    listed, depth = theirs["no_rope_layers"], whole(theirs, "num_hidden_layers")
    if listed is None:
        return every("no_rope_layer_interval", of="R", last="N")(theirs)
    if not isinstance(listed, list) or len(listed) != depth or set(map(repr, listed)) - {"0", "1"}:
        raise refused("no_rope_layers", listed, [f"{depth} entries, each 0 or 1"])
    return "".join("NR"[each] for each in listed)


def _sliding(theirs: Settings) -> str:
    """Where windows are on, the layers without positions have one."""
    on = theirs["use_sliding_window"] and theirs["sliding_window"] is not None
    return _turned(theirs).replace("R", "G").replace("N", "L" if on else "G")


def _no_rope_layers(ours: Settings) -> Settings:
    letters = spread(ours["rotary_pattern"], ours["num_layers"])
    return {"no_rope_layers": [int(letter == "R") for letter in letters]}


FAMILIES = (
    decoder(
        name="mistral",
        classes=classes("Mistral"),
        keys=(
            *sizes(**_MISTRAL),
            rotary(theta=10000.0),
            windows(window=4096, layers=alike, listed=False),
        ),
        weights=_WEIGHTS,
    ),
    decoder(
        name="ministral",
        classes=classes("Ministral"),
        keys=(
            *sizes(**_MISTRAL),
            rotary(theta=10000.0),
            windows(window=4096, layers=alike),
        ),
        weights=_WEIGHTS,
    ),
    Family(
        name="smollm3",
        classes=classes("SmolLM3"),
        fields=FIELDS,
        keys=(
            *sizes(
                vocab_size=128256,
                hidden_size=2048,
                num_hidden_layers=36,
                num_attention_heads=16,
                num_key_value_heads=4,
                max_position_embeddings=32768,
                tie_word_embeddings=True,
            ),
            *BIASES,
            rotary(theta=2000000.0),
            Rule(
                {"no_rope_layers": None, "no_rope_layer_interval": 4},
                lambda theirs: {"rotary_pattern": shortest_pattern(_turned(theirs))},
                _no_rope_layers,
            ),
            windows(
                window=None,
                layers=_sliding,
                keys={"use_sliding_window": False},
                write=lambda ours: {"use_sliding_window": ours["window"] is not None},
            ),
        ),
        ignored_keys=(*IGNORED_KEYS, "max_window_layers"),
        prefix="model.",
        weights=_WEIGHTS,
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        tied=TIED,
    ),
)
