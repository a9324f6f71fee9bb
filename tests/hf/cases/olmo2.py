"""OLMo 2 and OLMo 3."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES

CASES = {
    "olmo2": Case("Olmo2ForCausalLM", {**SIZES, "num_key_value_heads": 2}, generates=True),
    "olmo2_biased": Case(
        "Olmo2ForCausalLM",
        {
            **SIZES,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-2,
            "hidden_act": "gelu",
            "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0},
        },
        generates=True,
    ),
    "olmo2_body": Case("Olmo2Model", SIZES),
    "olmo2_sequence": Case(
        "Olmo2ForSequenceClassification", {**SIZES, "num_labels": 3, "pad_token_id": 1}
    ),
    "olmo3": Case(
        "Olmo3ForCausalLM",
        {**SIZES, "num_hidden_layers": 5, "sliding_window": 3},
        generates=True,
    ),
    # Scaled in full layers alone.
    "olmo3_yarn": Case(
        "Olmo3ForCausalLM",
        {
            **SIZES,
            "num_hidden_layers": 4,
            "head_dim": 8,
            "sliding_window": 4,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "max_position_embeddings": 64,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "yarn",
                    "rope_theta": 100.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 16,
                    "beta_fast": 2.0,
                    "beta_slow": 0.5,
                    "attention_factor": 1.3,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
        generates=True,
    ),
    "olmo3_full": Case(
        "Olmo3Model", {**SIZES, "layer_types": ["full_attention"] * 2, "attention_bias": True}
    ),
}
