"""GPT-2: the pre-norm reference, with fused queries, keys and values."""

from __future__ import annotations

from typing import Any

from zoo.hf.family import Family
from zoo.hf.keys import Fixed, Key, Settings
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import Map, conv1d, linear, norm, tensor
from zoo.models.config import Head

_LAYER = "h.{}"

# What GPT-2 and its kin share.
FIELDS = {
    "architecture": "decoder",
    "variant": "pre_norm(scaled_init=True)",
    "norm": "layer_norm",
    "norm_bias": True,
    "embedding_norm": False,
    "final_norm": True,
    "embedding_scale": False,
    "positions": "learned",
    "bias": True,
    "init": "normal",
}
HEADS: dict[Any, Map] = {
    "language_model": linear("head", "lm_head"),
    "sequence_classification": linear("head/linear", "score"),
    "token_classification": linear("head/linear", "classifier"),
}
# As LLaMA's, by the last token of a sequence.
HEAD_FIELDS: dict[Head, Settings] = {"sequence_classification": {"classifier_bias": False}}
TIED = {"lm_head.weight": "wte.weight"}
IGNORED_KEYS = (
    # The longest text's old name.
    "n_ctx",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_first_dropout",
)


def classes(name: str, language_model: str) -> dict[str, Head]:
    """The classes of a family, of which that of language models ends so."""
    return {
        f"{name}{language_model}": "language_model",
        f"{name}Model": "none",
        f"{name}ForSequenceClassification": "sequence_classification",
        f"{name}ForTokenClassification": "token_classification",
    }


FAMILIES = (
    Family(
        name="gpt2",
        classes=classes("GPT2", "LMHeadModel"),
        fields=FIELDS,
        keys=(
            Key("vocab_size", "vocab_size", 50257),
            Key("n_positions", "max_length", 1024),
            Key("n_embd", "d_model", 768),
            Key("n_layer", "num_layers", 12),
            Key("n_head", "num_heads", 12),
            Key("n_inner", "d_ff", None),
            Key("activation_function", "activation", "gelu_new", ACTIVATIONS),
            Key("resid_pdrop", "dropout", 0.1),
            Key("embd_pdrop", "embedding_dropout", 0.1),
            Key("attn_pdrop", "attention_dropout", 0.1),
            Key("layer_norm_epsilon", "norm_eps", 1e-5),
            Key("initializer_range", "init_std", 0.02),
            Key("tie_word_embeddings", "tie_embeddings", True),
            Fixed("scale_attn_weights", True),
            Fixed("scale_attn_by_inverse_layer_idx", False),
            Fixed("add_cross_attention", False),
        ),
        # Attention is in float32 here always.
        ignored_keys=(*IGNORED_KEYS, "reorder_and_upcast_attn", "classifier_dropout"),
        prefix="transformer.",
        weights={
            **tensor("embedding/tokens", "wte.weight"),
            **tensor("embedding/table", "wpe.weight"),
            **norm("self_attention/residual/norm_in", f"{_LAYER}.ln_1"),
            **conv1d("self_attention/branch/q", f"{_LAYER}.attn.c_attn", part=0),
            **conv1d("self_attention/branch/k", f"{_LAYER}.attn.c_attn", part=1),
            **conv1d("self_attention/branch/v", f"{_LAYER}.attn.c_attn", part=2),
            **conv1d("self_attention/branch/o", f"{_LAYER}.attn.c_proj"),
            **norm("mlp/residual/norm_in", f"{_LAYER}.ln_2"),
            **conv1d("mlp/branch/w1", f"{_LAYER}.mlp.c_fc"),
            **conv1d("mlp/branch/w2", f"{_LAYER}.mlp.c_proj"),
            **norm("final_norm", "ln_f"),
        },
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        # Causal masks that old files carry.
        ignored=("h.{}.attn.bias", "h.{}.attn.masked_bias"),
        tied=TIED,
    ),
)
