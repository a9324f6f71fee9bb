"""EuroBERT."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.llama import SIZES as LLAMA

SIZES = {**LLAMA, "pad_token_id": 1}
CLASSIFIER = {**SIZES, "num_labels": 3}
CASES = {
    "eurobert": Case("EuroBertModel", {**SIZES, "rms_norm_eps": 1e-3}),
    "eurobert_masked_lm": Case("EuroBertForMaskedLM", {**SIZES, "tie_word_embeddings": True}),
    "eurobert_biased": Case(
        "EuroBertForMaskedLM",
        {
            **SIZES,
            "num_key_value_heads": 4,
            "head_dim": 6,
            "hidden_act": "gelu",
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0},
        },
    ),
    "eurobert_sequence": Case("EuroBertForSequenceClassification", CLASSIFIER),
    "eurobert_first": Case(
        "EuroBertForSequenceClassification", {**CLASSIFIER, "classifier_pooling": "bos"}
    ),
    "eurobert_mean": Case(
        "EuroBertForSequenceClassification", {**CLASSIFIER, "classifier_pooling": "mean"}
    ),
    "eurobert_token": Case("EuroBertForTokenClassification", CLASSIFIER),
}
