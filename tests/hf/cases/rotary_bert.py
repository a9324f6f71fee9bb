"""BERT's kin with rotary positions."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.bert import SIZES

YARN = {
    "rope_type": "yarn",
    "rope_theta": 30.0,
    "factor": 4.0,
    "original_max_position_embeddings": 6,
}
CASES = {
    "nomic_bert": Case("NomicBertModel", {**SIZES, "layer_norm_eps": 1e-3}),
    "nomic_bert_masked_lm": Case(
        "NomicBertForMaskedLM",
        {
            **SIZES,
            "head_dim": 6,
            "hidden_act": "gelu_new",
            "rope_parameters": {"rope_type": "default", "rope_theta": 30.0},
        },
    ),
    "nomic_bert_untied": Case(
        "NomicBertForMaskedLM",
        {**SIZES, "tie_word_embeddings": False, "type_vocab_size": 3, "rope_parameters": YARN},
    ),
    "nomic_bert_sequence": Case("NomicBertForSequenceClassification", {**SIZES, "num_labels": 3}),
    "nomic_bert_token": Case("NomicBertForTokenClassification", {**SIZES, "num_labels": 3}),
    "gte": Case("GteModel", {**SIZES, "layer_norm_eps": 1e-3, "type_vocab_size": 2}),
    "gte_masked_lm": Case(
        "GteForMaskedLM",
        {
            **SIZES,
            "head_dim": 6,
            "hidden_act": "relu",
            "type_vocab_size": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 30.0},
        },
    ),
    "gte_untied": Case(
        "GteForMaskedLM", {**SIZES, "tie_word_embeddings": False, "rope_parameters": YARN}
    ),
    "gte_sequence": Case("GteForSequenceClassification", {**SIZES, "num_labels": 3}),
    "jina_embeddings_v3": Case(
        "JinaEmbeddingsV3Model", {**SIZES, "layer_norm_eps": 1e-3, "type_vocab_size": 2}
    ),
    "jina_embeddings_v3_masked_lm": Case(
        "JinaEmbeddingsV3ForMaskedLM",
        {
            **SIZES,
            "head_dim": 6,
            "hidden_act": "relu",
            "rope_parameters": {"rope_type": "default", "rope_theta": 30.0},
        },
    ),
    "jina_embeddings_v3_untied": Case(
        "JinaEmbeddingsV3ForMaskedLM",
        {**SIZES, "tie_word_embeddings": False, "rope_parameters": YARN},
    ),
    "jina_embeddings_v3_sequence": Case(
        "JinaEmbeddingsV3ForSequenceClassification", {**SIZES, "num_labels": 3}
    ),
    "jina_embeddings_v3_span": Case("JinaEmbeddingsV3ForQuestionAnswering", SIZES),
}
