"""BERT's kin with rotary positions, post-norm as it is: Nomic BERT (2402.01613), GTE (2407.19669)
and Jina embeddings 3 (2409.10173), without that one's adapters, which lie in files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.hf.families import bert, roberta
from zoo.hf.family import ByTensor, Family
from zoo.hf.keys import Entry, Key, Rule, Settings
from zoo.hf.rotary import rotary
from zoo.hf.weights import Map, linear, norm, tensor
from zoo.hf.windows import whole
from zoo.models.config import Head


def _attention(fused: str, out: str) -> Map:
    """Queries, keys and values side by side, and the output matrix."""
    return {
        **linear("self_attention/branch/q", fused, part=0),
        **linear("self_attention/branch/k", fused, part=1),
        **linear("self_attention/branch/v", fused, part=2),
        **linear("self_attention/branch/o", out),
    }


# The files keep the names of the models' first releases, from whose matrices transformers cuts its
# own when it reads them.
_LAYER, _GTE_LAYER = "encoder.layers.{}", "encoder.layer.{}"
_NOMIC = {
    **norm("embedding_norm", "emb_ln"),
    **_attention(f"{_LAYER}.attn.Wqkv", f"{_LAYER}.attn.out_proj"),
    **norm("self_attention/residual/norm_out", f"{_LAYER}.norm1"),
    **linear("mlp/branch/w1", f"{_LAYER}.mlp.fc11"),
    **linear("mlp/branch/gate", f"{_LAYER}.mlp.fc12"),
    **linear("mlp/branch/w2", f"{_LAYER}.mlp.fc2"),
    **norm("mlp/residual/norm_out", f"{_LAYER}.norm2"),
}
_JINA = {
    **norm("embedding_norm", "emb_ln"),
    **_attention(f"{_LAYER}.mixer.Wqkv", f"{_LAYER}.mixer.out_proj"),
    **norm("self_attention/residual/norm_out", f"{_LAYER}.norm1"),
    **linear("mlp/branch/w1", f"{_LAYER}.mlp.fc1"),
    **linear("mlp/branch/w2", f"{_LAYER}.mlp.fc2"),
    **norm("mlp/residual/norm_out", f"{_LAYER}.norm2"),
}
_GTE = {
    **norm("embedding_norm", "embeddings.LayerNorm"),
    **_attention(f"{_GTE_LAYER}.attention.qkv_proj", f"{_GTE_LAYER}.attention.o_proj"),
    **norm("self_attention/residual/norm_out", f"{_GTE_LAYER}.attn_ln"),
    **linear("mlp/branch/w1", f"{_GTE_LAYER}.mlp.up_gate_proj", part=0),
    **linear("mlp/branch/gate", f"{_GTE_LAYER}.mlp.up_gate_proj", part=1),
    **linear("mlp/branch/w2", f"{_GTE_LAYER}.mlp.down_proj"),
    **norm("mlp/residual/norm_out", f"{_GTE_LAYER}.mlp_ln"),
}


def _keys(*, theta: float, longest: int, **own: Any) -> tuple[Entry, ...]:
    """BERT's keys without those of its table of positions and of what it has as a decoder.

    Args:
        theta, longest: what a missing `rope_theta` or `max_position_embeddings` means.
        own: arguments of BERT's `keys`.
    """
    return (
        *(key for key in bert.keys(**own) if isinstance(key, Key)),
        Key("head_dim", "head_dim", None),
        Key("max_position_embeddings", "max_length", longest),
        rotary(theta=theta),
    )


# Tokens have no kinds where there are 0 of them.
_KINDS = Rule(
    {"type_vocab_size": 1},
    lambda theirs: {"type_vocab_size": whole(theirs, "type_vocab_size", 0) or None},
    lambda ours: {"type_vocab_size": ours["type_vocab_size"] or 0},
)
_CLASSIFIER = linear("head/linear", "classifier")


def _family(
    name: str,
    models: str,
    *,
    trunk: str,
    fields: Settings,
    weights: Map,
    heads: Mapping[Head, Map],
    **own: Any,
) -> Family:
    """One `model_type`, whose classes begin with `models` and tensors with `trunk`."""
    return Family(
        name=name,
        classes={
            f"{models}Model": "none",
            f"{models}ForMaskedLM": "masked_lm",
            f"{models}ForSequenceClassification": "sequence_classification",
            f"{models}ForTokenClassification": "token_classification",
            **({f"{models}ForQuestionAnswering": "span"} if "span" in heads else {}),
        },
        fields=bert.FIELDS | {"architecture": "encoder", "positions": "rotary"} | fields,
        ignored_keys=("classifier_dropout",),
        prefix=f"{trunk}.",
        weights={
            **tensor("embedding/tokens", "embeddings.word_embeddings.weight"),
            **tensor("embedding/types", "embeddings.token_type_embeddings.weight"),
            **weights,
            **linear("pooler/dense", "pooler.dense"),
        },
        heads={"token_classification": _CLASSIFIER, **heads},
        by_tensor=(ByTensor("none", "pooler.dense.weight", "pooler", "tanh", None),),
        **own,
    )


_POOLED: dict[Head, Settings] = {"sequence_classification": {"pooler": "tanh"}}
_GELU: dict[Head, Settings] = {"masked_lm": {"head_activation": "gelu"}}

FAMILIES = (
    _family(
        "nomic_bert",
        "NomicBert",
        trunk="nomic_bert",
        fields={"gated": True, "bias": False},
        keys=_keys(
            theta=1000.0,
            longest=2048,
            vocab_size=30528,
            hidden_act="silu",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        weights=_NOMIC,
        heads={
            "masked_lm": {
                **bert.LM_HEAD,
                **norm("head/norm", "cls.predictions.transform.layer_norm"),
            },
            "sequence_classification": _CLASSIFIER,
        },
        head_fields=_POOLED,
        tied=bert.TIED,
        where=(bert.OWN_BIAS,),
    ),
    _family(
        "gte",
        "Gte",
        trunk="gte",
        # In training theirs drops out what comes through the gate too.
        fields={"gated": True, "mlp_input_bias": False},
        keys=(
            *_keys(
                theta=160000.0,
                longest=8192,
                kinds=False,
                vocab_size=250048,
                attention_probs_dropout_prob=0.0,
            ),
            _KINDS,
        ),
        weights=_GTE,
        heads={
            "masked_lm": {
                **linear("head/dense", "lm_head.dense"),
                **norm("head/norm", "lm_head.norm"),
                **linear("head/vocabulary", "lm_head.decoder"),
            },
            "sequence_classification": _CLASSIFIER,
        },
        head_fields=_POOLED | _GELU,
        tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight"},
    ),
    _family(
        "jina_embeddings_v3",
        "JinaEmbeddingsV3",
        trunk="roberta",
        fields={},
        keys=_keys(
            theta=20000.0,
            longest=8194,
            vocab_size=250002,
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        ),
        weights=_JINA,
        heads={"masked_lm": roberta.LM_HEAD, **roberta.CLASSIFIERS},
        head_fields=_POOLED | _GELU,
        tied=roberta.TIED,
        where=(roberta.OWN_BIAS,),
    ),
)
