"""BERT for generation."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.bert import SIZES as BERT

SIZES = {**BERT, "max_position_embeddings": 40}
DECODER = {**SIZES, "is_decoder": True}
CASES = {
    "bert-generation": Case("BertGenerationEncoder", {**SIZES, "layer_norm_eps": 1e-3}),
    "bert-generation_causal": Case(
        "BertGenerationDecoder", {**DECODER, "hidden_act": "relu"}, generates=True
    ),
    "bert-generation_untied": Case(
        "BertGenerationDecoder",
        {**DECODER, "hidden_act": "gelu_new", "tie_word_embeddings": False, "pad_token_id": 3},
        generates=True,
    ),
    # The trunk sees what its config says, whatever its class is called.
    "bert-generation_body": Case("BertGenerationEncoder", DECODER),
}
