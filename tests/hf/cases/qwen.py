"""Qwen 2 and 3."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES

# More than three layers, of which the last have windows.
WINDOWS = {
    "num_hidden_layers": 4,
    "use_sliding_window": True,
    "sliding_window": 3,
    "max_window_layers": 1,
}
CASES = {
    "qwen2": Case("Qwen2ForCausalLM", SIZES, generates=True),
    "qwen2_windows": Case(
        "Qwen2ForCausalLM",
        {
            **SIZES,
            **WINDOWS,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-2,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 50.0,
                "factor": 4.0,
                "original_max_position_embeddings": 10,
            },
        },
        generates=True,
    ),
    "qwen2_token": Case("Qwen2ForTokenClassification", {**SIZES, "num_labels": 3}),
    "qwen3": Case("Qwen3ForCausalLM", {**SIZES, "head_dim": 6}, generates=True),
    "qwen3_windows": Case(
        "Qwen3ForCausalLM",
        {
            **SIZES,
            **WINDOWS,
            "head_dim": 8,
            "attention_bias": True,
            "hidden_act": "gelu",
            "tie_word_embeddings": True,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        generates=True,
    ),
    "qwen3_sequence": Case(
        "Qwen3ForSequenceClassification",
        {**SIZES, "head_dim": 6, "num_labels": 3, "pad_token_id": 1},
    ),
    "qwen3_body": Case("Qwen3Model", {**SIZES, "head_dim": 6, "num_key_value_heads": 1}),
}
