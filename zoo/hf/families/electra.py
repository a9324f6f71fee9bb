"""ELECTRA (2003.10555): BERT with a narrow embedding, as generator and as discriminator."""

from __future__ import annotations

from typing import Literal

from zoo.hf.families.bert import CAUSAL, FIELDS, TRUNK, keys
from zoo.hf.families.roberta import CLASSIFIERS
from zoo.hf.family import Family
from zoo.hf.keys import Key, Rule, Settings
from zoo.hf.weights import linear, norm
from zoo.hf.windows import whole


def embedding_width(
    name: str, default: int | None, projected: Literal["summed", "tokens"], *, width: int
) -> Rule:
    """The key of a token table's width, where one as wide as the stream is not projected.

    Args:
        default: what a missing key means; None: the stream's width.
        width: what a missing `hidden_size` means.
    """

    def read(theirs: Settings) -> Settings:
        if theirs[name] in (None, theirs["hidden_size"]):
            return {"embedding_width": None}
        return {"embedding_width": whole(theirs, name), "embedding_projected": projected}

    def write(ours: Settings) -> Settings:
        return {name: ours["embedding_width"] or ours["d_model"]}

    return Rule({name: default, "hidden_size": width}, read, write)


_LM_HEAD = {
    **linear("head/dense", "generator_predictions.dense"),
    **norm("head/norm", "generator_predictions.LayerNorm"),
    **linear("head/vocabulary", "generator_lm_head"),
}
FAMILIES = (
    Family(
        name="electra",
        classes={
            "ElectraModel": "none",
            "ElectraForPreTraining": "replaced_token_detection",
            "ElectraForMaskedLM": "masked_lm",
            "ElectraForCausalLM": "language_model",
            "ElectraForSequenceClassification": "sequence_classification",
            "ElectraForTokenClassification": "token_classification",
            "ElectraForQuestionAnswering": "span",
        },
        fields=FIELDS,
        keys=(
            *keys(hidden_size=256, num_attention_heads=4, intermediate_size=1024),
            embedding_width("embedding_size", 128, "summed", width=256),
            CAUSAL,
            Key("max_position_embeddings", "max_length", 512),
        ),
        # Of the head for multiple choice.
        ignored_keys=(
            "classifier_dropout",
            "summary_type",
            "summary_use_proj",
            "summary_activation",
            "summary_last_dropout",
        ),
        prefix="electra.",
        weights={**TRUNK, **linear("project", "embeddings_project")},
        heads={
            "replaced_token_detection": {
                **linear("head/dense", "discriminator_predictions.dense"),
                **linear("head/linear", "discriminator_predictions.dense_prediction"),
            },
            "masked_lm": _LM_HEAD,
            "language_model": _LM_HEAD,
            **CLASSIFIERS,
        },
        head_fields={
            "masked_lm": {"head_activation": "gelu"},
            "language_model": {"head_transform": True, "head_activation": "gelu"},
            "sequence_classification": {"pooler": "gelu"},
        },
        ignored=("embeddings.position_ids",),
        tied={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
    ),
)
