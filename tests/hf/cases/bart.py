"""BART and its kin; M2M-100."""

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
    "forced_eos_token_id": None,
}
CASES = {
    "bart": Case(
        "BartForConditionalGeneration",
        {**SIZES, "scale_embedding": True, "encoder_layers": 1},
        takes="pairs",
        generates=True,
    ),
    "bart_untied": Case(
        "BartForConditionalGeneration",
        {**SIZES, "tie_word_embeddings": False, "activation_function": "relu"},
        takes="pairs",
        generates=True,
    ),
    "bart_body": Case("BartModel", {**SIZES, "decoder_layers": 1}, takes="pairs"),
    "mbart": Case("MBartForConditionalGeneration", SIZES, takes="pairs", generates=True),
    "mbart_untied": Case(
        "MBartForConditionalGeneration",
        {
            **SIZES,
            "tie_word_embeddings": False,
            "scale_embedding": True,
            "activation_function": "gelu_new",
            "decoder_start_token_id": 7,
        },
        takes="pairs",
        generates=True,
    ),
    "mbart_body": Case("MBartModel", SIZES, takes="pairs"),
    "plbart": Case("PLBartForConditionalGeneration", SIZES, takes="pairs", generates=True),
    "plbart_unscaled": Case(
        "PLBartForConditionalGeneration", {**SIZES, "scale_embedding": False}, takes="pairs"
    ),
    "blenderbot": Case(
        "BlenderbotForConditionalGeneration",
        {**SIZES, "decoder_layers": 3, "encoder_no_repeat_ngram_size": 0},
        takes="pairs",
        generates=True,
    ),
    "blenderbot_body": Case("BlenderbotModel", {**SIZES, "scale_embedding": True}, takes="pairs"),
    "blenderbot-small": Case(
        "BlenderbotSmallForConditionalGeneration",
        {**SIZES, "encoder_layers": 3, "scale_embedding": True},
        takes="pairs",
        generates=True,
    ),
    "blenderbot-small_untied": Case(
        "BlenderbotSmallForConditionalGeneration",
        {
            **SIZES,
            "decoder_layers": 3,
            "tie_word_embeddings": False,
            "activation_function": "relu",
            "decoder_start_token_id": 7,
        },
        takes="pairs",
        generates=True,
    ),
    "blenderbot-small_body": Case(
        "BlenderbotSmallModel", {**SIZES, "activation_function": "gelu_new"}, takes="pairs"
    ),
    "pegasus": Case(
        "PegasusForConditionalGeneration",
        {**SIZES, "scale_embedding": True, "activation_function": "relu"},
        takes="pairs",
        generates=True,
    ),
    "pegasus_body": Case("PegasusModel", SIZES, takes="pairs"),
    "m2m_100": Case("M2M100ForConditionalGeneration", SIZES, takes="pairs", generates=True),
    "m2m_100_untied": Case(
        "M2M100ForConditionalGeneration",
        {
            **SIZES,
            "tie_word_embeddings": False,
            "activation_function": "gelu",
            "decoder_layers": 1,
            "decoder_start_token_id": 7,
            "pad_token_id": 3,
        },
        takes="pairs",
        generates=True,
    ),
    # A translation begins with the token of its language.
    "m2m_100_language": Case(
        "M2M100ForConditionalGeneration",
        {**SIZES, "encoder_layers": 3, "scale_embedding": False, "pad_token_id": 0},
        takes="pairs",
        generates=True,
        generation={"forced_bos_token_id": 11},
    ),
    "m2m_100_body": Case("M2M100Model", SIZES, takes="pairs"),
}
