"""DistilBERT (1910.01108): BERT without kinds of token and without a pooler."""

from __future__ import annotations

from zoo.hf.families.bert import FIELDS
from zoo.hf.family import Family
from zoo.hf.keys import Key
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import linear, norm, tensor

_LAYER = "transformer.layer.{}"

FAMILIES = (
    Family(
        name="distilbert",
        classes={
            "DistilBertModel": "none",
            "DistilBertForMaskedLM": "masked_lm",
            "DistilBertForSequenceClassification": "sequence_classification",
            "DistilBertForTokenClassification": "token_classification",
            "DistilBertForQuestionAnswering": "span",
        },
        fields={**FIELDS, "architecture": "encoder", "norm_eps": 1e-12},
        keys=(
            Key("vocab_size", "vocab_size", 30522),
            Key("dim", "d_model", 768),
            Key("n_layers", "num_layers", 6),
            Key("n_heads", "num_heads", 12),
            Key("hidden_dim", "d_ff", 3072),
            Key("max_position_embeddings", "max_length", 512),
            Key("activation", "activation", "gelu", ACTIVATIONS),
            Key("dropout", "dropout", 0.1, also=("embedding_dropout",)),
            Key("attention_dropout", "attention_dropout", 0.1),
            Key("initializer_range", "init_std", 0.02),
            Key("tie_word_embeddings", "tie_embeddings", True),
        ),
        # Whether the table of positions began as sines: the file holds it in both cases.
        ignored_keys=(
            "sinusoidal_pos_embds",
            "qa_dropout",
            "seq_classif_dropout",
            "tie_weights_",
            "output_past",
        ),
        prefix="distilbert.",
        weights={
            **tensor("embedding/tokens", "embeddings.word_embeddings.weight"),
            **tensor("embedding/table", "embeddings.position_embeddings.weight"),
            **norm("embedding_norm", "embeddings.LayerNorm"),
            **linear("self_attention/branch/q", f"{_LAYER}.attention.q_lin"),
            **linear("self_attention/branch/k", f"{_LAYER}.attention.k_lin"),
            **linear("self_attention/branch/v", f"{_LAYER}.attention.v_lin"),
            **linear("self_attention/branch/o", f"{_LAYER}.attention.out_lin"),
            **norm("self_attention/residual/norm_out", f"{_LAYER}.sa_layer_norm"),
            **linear("mlp/branch/w1", f"{_LAYER}.ffn.lin1"),
            **linear("mlp/branch/w2", f"{_LAYER}.ffn.lin2"),
            **norm("mlp/residual/norm_out", f"{_LAYER}.output_layer_norm"),
        },
        heads={
            "masked_lm": {
                **linear("head/dense", "vocab_transform"),
                **norm("head/norm", "vocab_layer_norm"),
                **linear("head/vocabulary", "vocab_projector"),
            },
            "sequence_classification": {
                **linear("pooler/dense", "pre_classifier"),
                **linear("head/linear", "classifier"),
            },
            "token_classification": linear("head/linear", "classifier"),
            "span": linear("head/linear", "qa_outputs"),
        },
        head_fields={"sequence_classification": {"pooler": "relu"}},
        ignored=("embeddings.position_ids",),
        tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
    ),
)
