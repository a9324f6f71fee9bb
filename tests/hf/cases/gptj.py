"""GPT-J and CodeGen."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "n_positions": 40,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "rotary_dim": 4,
    "pad_token_id": 1,
}
CASES = {
    "gptj": Case("GPTJForCausalLM", SIZES, generates=True),
    "gptj_changed": Case(
        "GPTJForCausalLM",
        {
            **SIZES,
            "n_inner": 20,
            "rotary_dim": 6,
            "activation_function": "relu",
            "layer_norm_epsilon": 1e-2,
        },
        generates=True,
    ),
    "gptj_sequence": Case("GPTJForSequenceClassification", {**SIZES, "num_labels": 3}),
    "codegen": Case("CodeGenForCausalLM", SIZES, generates=True),
    "codegen_body": Case("CodeGenModel", {**SIZES, "n_head": 8, "rotary_dim": 2}),
}
