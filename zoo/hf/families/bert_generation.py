"""BERT for generation (1907.12461): BERT without kinds of token and without a pooler, and with a
language model that has nothing in front of the vocabulary."""

from __future__ import annotations

from zoo.hf.families.bert import CAUSAL, FIELDS, TRUNK, keys
from zoo.hf.families.roberta import TIED
from zoo.hf.family import Family, Where
from zoo.hf.keys import Key
from zoo.hf.weights import linear, tensor

FAMILIES = (
    Family(
        name="bert-generation",
        classes={
            "BertGenerationEncoder": "none",
            # As the released encoder names it.
            "BertForSeqGenerationEncoderModel": "none",
            "BertGenerationDecoder": "language_model",
        },
        fields=FIELDS,
        keys=(
            *keys(
                kinds=False,
                vocab_size=50358,
                hidden_size=1024,
                num_hidden_layers=24,
                num_attention_heads=16,
                intermediate_size=4096,
            ),
            CAUSAL,
            Key("max_position_embeddings", "max_length", 512),
        ),
        # Of the conversion from TensorFlow.
        ignored_keys=("directionality",),
        prefix="bert.",
        weights=TRUNK,
        heads={
            "language_model": {
                **linear("head", "lm_head.decoder"),
                **tensor("head/bias", "lm_head.bias"),
            }
        },
        head_fields={"language_model": {"head_bias": True}},
        ignored=("embeddings.position_ids",),
        tied=TIED,
        where=(Where("tie_embeddings", False, tensor("head/bias", "lm_head.decoder.bias")),),
    ),
)
