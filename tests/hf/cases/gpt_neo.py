"""GPT-Neo and GPT-BigCode."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case
from tests.hf.cases.gpt2 import SIZES as GPT2

SIZES = {
    "vocab_size": VOCAB,
    "max_position_embeddings": 40,
    "hidden_size": 16,
    "num_layers": 4,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 3,
    "pad_token_id": 1,
}
BIGCODE = {**GPT2, "pad_token_id": 1}
CASES = {
    "gpt_neo": Case("GPTNeoForCausalLM", SIZES, generates=True),
    "gpt_neo_full": Case(
        "GPTNeoForCausalLM",
        {
            **SIZES,
            "num_layers": 2,
            "attention_types": [[["global"], 2]],
            "window_size": 256,
            "intermediate_size": 20,
            "activation_function": "relu",
            "layer_norm_epsilon": 1e-2,
            "tie_word_embeddings": False,
        },
        generates=True,
    ),
    "gpt_neo_sequence": Case("GPTNeoForSequenceClassification", {**SIZES, "num_labels": 3}),
    "gpt_bigcode": Case("GPTBigCodeForCausalLM", BIGCODE, generates=True),
    "gpt_bigcode_token": Case(
        "GPTBigCodeForTokenClassification", {**BIGCODE, "n_inner": 20, "num_labels": 3}
    ),
}
