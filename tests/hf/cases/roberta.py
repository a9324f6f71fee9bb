"""RoBERTa and its kin."""

from __future__ import annotations

from tests.hf.cases import Case
from tests.hf.cases.bert import SIZES

OWN = {**SIZES, "max_position_embeddings": 44, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
CASES = {
    "roberta": Case("RobertaModel", {**OWN, "pad_token_id": 2, "type_vocab_size": 2}),
    "roberta_masked_lm": Case("RobertaForMaskedLM", {**OWN, "hidden_act": "relu"}),
    "roberta_untied": Case(
        "RobertaForMaskedLM", {**OWN, "tie_word_embeddings": False, "pad_token_id": 0}
    ),
    "roberta_sequence": Case("RobertaForSequenceClassification", {**OWN, "num_labels": 3}),
    "roberta_token": Case("RobertaForTokenClassification", {**OWN, "num_labels": 3}),
    "roberta_span": Case("RobertaForQuestionAnswering", OWN),
    "roberta_causal": Case("RobertaForCausalLM", {**OWN, "is_decoder": True}, generates=True),
    "xlm-roberta": Case("XLMRobertaModel", OWN),
    "xlm-roberta_masked_lm": Case("XLMRobertaForMaskedLM", {**OWN, "layer_norm_eps": 1e-3}),
    "camembert": Case("CamembertModel", OWN),
    "camembert_masked_lm": Case("CamembertForMaskedLM", {**OWN, "hidden_act": "gelu_new"}),
    "data2vec-text": Case("Data2VecTextModel", {**OWN, "layer_norm_eps": 1e-3}),
    "data2vec-text_sequence": Case(
        "Data2VecTextForSequenceClassification", {**OWN, "num_labels": 3}
    ),
    "roberta-prelayernorm": Case("RobertaPreLayerNormModel", OWN),
    "roberta-prelayernorm_masked_lm": Case(
        "RobertaPreLayerNormForMaskedLM", {**OWN, "hidden_act": "relu", "layer_norm_eps": 1e-3}
    ),
    "roberta-prelayernorm_causal": Case(
        "RobertaPreLayerNormForCausalLM",
        {**OWN, "is_decoder": True, "pad_token_id": 0},
        generates=True,
    ),
    "xlm-roberta-xl": Case("XLMRobertaXLModel", {**OWN, "layer_norm_eps": 1e-3}),
    "xlm-roberta-xl_masked_lm": Case(
        "XLMRobertaXLForMaskedLM", {**OWN, "hidden_act": "relu", "pad_token_id": 2}
    ),
    "xlm-roberta-xl_causal": Case(
        "XLMRobertaXLForCausalLM", {**OWN, "is_decoder": True}, generates=True
    ),
    "xlm-roberta-xl_sequence": Case(
        "XLMRobertaXLForSequenceClassification", {**OWN, "num_labels": 3}
    ),
}
