"""Gemma, Gemma 2 and 3, VaultGemma."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES as LLAMA

SIZES = {**LLAMA, "head_dim": 6}
CASES = {
    "gemma": Case("GemmaForCausalLM", SIZES, generates=True),
    "gemma_untied": Case(
        "GemmaForCausalLM",
        {
            **SIZES,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "hidden_act": "gelu",
            "num_key_value_heads": 1,
        },
    ),
    "gemma_sequence": Case(
        "GemmaForSequenceClassification", {**SIZES, "num_labels": 3, "pad_token_id": 1}
    ),
    "gemma2": Case(
        "Gemma2ForCausalLM",
        {**SIZES, "num_hidden_layers": 3, "sliding_window": 3, "query_pre_attn_scalar": 4},
        generates=True,
    ),
    # Caps that bite.
    "gemma2_capped": Case(
        "Gemma2ForCausalLM",
        {
            **SIZES,
            "sliding_window": 4,
            "layer_types": ["full_attention", "sliding_attention"],
            "attn_logit_softcapping": 0.7,
            "final_logit_softcapping": 1.5,
            "query_pre_attn_scalar": 6,
            "hidden_activation": "silu",
            "tie_word_embeddings": False,
            "rms_norm_eps": 1e-2,
        },
        generates=True,
    ),
    "gemma2_uncapped": Case(
        "Gemma2ForTokenClassification",
        {
            **SIZES,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "attention_bias": True,
            "num_labels": 3,
        },
    ),
    "gemma3_text": Case(
        "Gemma3ForCausalLM",
        {**SIZES, "num_hidden_layers": 7, "sliding_window": 3, "query_pre_attn_scalar": 9},
        generates=True,
    ),
    "gemma3_text_linear": Case(
        "Gemma3ForCausalLM",
        {
            **SIZES,
            "num_hidden_layers": 3,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "final_logit_softcapping": 2.0,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 100.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
            },
        },
        generates=True,
    ),
    "gemma3_text_body": Case("Gemma3TextModel", {**SIZES, "sliding_window": 2}),
    "vaultgemma": Case(
        "VaultGemmaForCausalLM",
        {**SIZES, "sliding_window": 3, "attn_logit_softcapping": 0.5},
        generates=True,
    ),
    "vaultgemma_body": Case("VaultGemmaModel", {**SIZES, "sliding_window": 30}),
}
