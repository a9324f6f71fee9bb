"""OPT."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 24,
    "max_position_embeddings": 40,
}
POST = {**SIZES, "do_layer_norm_before": False}
CASES = {
    "opt": Case("OPTForCausalLM", SIZES, generates=True),
    # As the one of 350 million parameters.
    "opt_post": Case("OPTForCausalLM", {**POST, "word_embed_proj_dim": 12}, generates=True),
    "opt_plain": Case(
        "OPTForCausalLM",
        {
            **SIZES,
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
            "word_embed_proj_dim": 20,
            "activation_function": "gelu",
            "tie_word_embeddings": False,
        },
        generates=True,
    ),
    "opt_body": Case("OPTModel", {**SIZES, "word_embed_proj_dim": 12}),
    "opt_sequence": Case(
        "OPTForSequenceClassification", {**POST, "word_embed_proj_dim": 12, "num_labels": 3}
    ),
}
