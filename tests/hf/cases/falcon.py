"""Falcon: every shape of its layers."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
NEW = {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2}
CASES = {
    "falcon": Case("FalconForCausalLM", SIZES, generates=True),
    "falcon_new": Case(
        "FalconForCausalLM",
        {**NEW, "bias": True, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-2},
        generates=True,
    ),
    "falcon_one_norm": Case(
        "FalconForCausalLM",
        {**NEW, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 24, "activation": "relu"},
        generates=True,
    ),
    "falcon_sequential": Case(
        "FalconForTokenClassification",
        {**SIZES, "parallel_attn": False, "multi_query": False, "bias": True, "num_labels": 3},
    ),
}
