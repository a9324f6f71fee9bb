"""Mistral, Ministral and SmolLM 3."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES

CASES = {
    "mistral": Case("MistralForCausalLM", {**SIZES, "sliding_window": 3}, generates=True),
    "mistral_full": Case(
        "MistralForCausalLM",
        {**SIZES, "sliding_window": None, "head_dim": 6, "tie_word_embeddings": True},
        generates=True,
    ),
    # A window beyond the longest text.
    "mistral_sequence": Case(
        "MistralForSequenceClassification",
        {**SIZES, "sliding_window": 4096, "num_labels": 3, "pad_token_id": 1},
    ),
    "ministral": Case(
        "MinistralForCausalLM", {**SIZES, "head_dim": 4, "sliding_window": 2}, generates=True
    ),
    "ministral_mixed": Case(
        "MinistralModel",
        {
            **SIZES,
            "head_dim": 6,
            "num_hidden_layers": 3,
            "sliding_window": 2,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        },
    ),
    "smollm3": Case(
        "SmolLM3ForCausalLM",
        {**SIZES, "num_hidden_layers": 5, "pad_token_id": 1},
        generates=True,
    ),
    "smollm3_windows": Case(
        "SmolLM3ForCausalLM",
        {
            **SIZES,
            "num_hidden_layers": 4,
            "pad_token_id": 1,
            "no_rope_layers": [0, 1, 1, 0],
            "use_sliding_window": True,
            "sliding_window": 3,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
        generates=True,
    ),
}
