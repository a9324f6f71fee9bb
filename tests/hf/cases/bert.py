"""BERT."""

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
REMBERT = {**SIZES, "input_embedding_size": 12, "output_embedding_size": 20}
CASES = {
    "bert": Case("BertModel", {**SIZES, "layer_norm_eps": 1e-3, "type_vocab_size": 2}),
    "bert_masked_lm": Case("BertForMaskedLM", {**SIZES, "type_vocab_size": 3}),
    "bert_untied": Case(
        "BertForMaskedLM", {**SIZES, "hidden_act": "gelu_new", "tie_word_embeddings": False}
    ),
    "bert_sequence": Case(
        "BertForSequenceClassification", {**SIZES, "hidden_act": "relu", "num_labels": 3}
    ),
    "bert_token": Case("BertForTokenClassification", {**SIZES, "num_labels": 3}),
    "bert_span": Case("BertForQuestionAnswering", SIZES),
    "bert_causal": Case(
        "BertLMHeadModel",
        {**SIZES, "max_position_embeddings": 40, "is_decoder": True},
        generates=True,
    ),
    "ernie": Case("ErnieModel", {**SIZES, "layer_norm_eps": 1e-3}),
    "ernie_masked_lm": Case("ErnieForMaskedLM", {**SIZES, "hidden_act": "relu"}),
    "megatron-bert": Case("MegatronBertModel", {**SIZES, "layer_norm_eps": 1e-3}),
    "megatron-bert_sequence": Case(
        "MegatronBertForSequenceClassification", {**SIZES, "num_labels": 3}
    ),
    "megatron-bert_causal": Case(
        "MegatronBertForCausalLM",
        {**SIZES, "is_decoder": True, "max_position_embeddings": 40, "hidden_act": "relu"},
        generates=True,
    ),
    "rembert": Case("RemBertModel", {**REMBERT, "layer_norm_eps": 1e-3, "type_vocab_size": 3}),
    "rembert_masked_lm": Case("RemBertForMaskedLM", {**REMBERT, "hidden_act": "relu"}),
    # A projection of what is as wide, and a head as wide as the embedding.
    "rembert_square": Case(
        "RemBertForMaskedLM", {**REMBERT, "input_embedding_size": 16, "output_embedding_size": 16}
    ),
    "rembert_sequence": Case("RemBertForSequenceClassification", {**REMBERT, "num_labels": 3}),
    "rembert_causal": Case(
        "RemBertForCausalLM",
        {**REMBERT, "is_decoder": True, "max_position_embeddings": 40},
        generates=True,
    ),
}
