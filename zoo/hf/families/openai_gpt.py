"""GPT (Radford et al., 2018): a post-norm decoder without norms at its ends."""

from __future__ import annotations

from zoo.hf.family import Family
from zoo.hf.keys import Key
from zoo.hf.weights import conv1d, linear, norm, tensor

_LAYER = "h.{}"
# What is called gelu there is the approximation by tanh.
_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}

FAMILIES = (
    Family(
        name="openai-gpt",
        classes={
            "OpenAIGPTLMHeadModel": "language_model",
            "OpenAIGPTModel": "none",
            "OpenAIGPTForSequenceClassification": "sequence_classification",
        },
        fields={
            "architecture": "decoder",
            "variant": "post_norm",
            "norm": "layer_norm",
            "norm_bias": True,
            "embedding_norm": False,
            "final_norm": False,
            "embedding_scale": False,
            "positions": "learned",
            "bias": True,
            "init": "normal",
        },
        keys=(
            Key("vocab_size", "vocab_size", 40478),
            Key("n_positions", "max_length", 512),
            Key("n_embd", "d_model", 768),
            Key("n_layer", "num_layers", 12),
            Key("n_head", "num_heads", 12),
            Key("afn", "activation", "gelu", _ACTIVATIONS),
            Key("resid_pdrop", "dropout", 0.1),
            Key("embd_pdrop", "embedding_dropout", 0.1),
            Key("attn_pdrop", "attention_dropout", 0.1),
            Key("layer_norm_epsilon", "norm_eps", 1e-5),
            Key("initializer_range", "init_std", 0.02),
            Key("tie_word_embeddings", "tie_embeddings", True),
        ),
        # `n_ctx` is n_positions' old name; special tokens were rows of the table once.
        ignored_keys=(
            "n_ctx",
            "n_special",
            "predict_special_tokens",
            "summary_type",
            "summary_use_proj",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_first_dropout",
        ),
        prefix="transformer.",
        weights={
            **tensor("embedding/tokens", "tokens_embed.weight"),
            **tensor("embedding/table", "positions_embed.weight"),
            **conv1d("self_attention/branch/q", f"{_LAYER}.attn.c_attn", part=0),
            **conv1d("self_attention/branch/k", f"{_LAYER}.attn.c_attn", part=1),
            **conv1d("self_attention/branch/v", f"{_LAYER}.attn.c_attn", part=2),
            **conv1d("self_attention/branch/o", f"{_LAYER}.attn.c_proj"),
            **norm("self_attention/residual/norm_out", f"{_LAYER}.ln_1"),
            **conv1d("mlp/branch/w1", f"{_LAYER}.mlp.c_fc"),
            **conv1d("mlp/branch/w2", f"{_LAYER}.mlp.c_proj"),
            **norm("mlp/residual/norm_out", f"{_LAYER}.ln_2"),
        },
        heads={
            "language_model": linear("head", "lm_head"),
            "sequence_classification": linear("head/linear", "score"),
        },
        head_fields={"sequence_classification": {"classifier_bias": False}},
        # Causal masks that old files carry.
        ignored=("h.{}.attn.bias",),
        tied={"lm_head.weight": "tokens_embed.weight"},
    ),
)
