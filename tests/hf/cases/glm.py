"""GLM 4 in its two forms."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES as LLAMA

SIZES = {**LLAMA, "head_dim": 8, "pad_token_id": 1}
CHANGED = {
    **SIZES,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-2,
    "hidden_act": "gelu",
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 100.0,
        "partial_rotary_factor": 0.75,
    },
}
CASES = {
    "glm": Case("GlmForCausalLM", SIZES, generates=True),
    "glm_changed": Case("GlmForCausalLM", CHANGED, generates=True),
    "glm_token": Case("GlmForTokenClassification", {**SIZES, "num_labels": 3}),
    "glm4": Case("Glm4ForCausalLM", SIZES, generates=True),
    "glm4_changed": Case("Glm4ForCausalLM", CHANGED, generates=True),
    "glm4_body": Case("Glm4Model", SIZES),
}
