"""Gemma: gains stored as g - 1, embeddings times the root of the width, and from Gemma 2
(2408.00118) on norms on both sides of the branches and every other layer with a window."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.llama import (
    BIASES,
    BRANCHES,
    ENDS,
    FIELDS,
    HEAD_FIELDS,
    HEADS,
    IGNORED,
    IGNORED_KEYS,
    LAYER,
    NORMS,
    TIED,
    classes,
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import CannotExpress, Entry, Fixed, Key, Rule, Settings, refused
from zoo.hf.rotary import rotary, rotary_of_kinds
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import norm
from zoo.hf.windows import every, windows

_FIELDS = FIELDS | {"norm": "offset_rms_norm", "embedding_scale": True}
_SANDWICH = {
    **norm("self_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
    **norm("self_attention/residual/norm_branch", f"{LAYER}.post_attention_layernorm"),
    **norm("mlp/residual/norm_in", f"{LAYER}.pre_feedforward_layernorm"),
    **norm("mlp/residual/norm_branch", f"{LAYER}.post_feedforward_layernorm"),
}
_VAULT = {
    **norm("self_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
    **norm("mlp/residual/norm_in", f"{LAYER}.pre_feedforward_layernorm"),
}
_QK_NORMS = {
    **norm("self_attention/branch/q_norm", f"{LAYER}.self_attn.q_norm"),
    **norm("self_attention/branch/k_norm", f"{LAYER}.self_attn.k_norm"),
}


def _scale(theirs: Settings) -> Settings:
    number, width = theirs["query_pre_attn_scalar"], theirs["head_dim"]
    if not isinstance(number, int | float) or isinstance(number, bool) or not number > 0:
        raise refused("query_pre_attn_scalar", number, ["a number above 0"])
    return {"attention_scale": None if number == width else number**-0.5}


def _scalar(ours: Settings) -> Settings:
    scale = ours["attention_scale"]
    if scale is None:
        return {"query_pre_attn_scalar": ours["head_dim"]}
    number = round(scale**-2)
    if number < 1 or number**-0.5 != scale:
        raise CannotExpress(f"attention_scale = {scale}: it is no whole number's to the power -1/2")
    return {"query_pre_attn_scalar": number}


def _one_way(theirs: Settings) -> Settings:
    if theirs["use_bidirectional_attention"]:
        raise refused(
            "use_bidirectional_attention", theirs["use_bidirectional_attention"], [None, False]
        )
    return {}


# Released files of the first Gemma say gelu and mean its approximation.
_GELU = Key(
    "hidden_act",
    "activation",
    "gelu_pytorch_tanh",
    {"gelu_pytorch_tanh": "gelu_tanh"} | ACTIVATIONS | {"gelu": "gelu_tanh"},
)
_SHARED: dict[str, Any] = {
    "vocab_size": 256000,
    "head_dim": 256,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
_RENAMED = {"hidden_act": "hidden_activation"}
_SECOND_SIZES: dict[str, Any] = _SHARED | {
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
_ONE_WAY = Rule(
    {"use_bidirectional_attention": None},
    _one_way,
    lambda ours: {"use_bidirectional_attention": False},
)
_SECOND_KEYS: tuple[Entry, ...] = (
    *sizes(_RENAMED, **_SECOND_SIZES),
    BIASES[0],
    Rule({"query_pre_attn_scalar": 256}, _scale, _scalar),
    windows(window=4096, layers=every(2)),
    rotary(theta=10000.0),
    Key("attn_logit_softcapping", "attention_softcap", 50.0),
    Key("final_logit_softcapping", "logit_softcap", 30.0),
)
_THIRD_KINDS = every("sliding_window_pattern")
# `hidden_act` and `sliding_window_size` are in old files beside the keys that are read.
_SECOND_IGNORED = (*IGNORED_KEYS, "hidden_act", "sliding_window_size")

FAMILIES = (
    Family(
        name="gemma",
        classes=classes("Gemma"),
        fields=_FIELDS,
        keys=(
            *sizes(
                hidden_size=3072,
                intermediate_size=24576,
                num_hidden_layers=28,
                num_attention_heads=16,
                num_key_value_heads=16,
                **_SHARED,
            ),
            _GELU,
            BIASES[0],
            rotary(theta=10000.0),
            _ONE_WAY,
        ),
        ignored_keys=(*IGNORED_KEYS, "hidden_activation"),
        prefix="model.",
        weights={**ENDS, **BRANCHES, **NORMS},
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        ignored=IGNORED,
        tied=TIED,
    ),
    Family(
        name="gemma2",
        classes=classes("Gemma2"),
        fields=_FIELDS | {"variant": "sandwich_norm"},
        keys=(*_SECOND_KEYS, _ONE_WAY),
        ignored_keys=_SECOND_IGNORED,
        prefix="model.",
        weights={**ENDS, **BRANCHES, **_SANDWICH},
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        ignored=IGNORED,
        tied=TIED,
    ),
    Family(
        name="vaultgemma",
        classes=classes("VaultGemma", "ForSequenceClassification", "ForTokenClassification"),
        fields=_FIELDS,
        keys=_SECOND_KEYS,
        ignored_keys=_SECOND_IGNORED,
        prefix="model.",
        weights={**ENDS, **BRANCHES, **_VAULT},
        heads=HEADS,
        tied=TIED,
    ),
    Family(
        name="gemma3_text",
        classes={
            "Gemma3ForCausalLM": "language_model",
            "Gemma3TextModel": "none",
            "Gemma3TextForSequenceClassification": "sequence_classification",
        },
        fields=_FIELDS | {"variant": "sandwich_norm", "qk_norm": True},
        keys=(
            *sizes(
                _RENAMED,
                **{**_SECOND_SIZES, "vocab_size": 262208, "max_position_embeddings": 131072},
            ),
            BIASES[0],
            Rule({"query_pre_attn_scalar": 256}, _scale, _scalar),
            windows(
                window=4096,
                layers=_THIRD_KINDS,
                keys={"sliding_window_pattern": 6},
            ),
            rotary_of_kinds(
                theta=1000000.0,
                local_theta=10000.0,
                layers=_THIRD_KINDS,
                local_key="rope_local_base_freq",
            ),
            Fixed("attn_logit_softcapping", None),
            Key("final_logit_softcapping", "logit_softcap", None),
            _ONE_WAY,
        ),
        ignored_keys=(*_SECOND_IGNORED, "_sliding_window_pattern"),
        prefix="model.",
        weights={**ENDS, **BRANCHES, **_SANDWICH, **_QK_NORMS},
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        tied=TIED,
    ),
)
