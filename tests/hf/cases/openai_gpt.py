"""GPT."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {"vocab_size": VOCAB, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 4}
CASES = {
    "openai-gpt": Case("OpenAIGPTLMHeadModel", SIZES, generates=True),
    "openai-gpt_untied": Case(
        "OpenAIGPTLMHeadModel",
        {**SIZES, "afn": "relu", "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False},
        generates=True,
    ),
    "openai-gpt_body": Case("OpenAIGPTModel", {**SIZES, "afn": "swish"}),
    "openai-gpt_sequence": Case(
        "OpenAIGPTForSequenceClassification", {**SIZES, "num_labels": 3, "pad_token_id": 1}
    ),
}
