"""ALBERT (1909.11942): BERT with a narrow embedding, whose layers share their weights."""

from __future__ import annotations

from zoo.hf.families.bert import FIELDS, TRUNK, keys
from zoo.hf.family import ByTensor, Family, Where
from zoo.hf.keys import Fixed, Key
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import linear, norm, tensor

_GROUP = "encoder.albert_layer_groups.{}.albert_layers.0"

FAMILIES = (
    Family(
        name="albert",
        classes={
            "AlbertModel": "none",
            "AlbertForMaskedLM": "masked_lm",
            "AlbertForPreTraining": "masked_lm",
            "AlbertForSequenceClassification": "sequence_classification",
            "AlbertForTokenClassification": "token_classification",
            "AlbertForQuestionAnswering": "span",
        },
        fields={**FIELDS, "architecture": "encoder"},
        keys=(
            *keys(
                vocab_size=30000,
                hidden_size=4096,
                num_attention_heads=64,
                intermediate_size=16384,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            Key("hidden_act", "activation", "gelu_new", ACTIVATIONS),
            Key("embedding_size", "embedding_width", 128),
            Key("num_hidden_groups", "layer_groups", 1),
            Fixed("inner_group_num", 1),
            Key("max_position_embeddings", "max_length", 512),
        ),
        # Of the first files, from another code.
        ignored_keys=(
            "classifier_dropout_prob",
            "down_scale_factor",
            "gap_size",
            "net_structure_type",
            "num_memory_blocks",
        ),
        prefix="albert.",
        weights={
            **{place: each for place, each in TRUNK.items() if place.startswith("embedding")},
            **linear("project", "encoder.embedding_hidden_mapping_in"),
            **linear("self_attention/branch/q", f"{_GROUP}.attention.query"),
            **linear("self_attention/branch/k", f"{_GROUP}.attention.key"),
            **linear("self_attention/branch/v", f"{_GROUP}.attention.value"),
            **linear("self_attention/branch/o", f"{_GROUP}.attention.dense"),
            **norm("self_attention/residual/norm_out", f"{_GROUP}.attention.LayerNorm"),
            **linear("mlp/branch/w1", f"{_GROUP}.ffn"),
            **linear("mlp/branch/w2", f"{_GROUP}.ffn_output"),
            **norm("mlp/residual/norm_out", f"{_GROUP}.full_layer_layer_norm"),
            **linear("pooler/dense", "pooler"),
        },
        heads={
            "masked_lm": {
                **linear("head/dense", "predictions.dense"),
                **norm("head/norm", "predictions.LayerNorm"),
                **linear("head/vocabulary", "predictions.decoder"),
                **tensor("head/vocabulary/bias", "predictions.bias"),
            },
            "sequence_classification": linear("head/linear", "classifier"),
            "token_classification": linear("head/linear", "classifier"),
            "span": linear("head/linear", "qa_outputs"),
        },
        head_fields={"sequence_classification": {"pooler": "tanh"}},
        by_tensor=(ByTensor("none", "pooler.weight", "pooler", "tanh", None),),
        # The second is of a head that pretraining has beside the masked LM.
        ignored=("embeddings.position_ids", "sop_classifier."),
        tied={
            "predictions.decoder.weight": "embeddings.word_embeddings.weight",
            "predictions.decoder.bias": "predictions.bias",
        },
        where=(
            Where(
                "tie_embeddings", False, tensor("head/vocabulary/bias", "predictions.decoder.bias")
            ),
        ),
    ),
)
