"""Phi and Phi 3."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES as LLAMA

SIZES = {**LLAMA, "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 1}
CASES = {
    "phi": Case("PhiForCausalLM", SIZES, generates=True),
    "phi_normed": Case(
        "PhiForCausalLM",
        {
            **SIZES,
            "qk_layernorm": True,
            "layer_norm_eps": 1e-2,
            "hidden_act": "relu",
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 100.0,
                "partial_rotary_factor": 0.75,
            },
        },
        generates=True,
    ),
    "phi_sequence": Case("PhiForSequenceClassification", {**SIZES, "num_labels": 3}),
    "phi3": Case("Phi3ForCausalLM", {**SIZES, "sliding_window": 3}, generates=True),
    "phi3_tied": Case(
        "Phi3ForCausalLM",
        {
            **SIZES,
            "tie_word_embeddings": True,
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 100.0,
                "partial_rotary_factor": 0.5,
            },
        },
        generates=True,
    ),
    "phi3_token": Case("Phi3ForTokenClassification", {**SIZES, "num_labels": 3}),
}
