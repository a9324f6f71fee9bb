"""LLaMA with one change each."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES as LLAMA

SIZES = {**LLAMA, "pad_token_id": 1}
BIASED = {**SIZES, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
CASES = {
    "olmo": Case("OlmoForCausalLM", SIZES, generates=True),
    "olmo_biased": Case(
        "OlmoForCausalLM",
        {**SIZES, "attention_bias": True, "tie_word_embeddings": True, "hidden_act": "gelu"},
        generates=True,
    ),
    "helium": Case("HeliumForCausalLM", {**SIZES, "head_dim": 4}, generates=True),
    "helium_biased": Case("HeliumModel", {**BIASED, "head_dim": 4, "rms_norm_eps": 1e-2}),
    "ernie4_5": Case("Ernie4_5ForCausalLM", {**SIZES, "head_dim": 6}, generates=True),
    "ernie4_5_biased": Case(
        "Ernie4_5ForCausalLM", {**SIZES, "use_bias": True, "tie_word_embeddings": False}
    ),
    "arcee": Case("ArceeForCausalLM", SIZES, generates=True),
    "arcee_biased": Case(
        "ArceeForTokenClassification", {**BIASED, "head_dim": 6, "hidden_act": "silu"}
    ),
    "seed_oss": Case("SeedOssForCausalLM", {**SIZES, "head_dim": 6}, generates=True),
    "seed_oss_biased": Case("SeedOssForCausalLM", {**BIASED, "attention_out_bias": True}),
    "seed_oss_out": Case(
        "SeedOssModel", {**SIZES, "attention_bias": False, "attention_out_bias": True}
    ),
    "bitnet": Case("BitNetForCausalLM", SIZES, generates=True),
    "bitnet_biased": Case(
        "BitNetModel", {**SIZES, "attention_bias": True, "hidden_act": "silu", "rms_norm_eps": 1e-2}
    ),
}
