"""BioGPT and XGLM."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case
from tests.hf.cases.bert import SIZES as BERT

SIZES = {**BERT, "max_position_embeddings": 40}
XGLM = {
    "vocab_size": VOCAB,
    "d_model": 16,
    "num_layers": 2,
    "attention_heads": 4,
    "ffn_dim": 24,
    "max_position_embeddings": 40,
}
CASES = {
    "biogpt": Case("BioGptForCausalLM", {**SIZES, "layer_norm_eps": 1e-3}, generates=True),
    "biogpt_untied": Case(
        "BioGptForCausalLM",
        {
            **SIZES,
            "scale_embedding": False,
            "hidden_act": "relu",
            "tie_word_embeddings": False,
        },
        generates=True,
    ),
    "biogpt_body": Case("BioGptModel", SIZES),
    "biogpt_sequence": Case("BioGptForSequenceClassification", {**SIZES, "num_labels": 3}),
    "biogpt_token": Case("BioGptForTokenClassification", {**SIZES, "num_labels": 3}),
    "xglm": Case("XGLMForCausalLM", XGLM, generates=True),
    "xglm_untied": Case(
        "XGLMForCausalLM",
        {
            **XGLM,
            "scale_embedding": False,
            "activation_function": "relu",
            "tie_word_embeddings": False,
            "pad_token_id": 0,
        },
        generates=True,
    ),
    "xglm_body": Case("XGLMModel", {**XGLM, "num_layers": 3}),
}
