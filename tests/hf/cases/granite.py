"""Granite 3."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES

CASES = {
    "granite": Case("GraniteForCausalLM", SIZES, generates=True),
    "granite_scaled": Case(
        "GraniteForCausalLM",
        {
            **SIZES,
            "embedding_multiplier": 12,
            "residual_multiplier": 0.22,
            "logits_scaling": 4.9,
            "attention_multiplier": 0.3,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
        },
        generates=True,
    ),
    "granite_body": Case("GraniteModel", {**SIZES, "attention_multiplier": 0.5}),
}
