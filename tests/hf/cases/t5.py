"""T5, its multilingual kin and their encoders."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 4,
    # Lengths reach past the last bucket.
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}
GATED = {**SIZES, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 1}
CASES = {
    "t5": Case("T5ForConditionalGeneration", SIZES, takes="pairs", generates=True),
    "t5_untied": Case(
        "T5ForConditionalGeneration",
        {**GATED, "tie_word_embeddings": False},
        takes="pairs",
        generates=True,
        untied="lm_head.weight",
    ),
    "t5_unscaled": Case(
        "T5ForConditionalGeneration",
        {**SIZES, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-3},
        takes="pairs",
        generates=True,
    ),
    "t5_body": Case(
        "T5Model",
        {**SIZES, "feed_forward_proj": "gated-silu", "relative_attention_max_distance": 128},
        takes="pairs",
    ),
    "t5_encoder": Case("T5EncoderModel", {**SIZES, "feed_forward_proj": "gelu"}),
    "t5_encoder_token": Case("T5ForTokenClassification", {**GATED, "num_labels": 3}),
    "mt5": Case(
        "MT5ForConditionalGeneration",
        GATED,
        takes="pairs",
        generates=True,
        untied="lm_head.weight",
    ),
    "mt5_tied": Case("MT5ForConditionalGeneration", SIZES, takes="pairs", generates=True),
    "mt5_encoder": Case("MT5EncoderModel", GATED),
    "umt5": Case("UMT5ForConditionalGeneration", GATED, takes="pairs", generates=True),
    "umt5_untied": Case(
        "UMT5ForConditionalGeneration",
        {**SIZES, "tie_word_embeddings": False},
        takes="pairs",
        untied="lm_head.weight",
    ),
    "umt5_encoder": Case("UMT5EncoderModel", SIZES),
}
