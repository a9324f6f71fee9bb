"""MPNet."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
CASES = {
    "mpnet": Case("MPNetModel", {**SIZES, "layer_norm_eps": 1e-3}),
    "mpnet_masked_lm": Case("MPNetForMaskedLM", {**SIZES, "hidden_act": "relu"}),
    "mpnet_untied": Case("MPNetForMaskedLM", {**SIZES, "tie_word_embeddings": False}),
    "mpnet_sequence": Case("MPNetForSequenceClassification", {**SIZES, "num_labels": 3}),
    "mpnet_token": Case("MPNetForTokenClassification", {**SIZES, "num_labels": 3}),
    "mpnet_span": Case("MPNetForQuestionAnswering", SIZES),
}
