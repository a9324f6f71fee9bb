"""ELECTRA."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.bert import SIZES as BERT

SIZES = {**BERT, "embedding_size": 12}
CASES = {
    "electra": Case("ElectraModel", {**SIZES, "layer_norm_eps": 1e-3}),
    "electra_discriminator": Case("ElectraForPreTraining", {**SIZES, "hidden_act": "relu"}),
    "electra_masked_lm": Case("ElectraForMaskedLM", {**SIZES, "hidden_act": "relu"}),
    "electra_untied": Case(
        "ElectraForMaskedLM", {**SIZES, "embedding_size": 20, "tie_word_embeddings": False}
    ),
    # As wide as the stream, and so not projected.
    "electra_wide": Case("ElectraForPreTraining", {**SIZES, "embedding_size": 16}),
    "electra_sequence": Case("ElectraForSequenceClassification", {**SIZES, "num_labels": 3}),
    "electra_token": Case("ElectraForTokenClassification", {**SIZES, "num_labels": 3}),
    "electra_span": Case("ElectraForQuestionAnswering", SIZES),
    "electra_causal": Case(
        "ElectraForCausalLM",
        {**SIZES, "is_decoder": True, "max_position_embeddings": 40, "type_vocab_size": 3},
        generates=True,
    ),
}
