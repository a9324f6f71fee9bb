"""ALBERT."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.bert import SIZES as BERT

SIZES = {**BERT, "embedding_size": 12, "num_hidden_layers": 3}
CASES = {
    "albert": Case("AlbertModel", {**SIZES, "layer_norm_eps": 1e-3}),
    "albert_groups": Case("AlbertModel", {**SIZES, "num_hidden_layers": 4, "num_hidden_groups": 2}),
    "albert_masked_lm": Case("AlbertForMaskedLM", {**SIZES, "hidden_act": "relu"}),
    # A projection from a width to itself.
    "albert_untied": Case(
        "AlbertForMaskedLM",
        {**SIZES, "num_hidden_groups": 3, "embedding_size": 16, "tie_word_embeddings": False},
    ),
    "albert_sequence": Case("AlbertForSequenceClassification", {**SIZES, "num_labels": 3}),
    "albert_token": Case("AlbertForTokenClassification", {**SIZES, "num_labels": 3}),
    "albert_span": Case("AlbertForQuestionAnswering", SIZES),
}
