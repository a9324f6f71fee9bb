"""BERT's kin with rotary positions, post-norm as it is: Nomic BERT (2402.01613)."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.bert import FIELDS as BERT
from zoo.hf.families.bert import LM_HEAD, OWN_BIAS, TIED, keys
from zoo.hf.family import ByTensor, Family
from zoo.hf.keys import Entry, Key
from zoo.hf.rotary import rotary
from zoo.hf.weights import linear, norm, tensor

_LAYER = "encoder.layers.{}"

_FIELDS = BERT | {"architecture": "encoder", "positions": "rotary"}
# The files keep the names of the models' first releases, from whose matrices transformers cuts its
# own when it reads them.
_NOMIC = {
    **tensor("embedding/tokens", "embeddings.word_embeddings.weight"),
    **tensor("embedding/types", "embeddings.token_type_embeddings.weight"),
    **norm("embedding_norm", "emb_ln"),
    **linear("self_attention/branch/q", f"{_LAYER}.attn.Wqkv", part=0),
    **linear("self_attention/branch/k", f"{_LAYER}.attn.Wqkv", part=1),
    **linear("self_attention/branch/v", f"{_LAYER}.attn.Wqkv", part=2),
    **linear("self_attention/branch/o", f"{_LAYER}.attn.out_proj"),
    **norm("self_attention/residual/norm_out", f"{_LAYER}.norm1"),
    **linear("mlp/branch/w1", f"{_LAYER}.mlp.fc11"),
    **linear("mlp/branch/gate", f"{_LAYER}.mlp.fc12"),
    **linear("mlp/branch/w2", f"{_LAYER}.mlp.fc2"),
    **norm("mlp/residual/norm_out", f"{_LAYER}.norm2"),
}


def _keys(*, theta: float, longest: int, **defaults: Any) -> tuple[Entry, ...]:
    """BERT's keys without those of its table of positions and of its decoder.

    Args:
        theta, longest: what a missing `rope_theta` or `max_position_embeddings` means.
        defaults: the same of others, where it is not as in BERT.
    """
    return (
        *(key for key in keys(**defaults) if isinstance(key, Key)),
        Key("head_dim", "head_dim", None),
        Key("max_position_embeddings", "max_length", longest),
        rotary(theta=theta),
    )


FAMILIES = (
    Family(
        name="nomic_bert",
        classes={
            "NomicBertModel": "none",
            "NomicBertForMaskedLM": "masked_lm",
            "NomicBertForSequenceClassification": "sequence_classification",
            "NomicBertForTokenClassification": "token_classification",
        },
        fields=_FIELDS | {"gated": True, "bias": False},
        keys=_keys(
            theta=1000.0,
            longest=2048,
            vocab_size=30528,
            hidden_act="silu",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        ignored_keys=("classifier_dropout",),
        prefix="nomic_bert.",
        weights={**_NOMIC, **linear("pooler/dense", "pooler.dense")},
        heads={
            "masked_lm": {**LM_HEAD, **norm("head/norm", "cls.predictions.transform.layer_norm")},
            "sequence_classification": linear("head/linear", "classifier"),
            "token_classification": linear("head/linear", "classifier"),
        },
        head_fields={"sequence_classification": {"pooler": "tanh"}},
        by_tensor=(ByTensor("none", "pooler.dense.weight", "pooler", "tanh", None),),
        tied=TIED,
        where=(OWN_BIAS,),
    ),
)
