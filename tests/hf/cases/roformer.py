"""RoFormer."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.bert import SIZES

CASES = {
    "roformer": Case("RoFormerModel", {**SIZES, "layer_norm_eps": 1e-3, "type_vocab_size": 3}),
    # A narrow embedding, which the head's table is as wide as.
    "roformer_masked_lm": Case(
        "RoFormerForMaskedLM", {**SIZES, "embedding_size": 12, "hidden_act": "relu"}
    ),
    "roformer_untied": Case(
        "RoFormerForMaskedLM",
        {**SIZES, "num_attention_heads": 2, "tie_word_embeddings": False, "pad_token_id": 2},
    ),
    # Whose dense layer has the activation of the MLPs.
    "roformer_sequence": Case(
        "RoFormerForSequenceClassification", {**SIZES, "hidden_act": "relu", "num_labels": 3}
    ),
    "roformer_token": Case("RoFormerForTokenClassification", {**SIZES, "num_labels": 3}),
    "roformer_span": Case("RoFormerForQuestionAnswering", SIZES),
    "roformer_causal": Case(
        "RoFormerForCausalLM",
        {**SIZES, "is_decoder": True, "max_position_embeddings": 40},
        generates=True,
    ),
}
