"""GPT-NeoX and Persimmon."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
NEOX = {**SIZES, "use_parallel_residual": False}
CASES = {
    "gpt_neox": Case("GPTNeoXForCausalLM", SIZES, generates=True),
    "gpt_neox_body": Case(
        "GPTNeoXModel", {**SIZES, "attention_bias": False, "layer_norm_eps": 1e-2}
    ),
    "gpt_neox_unbiased": Case(
        "GPTNeoXForCausalLM",
        {
            **NEOX,
            "attention_bias": False,
            "tie_word_embeddings": True,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-2,
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 2.0,
                "rope_theta": 50.0,
                "partial_rotary_factor": 0.5,
            },
        },
        generates=True,
    ),
    "gpt_neox_token": Case("GPTNeoXForTokenClassification", {**SIZES, "num_labels": 3}),
    "gpt_neox_sequence": Case("GPTNeoXForSequenceClassification", {**NEOX, "num_labels": 3}),
    "persimmon": Case("PersimmonForCausalLM", SIZES, generates=True),
    "persimmon_plain": Case("PersimmonModel", {**SIZES, "qk_layernorm": False}),
}
