"""Falcon (2311.16867) with rotary positions: layers are parallel with one norm or two, or
sequential; queries stand beside the key and the value that they share."""

from __future__ import annotations

import dataclasses

import numpy as np

from zoo.hf.families.llama import FIELDS, HEAD_FIELDS, HEADS, IGNORED_KEYS, classes, parallel
from zoo.hf.family import Family
from zoo.hf.keys import CannotExpress, Entry, Fixed, Key, Rule, Settings, refused
from zoo.hf.rotary import rotary
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.tensors import Array
from zoo.hf.weights import Map, linear, norm, tensor
from zoo.models.config import ModelConfig

_LAYER = "h.{}"
_SHAPE = {
    "new_decoder_architecture": False,
    "multi_query": True,
    "parallel_attn": True,
    "num_kv_heads": None,
    "num_ln_in_parallel_attn": None,
}


def _layers(theirs: Settings) -> Settings:
    """Layout, norms and key heads, which five keys say together."""
    heads, norms = theirs["num_attention_heads"], theirs["num_ln_in_parallel_attn"]
    side_by_side = bool(theirs["parallel_attn"])
    if theirs["new_decoder_architecture"]:
        norms = 2 if norms is None else norms
        if not side_by_side:
            raise refused("parallel_attn", theirs["parallel_attn"], [True])
        kv_heads = heads if theirs["num_kv_heads"] is None else theirs["num_kv_heads"]
    else:
        norms = 1 if norms is None else norms
        kv_heads = 1 if theirs["multi_query"] else heads
    if norms not in ((1, 2) if theirs["new_decoder_architecture"] else (1,)):
        raise refused("num_ln_in_parallel_attn", theirs["num_ln_in_parallel_attn"], [None, 1, 2])
    return {
        "layout": "parallel" if side_by_side else "sequential",
        "parallel_norms": "separate" if side_by_side and norms == 2 else "shared",
        "num_kv_heads": kv_heads,
    }


def _shape(ours: Settings) -> Settings:
    heads, kv_heads = ours["num_heads"], ours["num_kv_heads"]
    if ours["layout"] == "sequential":
        if kv_heads not in (1, heads):
            raise CannotExpress(f"num_kv_heads = {kv_heads}: sequential layers have 1 or {heads}")
        return {
            "new_decoder_architecture": False,
            "multi_query": kv_heads == 1,
            "parallel_attn": False,
        }
    separate = ours["parallel_norms"] == "separate"
    if kv_heads == 1 and not separate:
        return {
            "new_decoder_architecture": False,
            "multi_query": True,
            "parallel_attn": True,
        }
    return {
        "new_decoder_architecture": True,
        "parallel_attn": True,
        "num_kv_heads": kv_heads,
        "num_ln_in_parallel_attn": 2 if separate else 1,
    }


def _groups(config: ModelConfig) -> tuple[int, int]:
    """(key heads, query heads of each)."""
    kv_heads = config.sizes().num_kv_heads
    return kv_heads, config.num_heads // kv_heads


def _apart(array: Array, config: ModelConfig) -> Array:
    kv_heads, shared = _groups(config)
    rest = array.shape[1:]
    groups = array.reshape(kv_heads, shared + 2, -1, *rest)
    parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
    return np.concatenate([part.reshape(-1, *rest) for part in parts])


def _together(array: Array, config: ModelConfig) -> Array:
    kv_heads, shared = _groups(config)
    rest = array.shape[1:]
    width = len(array) // (kv_heads * (shared + 2))
    queries, keys, values = np.split(array, np.cumsum([shared, 1]) * kv_heads * width)
    parts = [part.reshape(kv_heads, -1, width, *rest) for part in (queries, keys, values)]
    return np.concatenate(parts, axis=1).reshape(array.shape)


def _fused() -> Map:
    fused: Map = {}
    name = f"{_LAYER}.self_attention.query_key_value"
    for part, role in enumerate("qkv"):
        fused |= linear(f"self_attention/branch/{role}", name, part=part)
    return {
        place: dataclasses.replace(each, load=_apart, save=_together)
        for place, each in fused.items()
    }


_BRANCHES = {
    **_fused(),
    **linear("self_attention/branch/o", f"{_LAYER}.self_attention.dense"),
    **linear("mlp/branch/w1", f"{_LAYER}.mlp.dense_h_to_4h"),
    **linear("mlp/branch/w2", f"{_LAYER}.mlp.dense_4h_to_h"),
    **norm("self_attention/residual/norm_in", f"{_LAYER}.input_layernorm"),
    **norm("mlp/residual/norm_in", f"{_LAYER}.post_attention_layernorm"),
}
_KEYS: tuple[Entry, ...] = (
    Key("vocab_size", "vocab_size", 65024),
    Key("hidden_size", "d_model", 4544),
    Key("num_hidden_layers", "num_layers", 32),
    Key("num_attention_heads", "num_heads", 71),
    Key("ffn_hidden_size", "d_ff", None),
    Key("activation", "activation", "gelu", ACTIVATIONS),
    Key("max_position_embeddings", "max_length", 2048),
    Key("bias", "bias", False),
    Key("hidden_dropout", "dropout", 0.0),
    Key("attention_dropout", "attention_dropout", 0.0),
    Key("layer_norm_epsilon", "norm_eps", 1e-5),
    Key("initializer_range", "init_std", 0.02),
    Key("tie_word_embeddings", "tie_embeddings", True),
    rotary(theta=10000.0),
    Rule(_SHAPE, _layers, _shape),
    Fixed("alibi", False),
    Fixed("apply_residual_connection_post_layernorm", False),
)

FAMILIES = (
    Family(
        name="falcon",
        classes=classes("Falcon"),
        fields=FIELDS | {"norm": "layer_norm", "norm_bias": True, "gated": False},
        keys=_KEYS,
        ignored_keys=IGNORED_KEYS,
        prefix="transformer.",
        weights={
            **tensor("embedding/tokens", "word_embeddings.weight"),
            **norm("final_norm", "ln_f"),
            **_BRANCHES,
            **parallel(_BRANCHES),
            **norm("parallel/branch/attention_norm", f"{_LAYER}.ln_attn"),
            **norm("parallel/branch/mlp_norm", f"{_LAYER}.ln_mlp"),
        },
        heads={**HEADS, "token_classification": linear("head/linear", "classifier")},
        head_fields=HEAD_FIELDS,
        tied={"lm_head.weight": "word_embeddings.weight"},
    ),
)
