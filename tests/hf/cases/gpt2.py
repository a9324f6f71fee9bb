"""GPT-2."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {"vocab_size": VOCAB, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 4}
CASES = {
    "gpt2": Case("GPT2LMHeadModel", SIZES, generates=True),
    "gpt2_body": Case("GPT2Model", {**SIZES, "n_inner": 20, "layer_norm_epsilon": 1e-3}),
    "gpt2_untied": Case(
        "GPT2LMHeadModel",
        {**SIZES, "activation_function": "relu", "tie_word_embeddings": False},
        generates=True,
    ),
    "gpt2_sequence": Case(
        "GPT2ForSequenceClassification", {**SIZES, "num_labels": 3, "pad_token_id": 1}
    ),
    "gpt2_token": Case("GPT2ForTokenClassification", {**SIZES, "num_labels": 3}),
}
