"""LLaMA: pre-norm decoders with RMSNorm, rotary positions, grouped heads and a gated MLP.

Most decoders since are its kin: what they share stands here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zoo.hf.family import Family
from zoo.hf.keys import Key
from zoo.hf.rotary import rotary
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import Map, linear, norm, tensor
from zoo.models.config import Head

LAYER = "layers.{}"

# Attention and MLP.
BRANCHES = {
    **linear("self_attention/branch/q", f"{LAYER}.self_attn.q_proj"),
    **linear("self_attention/branch/k", f"{LAYER}.self_attn.k_proj"),
    **linear("self_attention/branch/v", f"{LAYER}.self_attn.v_proj"),
    **linear("self_attention/branch/o", f"{LAYER}.self_attn.o_proj"),
    **linear("mlp/branch/gate", f"{LAYER}.mlp.gate_proj"),
    **linear("mlp/branch/w1", f"{LAYER}.mlp.up_proj"),
    **linear("mlp/branch/w2", f"{LAYER}.mlp.down_proj"),
}
# The norms, where they stand in front of the branches.
NORMS = {
    **norm("self_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
    **norm("mlp/residual/norm_in", f"{LAYER}.post_attention_layernorm"),
}
ENDS = {**tensor("embedding/tokens", "embed_tokens.weight"), **norm("final_norm", "norm")}
FIELDS = {
    "architecture": "decoder",
    "variant": "pre_norm",
    "norm": "rms_norm",
    "embedding_norm": False,
    "final_norm": True,
    "embedding_scale": False,
    "positions": "rotary",
    "gated": True,
    "bias": False,
    "init": "normal",
}
_SIZES = (
    Key("vocab_size", "vocab_size", 32000),
    Key("hidden_size", "d_model", 4096),
    Key("intermediate_size", "d_ff", 11008),
    Key("num_hidden_layers", "num_layers", 32),
    Key("num_attention_heads", "num_heads", 32),
    Key("num_key_value_heads", "num_kv_heads", None),
    Key("head_dim", "head_dim", None),
    Key("hidden_act", "activation", "silu", ACTIVATIONS),
    Key("max_position_embeddings", "max_length", 2048),
    Key("initializer_range", "init_std", 0.02),
    Key("rms_norm_eps", "norm_eps", 1e-6),
    Key("tie_word_embeddings", "tie_embeddings", False),
    Key("attention_dropout", "attention_dropout", 0.0),
)
BIASES = (
    Key("attention_bias", "attention_bias", False, {False: "none", True: "all"}),
    Key("mlp_bias", "mlp_bias", False),
)
HEADS: dict[Any, Map] = {
    "language_model": linear("head", "lm_head"),
    "sequence_classification": linear("head/linear", "score"),
    "token_classification": linear("head/linear", "score"),
}
# The last token of a sequence is scored: there it is the last that is no padding token, here the
# last that the mask shows.
HEAD_FIELDS: dict[Head, dict[str, Any]] = {"sequence_classification": {"classifier_bias": False}}
_ENDINGS: dict[str, Head] = {
    "ForCausalLM": "language_model",
    "Model": "none",
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
}
TIED = {"lm_head.weight": "embed_tokens.weight"}
# Buffers that old files carry.
IGNORED = ("layers.{}.self_attn.rotary_emb.inv_freq",)
# Which cache generation makes, and the dropout of a classifier.
IGNORED_KEYS = ("cache_implementation", "classifier_dropout")


def sizes(names: Mapping[str, str] = MappingProxyType({}), /, **defaults: Any) -> tuple[Key, ...]:
    """The keys of LLaMA's kin.

    Args:
        names: LLaMA's name of a key -> the family's own.
        defaults: what a missing key means where that differs, by LLaMA's name.
    """
    usual = defaults.get("hidden_act", "silu")
    # Of words that mean the same the family's own is written.
    values = {"activation": {usual: ACTIVATIONS[usual]} | ACTIVATIONS}
    return tuple(
        dataclasses.replace(
            key,
            name=names.get(key.name, key.name),
            default=defaults.get(key.name, key.default),
            values=values.get(key.field),
        )
        for key in _SIZES
    )


def parallel(weights: Map) -> Map:
    """The places of layers whose attention and MLP read one norm and are added together."""
    places = {
        "self_attention/branch": "parallel/branch/attention",
        # The norm is the one that would be attention's.
        "self_attention/residual": "parallel/residual",
        "mlp/branch": "parallel/branch/mlp",
    }
    return {
        place.replace(before, after, 1): each
        for place, each in weights.items()
        for before, after in places.items()
        if place.startswith(before)
    }


def classes(name: str, *left_out: str) -> dict[str, Head]:
    """The classes of a family whose names begin so, without those that end so."""
    return {f"{name}{end}": head for end, head in _ENDINGS.items() if end not in left_out}


def decoder(name: str, **own: Any) -> Family:
    """A family of LLaMA's kin: its classes, keys and weights, and what differs beside them."""
    shared: dict[str, Any] = {
        "fields": FIELDS,
        "ignored_keys": IGNORED_KEYS,
        "prefix": "model.",
        "heads": HEADS,
        "head_fields": HEAD_FIELDS,
        "tied": TIED,
    }
    return Family(name, **shared | own)


FAMILIES = (
    decoder(
        name="llama",
        classes=classes("Llama"),
        keys=(*sizes(), rotary(theta=10000.0), *BIASES),
        weights={**ENDS, **BRANCHES, **NORMS},
        ignored=IGNORED,
    ),
)
