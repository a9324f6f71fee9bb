"""BioGPT."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.bert import SIZES as BERT

SIZES = {**BERT, "max_position_embeddings": 40}
CASES = {
    "biogpt": Case("BioGptForCausalLM", {**SIZES, "layer_norm_eps": 1e-3}, generates=True),
    "biogpt_untied": Case(
        "BioGptForCausalLM",
        {
            **SIZES,
            "scale_embedding": False,
            "hidden_act": "relu",
            "tie_word_embeddings": False,
        },
        generates=True,
    ),
    "biogpt_body": Case("BioGptModel", SIZES),
    "biogpt_sequence": Case("BioGptForSequenceClassification", {**SIZES, "num_labels": 3}),
    "biogpt_token": Case("BioGptForTokenClassification", {**SIZES, "num_labels": 3}),
}
