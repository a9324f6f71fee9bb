"""Command R of Cohere: attention and MLP read one norm without a shift and are added together;
in its second form layers with windows have positions, and the others none."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.granite import constants
from zoo.hf.families.llama import (
    BIASES,
    BRANCHES,
    ENDS,
    FIELDS,
    HEADS,
    IGNORED_KEYS,
    LAYER,
    NORMS,
    TIED,
    classes,
    parallel,
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import Entry, Rule, Settings
from zoo.hf.rotary import rotary
from zoo.hf.weights import norm
from zoo.hf.windows import every, layer_letters, windows
from zoo.models.config import shortest_pattern

_QK_NORMS = {
    **norm("self_attention/branch/q_norm", f"{LAYER}.self_attn.q_norm"),
    **norm("self_attention/branch/k_norm", f"{LAYER}.self_attn.k_norm"),
}
_FIELDS: dict[str, Any] = FIELDS | {
    "norm": "layer_norm",
    "norm_bias": False,
    "layout": "parallel",
    "rotary_interleaved": True,
}
_NAMES = {"rms_norm_eps": "layer_norm_eps"}
_SIZES: dict[str, Any] = {
    "vocab_size": 256000,
    "hidden_size": 8192,
    "intermediate_size": 22528,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
_SHARED: tuple[Entry, ...] = (
    *sizes(_NAMES, **_SIZES),
    BIASES[0],
    constants({"logit_scale": 0.0625}, logits="logit_scale"),
)
_KINDS = every("sliding_window_pattern")


def _qk_norm(theirs: Settings) -> Settings:
    on = bool(theirs["use_qk_norm"])
    return {"qk_norm": on, "qk_norm_over": "per_head" if on else "head"}


def _turned(theirs: Settings) -> Settings:
    letters = layer_letters(theirs, _KINDS)
    if theirs["sliding_window"] is None:
        letters = "G" * len(letters)
    return {"rotary_pattern": shortest_pattern(letters.replace("G", "N").replace("L", "R"))}


FAMILIES = (
    Family(
        name="cohere",
        classes=classes("Cohere", "ForSequenceClassification", "ForTokenClassification"),
        fields=_FIELDS,
        keys=(
            *_SHARED,
            rotary(theta=500000.0),
            Rule({"use_qk_norm": False}, _qk_norm, lambda ours: {"use_qk_norm": ours["qk_norm"]}),
        ),
        ignored_keys=(*IGNORED_KEYS, "model_max_length"),
        prefix="model.",
        weights={**ENDS, **parallel({**BRANCHES, **NORMS, **_QK_NORMS})},
        heads=HEADS,
        tied=TIED,
    ),
    Family(
        name="cohere2",
        classes=classes("Cohere2", "ForSequenceClassification", "ForTokenClassification"),
        fields=_FIELDS,
        keys=(
            *_SHARED,
            rotary(theta=10000.0),
            windows(window=4096, layers=_KINDS, keys={"sliding_window_pattern": 4}),
            Rule({}, _turned, lambda ours: {}),
        ),
        # The released files say of the layers what the class does always.
        ignored_keys=(
            *IGNORED_KEYS,
            "layer_switch",
            "order_of_interleaved_layers",
            "position_embedding_type",
            "rotary_pct",
            "use_embedding_sharing",
            "use_gated_activation",
            "use_parallel_block",
            "use_parallel_embedding",
        ),
        prefix="model.",
        weights={**ENDS, **parallel({**BRANCHES, **NORMS})},
        heads=HEADS,
        tied=TIED,
    ),
)
