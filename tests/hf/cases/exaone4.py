"""EXAONE 4.0."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES

CASES = {
    "exaone4": Case(
        "Exaone4ForCausalLM",
        {**SIZES, "num_hidden_layers": 5, "sliding_window": 3},
        generates=True,
    ),
    # Without windows all layers have positions.
    "exaone4_full": Case(
        "Exaone4ForCausalLM",
        {
            **SIZES,
            "sliding_window": None,
            "layer_types": ["full_attention"] * 2,
            "head_dim": 6,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-2,
        },
        generates=True,
    ),
    "exaone4_body": Case(
        "Exaone4Model",
        {
            **SIZES,
            "sliding_window": 4,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 30.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 20,
            },
        },
    ),
    "exaone4_sequence": Case(
        "Exaone4ForSequenceClassification",
        {**SIZES, "sliding_window": 2, "num_labels": 3, "pad_token_id": 1},
    ),
}
