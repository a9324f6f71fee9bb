"""OPT (2205.01068): decoders whose norms stand in front of the branches, but in the 350m behind."""

from __future__ import annotations

from zoo.hf.families.electra import embedding_width
from zoo.hf.family import Family
from zoo.hf.keys import Fixed, Key, Rule
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import Map, linear, norm, tensor

_LAYER = "decoder.layers.{}"


def _norms(kind: str, name: str) -> Map:
    """In front of a branch or behind it, under the same name."""
    return norm(f"{kind}/residual/norm_in", name) | norm(f"{kind}/residual/norm_out", name)


# With the norms in front there is one at the end.
_PLACEMENT = (
    Key("do_layer_norm_before", "variant", True, {True: "pre_norm", False: "post_norm"}),
    Rule(
        {"do_layer_norm_before": True},
        lambda theirs: {"final_norm": theirs["do_layer_norm_before"]},
        lambda ours: {},
    ),
    Fixed("_remove_final_layer_norm", False),
)

FAMILIES = (
    Family(
        name="opt",
        classes={
            "OPTForCausalLM": "language_model",
            "OPTModel": "none",
            "OPTForSequenceClassification": "sequence_classification",
        },
        fields={
            "architecture": "decoder",
            "norm": "layer_norm",
            "norm_eps": 1e-5,
            "norm_bias": True,
            "embedding_norm": False,
            "embedding_scale": False,
            "positions": "learned",
            # Tokens that the mask hides stand at 1, the first one at 2.
            "position_offset": 2,
            "count_positions": "seen",
            "init": "normal",
        },
        keys=(
            Key("vocab_size", "vocab_size", 50272),
            Key("hidden_size", "d_model", 768),
            Key("num_hidden_layers", "num_layers", 12),
            Key("num_attention_heads", "num_heads", 12),
            Key("ffn_dim", "d_ff", 3072),
            Key("max_position_embeddings", "max_length", 2048),
            *_PLACEMENT,
            embedding_width("word_embed_proj_dim", None, "tokens", width=768),
            Key("activation_function", "activation", "relu", ACTIVATIONS),
            Key("enable_bias", "bias", True),
            Key("layer_norm_elementwise_affine", "norm_affine", True),
            Key("dropout", "dropout", 0.1),
            Key("attention_dropout", "attention_dropout", 0.0),
            Key("init_std", "init_std", 0.02),
            Key("tie_word_embeddings", "tie_embeddings", True),
        ),
        ignored_keys=("layerdrop", "activation_dropout"),
        prefix="model.",
        weights={
            **tensor("embedding/tokens", "decoder.embed_tokens.weight"),
            **tensor("embedding/table", "decoder.embed_positions.weight"),
            **linear("embedding/project", "decoder.project_in"),
            **linear("self_attention/branch/q", f"{_LAYER}.self_attn.q_proj"),
            **linear("self_attention/branch/k", f"{_LAYER}.self_attn.k_proj"),
            **linear("self_attention/branch/v", f"{_LAYER}.self_attn.v_proj"),
            **linear("self_attention/branch/o", f"{_LAYER}.self_attn.out_proj"),
            **linear("mlp/branch/w1", f"{_LAYER}.fc1"),
            **linear("mlp/branch/w2", f"{_LAYER}.fc2"),
            **_norms("self_attention", f"{_LAYER}.self_attn_layer_norm"),
            **_norms("mlp", f"{_LAYER}.final_layer_norm"),
            **norm("final_norm", "decoder.final_layer_norm"),
            **linear("project_back", "decoder.project_out"),
        },
        heads={
            "language_model": linear("head", "lm_head"),
            "sequence_classification": linear("head/linear", "score"),
        },
        head_fields={"sequence_classification": {"classifier_bias": False}},
        tied={"lm_head.weight": "decoder.embed_tokens.weight"},
    ),
)
