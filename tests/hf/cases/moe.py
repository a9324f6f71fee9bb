"""Further models with experts: Mixtral, OLMoE, FlexOlmo and Qwen 3's mixture."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES

CASES = {
    "mixtral_window": Case(
        "MixtralForCausalLM", {**SIZES, "num_local_experts": 4, "sliding_window": 3}, generates=True
    ),
    "mixtral_single": Case(
        "MixtralForCausalLM",
        {
            **SIZES,
            "num_local_experts": 1,
            "num_experts_per_tok": 1,
            "head_dim": 6,
            "hidden_act": "gelu",
            "tie_word_embeddings": True,
        },
    ),
    "mixtral_sequence": Case(
        "MixtralForSequenceClassification",
        {**SIZES, "num_local_experts": 3, "num_labels": 3, "pad_token_id": 1},
    ),
    "olmoe": Case(
        "OlmoeForCausalLM",
        {**SIZES, "num_experts": 6, "num_experts_per_tok": 3, "pad_token_id": None},
    ),
    "olmoe_biased": Case(
        "OlmoeModel",
        {
            **SIZES,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "attention_bias": True,
        },
    ),
    "flex_olmo": Case(
        "FlexOlmoForCausalLM",
        {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": None},
        generates=True,
    ),
    "flex_olmo_biased": Case(
        "FlexOlmoForCausalLM",
        {
            **SIZES,
            "num_experts": 3,
            "num_experts_per_tok": 3,
            "norm_topk_prob": True,
            "attention_bias": True,
            "pad_token_id": None,
        },
    ),
    "qwen3_moe": Case(
        "Qwen3MoeForCausalLM",
        {**SIZES, "moe_intermediate_size": 12, "num_experts": 6, "num_experts_per_tok": 3},
        generates=True,
    ),
    "qwen3_moe_windows": Case(
        "Qwen3MoeForCausalLM",
        {
            **SIZES,
            "moe_intermediate_size": 12,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "head_dim": 6,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 3,
        },
    ),
}
