"""DistilBERT."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 24,
    "max_position_embeddings": 20,
}
CASES = {
    "distilbert": Case("DistilBertModel", {**SIZES, "sinusoidal_pos_embds": True}),
    "distilbert_masked_lm": Case("DistilBertForMaskedLM", {**SIZES, "activation": "relu"}),
    "distilbert_untied": Case("DistilBertForMaskedLM", {**SIZES, "tie_word_embeddings": False}),
    "distilbert_sequence": Case("DistilBertForSequenceClassification", {**SIZES, "num_labels": 3}),
    "distilbert_token": Case("DistilBertForTokenClassification", {**SIZES, "num_labels": 3}),
    "distilbert_span": Case("DistilBertForQuestionAnswering", SIZES),
}
