"""RoFormer (2104.09864): BERT with rotary positions, which turn neighbouring pairs of a head."""

from __future__ import annotations

from zoo.hf.families.bert import CAUSAL, FIELDS, LM_HEAD, OWN_BIAS, TIED, TRUNK, keys
from zoo.hf.families.electra import embedding_width
from zoo.hf.families.roberta import CLASSIFIERS
from zoo.hf.family import Family
from zoo.hf.keys import Fixed, Key, Rule
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import linear

# A classifier's dense layer has the activation of the MLPs; what is read is checked against both.
_POOLER = Rule(
    {"hidden_act": "gelu"},
    lambda theirs: {"pooler": ACTIVATIONS[theirs["hidden_act"]]},
    lambda ours: {},
)

FAMILIES = (
    Family(
        name="roformer",
        classes={
            "RoFormerModel": "none",
            "RoFormerForMaskedLM": "masked_lm",
            "RoFormerForCausalLM": "language_model",
            "RoFormerForSequenceClassification": "sequence_classification",
            "RoFormerForTokenClassification": "token_classification",
            "RoFormerForQuestionAnswering": "span",
        },
        fields=FIELDS | {"positions": "rotary", "rotary_interleaved": True},
        keys=(
            *keys(table=False, vocab_size=50000),
            embedding_width("embedding_size", None, "summed", width=768),
            CAUSAL,
            Key("max_position_embeddings", "max_length", 1536),
            # Values that are turned too.
            Fixed("rotary_value", False),
        ),
        prefix="roformer.",
        weights={**TRUNK, **linear("project", "embeddings_project")},
        heads={
            "masked_lm": LM_HEAD,
            "language_model": LM_HEAD,
            **CLASSIFIERS,
        },
        head_fields={"language_model": {"head_transform": True}},
        head_keys={"sequence_classification": (_POOLER,)},
        sines=("encoder.embed_positions.weight",),
        tied=TIED,
        where=(OWN_BIAS,),
    ),
)
