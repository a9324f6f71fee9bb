"""StableLM 2 and StarCoder 2."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES as LLAMA

SIZES = {**LLAMA, "hidden_size": 32, "pad_token_id": 1}
CASES = {
    "stablelm": Case("StableLmForCausalLM", SIZES, generates=True),
    "stablelm_parallel": Case(
        "StableLmForCausalLM",
        {
            **SIZES,
            "use_parallel_residual": True,
            "use_qkv_bias": True,
            "tie_word_embeddings": True,
            "layer_norm_eps": 1e-2,
        },
        generates=True,
    ),
    "stablelm_token": Case("StableLmForTokenClassification", {**SIZES, "num_labels": 3}),
    "starcoder2": Case("Starcoder2ForCausalLM", {**SIZES, "sliding_window": 3}, generates=True),
    "starcoder2_unbiased": Case(
        "Starcoder2ForCausalLM",
        {**SIZES, "use_bias": False, "tie_word_embeddings": False, "norm_epsilon": 1e-2},
        generates=True,
    ),
}
