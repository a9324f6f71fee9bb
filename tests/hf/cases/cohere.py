"""Command R of Cohere in its two forms."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES as LLAMA

SIZES = {**LLAMA, "pad_token_id": 1}
CASES = {
    "cohere": Case("CohereForCausalLM", SIZES, generates=True),
    "cohere_normed": Case(
        "CohereForCausalLM",
        {
            **SIZES,
            "use_qk_norm": True,
            "attention_bias": True,
            "tie_word_embeddings": False,
            "logit_scale": 0.7,
            "layer_norm_eps": 1e-2,
        },
        generates=True,
    ),
    "cohere_body": Case("CohereModel", {**SIZES, "logit_scale": 1.0}),
    "cohere2": Case(
        "Cohere2ForCausalLM",
        {**SIZES, "num_hidden_layers": 5, "sliding_window": 3},
        generates=True,
    ),
    "cohere2_mixed": Case(
        "Cohere2Model",
        {
            **SIZES,
            "num_hidden_layers": 3,
            "sliding_window": 2,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "attention_bias": True,
        },
    ),
}
