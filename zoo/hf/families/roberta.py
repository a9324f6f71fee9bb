"""RoBERTa (1907.11692) and its kin: BERT whose positions are counted over what is no padding."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.bert import CAUSAL, FIELDS, TRUNK, keys
from zoo.hf.family import ByTensor, Family, Where
from zoo.hf.keys import Rule, Settings
from zoo.hf.weights import Map, linear, norm, tensor
from zoo.hf.windows import whole
from zoo.models.config import Head


def unpadded(*, pad: int) -> Rule:
    """Tokens that are no padding are counted: the first one stands at pad + 1.

    Args:
        pad: what a missing `pad_token_id` means.
    """

    def read(theirs: Settings) -> Settings:
        pad = whole(theirs, "pad_token_id", 0)
        return {"position_offset": pad + 1, "pad_id": pad, "count_positions": "unpadded"}

    def write(ours: Settings) -> Settings:
        pad, first = ours["pad_id"], ours["position_offset"]
        return {"pad_token_id": first - 1 if pad is None else pad}

    return Rule({"pad_token_id": pad}, read, write)


def positions(*, pad: int, longest: int = 512) -> Rule:
    """A table of such positions, whose first rows are for padding.

    Args:
        pad, longest: what a missing `pad_token_id` or `max_position_embeddings` means.
    """
    counted = unpadded(pad=pad)

    def read(theirs: Settings) -> Settings:
        found, rows = counted.read(theirs), whole(theirs, "max_position_embeddings")
        return {**found, "max_length": rows - found["position_offset"]}

    def write(ours: Settings) -> Settings:
        rows = ours["max_length"] + ours["position_offset"]
        return {"max_position_embeddings": rows, **counted.write(ours)}

    return Rule({"max_position_embeddings": longest, **counted.keys}, read, write)


LM_HEAD = {
    **linear("head/dense", "lm_head.dense"),
    **norm("head/norm", "lm_head.layer_norm"),
    **linear("head/vocabulary", "lm_head.decoder"),
    **tensor("head/vocabulary/bias", "lm_head.bias"),
}
CLASSIFIERS: dict[Head, Map] = {
    "sequence_classification": {
        **linear("pooler/dense", "classifier.dense"),
        **linear("head/linear", "classifier.out_proj"),
    },
    "token_classification": linear("head/linear", "classifier"),
    "span": linear("head/linear", "qa_outputs"),
}
TIED = {
    "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
OWN_BIAS = Where("tie_embeddings", False, tensor("head/vocabulary/bias", "lm_head.decoder.bias"))


# The norms in front of the branches, and one at the end.
_PRE_FIELDS = {**FIELDS, "variant": "pre_norm", "final_norm": True}
_PRE = {
    **TRUNK,
    **norm("self_attention/residual/norm_in", "encoder.layer.{}.attention.LayerNorm"),
    **norm("mlp/residual/norm_in", "encoder.layer.{}.intermediate.LayerNorm"),
    **norm("final_norm", "LayerNorm"),
}
_XL = {
    **TRUNK,
    **norm("self_attention/residual/norm_in", "encoder.layer.{}.attention.self_attn_layer_norm"),
    **norm("mlp/residual/norm_in", "encoder.layer.{}.LayerNorm"),
    **norm("final_norm", "encoder.LayerNorm"),
}


def _family(
    name: str,
    prefix: str,
    *,
    trunk: str = "roberta",
    fields: Settings = FIELDS,
    weights: Map = TRUNK,
    longest: int = 512,
    **defaults: Any,
) -> Family:
    """One `model_type`, whose classes begin with `prefix` and tensors with `trunk`."""
    return Family(
        name=name,
        classes={
            f"{prefix}Model": "none",
            f"{prefix}ForMaskedLM": "masked_lm",
            f"{prefix}ForCausalLM": "language_model",
            f"{prefix}ForSequenceClassification": "sequence_classification",
            f"{prefix}ForTokenClassification": "token_classification",
            f"{prefix}ForQuestionAnswering": "span",
        },
        fields=fields,
        keys=(*keys(**defaults), CAUSAL, positions(pad=1, longest=longest)),
        ignored_keys=("classifier_dropout",),
        prefix=f"{trunk}.",
        weights={**weights, **linear("pooler/dense", "pooler.dense")},
        heads={
            "masked_lm": LM_HEAD,
            "language_model": LM_HEAD,
            **CLASSIFIERS,
        },
        head_fields={
            "masked_lm": {"head_activation": "gelu"},
            "language_model": {"head_transform": True, "head_activation": "gelu"},
            "sequence_classification": {"pooler": "tanh"},
        },
        by_tensor=(ByTensor("none", "pooler.dense.weight", "pooler", "tanh", None),),
        ignored=("embeddings.position_ids",),
        tied=TIED,
        where=(OWN_BIAS,),
    )


FAMILIES = (
    _family("roberta", "Roberta", vocab_size=50265),
    _family("xlm-roberta", "XLMRoberta"),
    _family("camembert", "Camembert"),
    _family("data2vec-text", "Data2VecText", trunk="data2vec_text"),
    _family(
        "roberta-prelayernorm",
        "RobertaPreLayerNorm",
        trunk="roberta_prelayernorm",
        vocab_size=50265,
        fields=_PRE_FIELDS,
        weights=_PRE,
    ),
    _family(
        "xlm-roberta-xl",
        "XLMRobertaXL",
        fields=_PRE_FIELDS | {"embedding_norm": False},
        weights=_XL,
        longest=514,
        vocab_size=250880,
        hidden_size=2560,
        num_hidden_layers=36,
        num_attention_heads=32,
        intermediate_size=10240,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    ),
)
