"""GPT-NeoX (2204.06745) and Persimmon: layer norms, biases, and queries, keys and values of each
head side by side in one matrix."""

from __future__ import annotations

import dataclasses
from typing import Any

from zoo.hf.families.llama import (
    FIELDS,
    HEAD_FIELDS,
    HEADS,
    IGNORED_KEYS,
    classes,
    decoder,
    parallel,
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import Fixed, Key, Rule, Settings
from zoo.hf.rotary import rotary
from zoo.hf.tensors import Array
from zoo.hf.weights import Map, linear, norm, tensor
from zoo.models.config import ModelConfig

_FIELDS: dict[str, Any] = FIELDS | {
    "norm": "layer_norm",
    "norm_bias": True,
    "gated": False,
    "bias": True,
}
_NAMES = {"rms_norm_eps": "layer_norm_eps"}


def by_head(name: str, *, kind: str = "self_attention") -> Map:
    """Queries, keys and values of a matrix whose rows go by head, then by these three."""
    fused: Map = {}
    for part, role in enumerate("qkv"):
        fused |= linear(f"{kind}/branch/{role}", name, part=part)
    return {
        place: dataclasses.replace(each, load=_apart, save=_together)
        for place, each in fused.items()
    }


def _apart(array: Array, config: ModelConfig) -> Array:
    heads = array.reshape(config.num_heads, 3, -1, *array.shape[1:])
    return heads.swapaxes(0, 1).reshape(array.shape)


def _together(array: Array, config: ModelConfig) -> Array:
    roles = array.reshape(3, config.num_heads, -1, *array.shape[1:])
    return roles.swapaxes(0, 1).reshape(array.shape)


def _layers(layer: str, attention: str) -> Map:
    return {
        **norm("self_attention/residual/norm_in", f"{layer}.input_layernorm"),
        **norm("mlp/residual/norm_in", f"{layer}.post_attention_layernorm"),
        **by_head(f"{layer}.{attention}.query_key_value"),
        **linear("self_attention/branch/o", f"{layer}.{attention}.dense"),
        **linear("mlp/branch/w1", f"{layer}.mlp.dense_h_to_4h"),
        **linear("mlp/branch/w2", f"{layer}.mlp.dense_4h_to_h"),
    }


def _layout(theirs: Settings) -> Settings:
    """Side by side, attention and MLP have a norm each."""
    if theirs["use_parallel_residual"]:
        return {"layout": "parallel", "parallel_norms": "separate"}
    return {"layout": "sequential"}


def _parallel(ours: Settings) -> Settings:
    return {"use_parallel_residual": ours["layout"] == "parallel"}


def _keys(**defaults: Any) -> tuple[Key, ...]:
    """Sizes of layers that have as many key heads as query heads and whole heads' width."""
    shared = sizes(_NAMES, rms_norm_eps=1e-5, **defaults)
    return tuple(key for key in shared if key.field not in ("num_kv_heads", "head_dim"))


_NEOX = _layers("layers.{}", "attention")

FAMILIES = (
    Family(
        name="gpt_neox",
        classes=classes("GPTNeoX"),
        fields=_FIELDS | {"mlp_bias": True},
        keys=(
            *_keys(
                vocab_size=50432,
                hidden_size=6144,
                intermediate_size=24576,
                num_hidden_layers=44,
                num_attention_heads=64,
                hidden_act="gelu",
            ),
            rotary(theta=10000.0, fraction=0.25, names=("rotary_emb_base", "rotary_pct")),
            Key("attention_bias", "attention_bias", True, {True: "all", False: "none"}),
            Key("hidden_dropout", "dropout", 0.0, also=("embedding_dropout",)),
            Rule({"use_parallel_residual": True}, _layout, _parallel),
            Fixed("is_decoder", False),
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="gpt_neox.",
        weights={
            **tensor("embedding/tokens", "embed_in.weight"),
            **norm("final_norm", "final_layer_norm"),
            **_NEOX,
            **parallel(_NEOX),
            **norm("parallel/branch/attention_norm", "layers.{}.input_layernorm"),
            **norm("parallel/branch/mlp_norm", "layers.{}.post_attention_layernorm"),
        },
        heads={
            **HEADS,
            "language_model": linear("head", "embed_out"),
            "token_classification": linear("head/linear", "classifier"),
        },
        head_fields=HEAD_FIELDS,
        ignored=(
            "layers.{}.attention.bias",
            "layers.{}.attention.masked_bias",
            "layers.{}.attention.rotary_emb.inv_freq",
        ),
        tied={"embed_out.weight": "embed_in.weight"},
    ),
    decoder(
        name="persimmon",
        classes=classes("Persimmon"),
        fields=_FIELDS,
        keys=(
            *_keys(
                vocab_size=262144,
                intermediate_size=16384,
                num_hidden_layers=36,
                num_attention_heads=64,
                hidden_act="relu2",
                max_position_embeddings=16384,
            ),
            rotary(theta=10000.0, fraction=0.5),
            Key("qk_layernorm", "qk_norm", True),
            Key("hidden_dropout", "dropout", 0.0),
        ),
        weights={
            **tensor("embedding/tokens", "embed_tokens.weight"),
            **norm("final_norm", "final_layernorm"),
            **_layers("layers.{}", "self_attn"),
            **norm("self_attention/branch/q_norm", "layers.{}.self_attn.q_layernorm"),
            **norm("self_attention/branch/k_norm", "layers.{}.self_attn.k_layernorm"),
        },
    ),
)
