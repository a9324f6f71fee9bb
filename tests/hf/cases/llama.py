"""LLaMA."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
}
CASES = {
    "llama": Case("LlamaForCausalLM", SIZES, generates=True),
    "llama_biased": Case(
        "LlamaForCausalLM",
        {
            **SIZES,
            "num_key_value_heads": 4,
            "head_dim": 6,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        },
        generates=True,
    ),
    # A band of frequencies that is interpolated.
    "llama_scaled": Case(
        "LlamaForCausalLM",
        {
            **SIZES,
            "num_attention_heads": 2,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 30.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 20,
            },
        },
        generates=True,
    ),
    "llama_sequence": Case(
        "LlamaForSequenceClassification", {**SIZES, "num_labels": 3, "pad_token_id": 1}
    ),
    "llama_token": Case("LlamaForTokenClassification", {**SIZES, "num_labels": 3}),
    "llama_body": Case("LlamaModel", {**SIZES, "hidden_act": "gelu"}),
}
