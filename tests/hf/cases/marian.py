"""Marian."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 3,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": None,
}
CASES = {
    "marian": Case(
        "MarianMTModel",
        {**SIZES, "scale_embedding": True, "activation_function": "swish", "decoder_layers": 3},
        takes="pairs",
        generates=True,
    ),
    "marian_unshared": Case(
        "MarianMTModel",
        {**SIZES, "share_encoder_decoder_embeddings": False, "activation_function": "relu"},
        takes="pairs",
        generates=True,
    ),
    "marian_untied": Case(
        "MarianMTModel", {**SIZES, "tie_word_embeddings": False}, takes="pairs", generates=True
    ),
    "marian_body": Case("MarianModel", SIZES, takes="pairs"),
}
