"""GPT-J and CodeGen (2203.13474): attention and MLP read one norm and are added together; rotary
positions turn neighbouring pairs of a head's first part."""

from __future__ import annotations

import dataclasses

from zoo.hf.families.llama import FIELDS, HEAD_FIELDS, HEADS, parallel
from zoo.hf.family import Family
from zoo.hf.keys import Entry, Key, Rule, Settings, refused
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.tensors import Array
from zoo.hf.weights import Map, linear, norm, tensor
from zoo.hf.windows import whole
from zoo.models.config import ModelConfig

# CodeGen's fused matrix is cut as its training was: over so many devices.
_DEVICES = 4


def _fraction(theirs: Settings) -> Settings:
    width = whole(theirs, "n_embd") // whole(theirs, "n_head")
    turned = whole(theirs, "rotary_dim")
    if turned > width:
        raise refused("rotary_dim", turned, [f"at most {width}, the width of a head"])
    return {"rotary_fraction": turned / width}


def _turned(ours: Settings) -> Settings:
    return {"rotary_dim": int(ours["head_dim"] * ours["rotary_fraction"])}


def _divisible(theirs: Settings) -> Settings:
    if whole(theirs, "n_head") % _DEVICES:
        raise refused("n_head", theirs["n_head"], [f"a multiple of {_DEVICES}"])
    return {}


def _apart(array: Array, config: ModelConfig) -> Array:
    """Queries, values and keys of each device to all queries, all keys, all values."""
    blocks = array.reshape(_DEVICES, 3, -1, array.shape[-1])[:, [0, 2, 1]]
    return blocks.swapaxes(0, 1).reshape(array.shape)


def _together(array: Array, config: ModelConfig) -> Array:
    blocks = array.reshape(3, _DEVICES, -1, array.shape[-1])[[0, 2, 1]]
    return blocks.swapaxes(0, 1).reshape(array.shape)


def _fused() -> Map:
    fused: Map = {}
    for part, role in enumerate("qkv"):
        fused |= linear(f"self_attention/branch/{role}", "h.{}.attn.qkv_proj", part=part)
    return {
        place: dataclasses.replace(each, load=_apart, save=_together)
        for place, each in fused.items()
    }


_FIELDS = FIELDS | {
    "norm": "layer_norm",
    "norm_bias": True,
    "layout": "parallel",
    "rotary_interleaved": True,
    "gated": False,
    "attention_bias": "none",
    "mlp_bias": True,
    "head_bias": True,
}
_KEYS: tuple[Entry, ...] = (
    Key("vocab_size", "vocab_size", 50400),
    Key("n_positions", "max_length", 2048),
    Key("n_embd", "d_model", 4096),
    Key("n_layer", "num_layers", 28),
    Key("n_head", "num_heads", 16),
    Key("n_inner", "d_ff", None),
    Rule({"rotary_dim": 64}, _fraction, _turned),
    Key("activation_function", "activation", "gelu_new", ACTIVATIONS),
    Key("resid_pdrop", "dropout", 0.0),
    Key("embd_pdrop", "embedding_dropout", 0.0),
    Key("attn_pdrop", "attention_dropout", 0.0),
    Key("layer_norm_epsilon", "norm_eps", 1e-5),
    Key("initializer_range", "init_std", 0.02),
    Key("tie_word_embeddings", "tie_embeddings", False),
)
# Read by the class of before that computes with other libraries, or by none.
_IGNORED_KEYS = (
    "n_ctx",
    "rotary",
    "scale_attn_weights",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_first_dropout",
)
_ENDS = {**tensor("embedding/tokens", "wte.weight"), **norm("final_norm", "ln_f")}
_LAYER = {
    **norm("self_attention/residual/norm_in", "h.{}.ln_1"),
    **linear("self_attention/branch/o", "h.{}.attn.out_proj"),
    **linear("mlp/branch/w1", "h.{}.mlp.fc_in"),
    **linear("mlp/branch/w2", "h.{}.mlp.fc_out"),
}
_SEPARATE = {
    **linear("self_attention/branch/q", "h.{}.attn.q_proj"),
    **linear("self_attention/branch/k", "h.{}.attn.k_proj"),
    **linear("self_attention/branch/v", "h.{}.attn.v_proj"),
}
# Causal masks and tables that old files carry.
_IGNORED = ("h.{}.attn.bias", "h.{}.attn.masked_bias", "h.{}.attn.causal_mask")
_TIED = {"lm_head.weight": "wte.weight"}

FAMILIES = (
    Family(
        name="gptj",
        classes={
            "GPTJForCausalLM": "language_model",
            "GPTJModel": "none",
            "GPTJForSequenceClassification": "sequence_classification",
        },
        fields=_FIELDS,
        keys=_KEYS,
        ignored_keys=_IGNORED_KEYS,
        prefix="transformer.",
        weights={**_ENDS, **parallel({**_LAYER, **_SEPARATE})},
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        ignored=_IGNORED,
        tied=_TIED,
    ),
    Family(
        name="codegen",
        classes={"CodeGenForCausalLM": "language_model", "CodeGenModel": "none"},
        fields=_FIELDS,
        keys=(*_KEYS, Rule({}, _divisible, lambda ours: {})),
        ignored_keys=_IGNORED_KEYS,
        prefix="transformer.",
        weights={**_ENDS, **parallel({**_LAYER, **_fused()})},
        heads=HEADS,
        ignored=_IGNORED,
        tied=_TIED,
    ),
)
