"""EuroBERT (2503.05500): LLaMA whose tokens see all others, as an encoder."""

from __future__ import annotations

from zoo.hf.families.llama import BIASES, BRANCHES, ENDS, FIELDS, NORMS, TIED, sizes
from zoo.hf.family import Family
from zoo.hf.keys import Key, Rule, Settings, refused
from zoo.hf.rotary import rotary
from zoo.hf.weights import linear

# A classifier's pooler stands behind the pooling, or in front of it: `late` means over the scores
# of every token, which are linear in what the pooler makes of it.
_POOLINGS: dict[str, Settings] = {
    "late": {"pooling": "mean", "pooler_first": True},
    "bos": {"pooling": "first", "pooler_first": False},
    "mean": {"pooling": "mean", "pooler_first": False},
}


def _pooling(theirs: Settings) -> Settings:
    # By its name in the code that came with the released files, where that alone is there.
    said = theirs["classifier_pooling"] or theirs["clf_pooling"] or "late"
    if not isinstance(said, str) or said not in _POOLINGS:
        raise refused("classifier_pooling", said, _POOLINGS)
    return _POOLINGS[said]


def _pooled(ours: Settings) -> Settings:
    own = {field: ours[field] for field in ("pooling", "pooler_first")}
    return {"classifier_pooling": next(name for name, each in _POOLINGS.items() if each == own)}


FAMILIES = (
    Family(
        name="eurobert",
        classes={
            "EuroBertModel": "none",
            "EuroBertForMaskedLM": "masked_lm",
            "EuroBertForSequenceClassification": "sequence_classification",
            "EuroBertForTokenClassification": "token_classification",
        },
        fields=FIELDS | {"architecture": "encoder"},
        keys=(
            *sizes(
                vocab_size=128256,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=8192,
                rms_norm_eps=1e-5,
            ),
            rotary(theta=10000.0),
            *BIASES,
        ),
        prefix="model.",
        weights={**ENDS, **BRANCHES, **NORMS},
        heads={
            "masked_lm": linear("head", "lm_head"),
            "sequence_classification": {
                **linear("pooler/dense", "dense"),
                **linear("head/linear", "classifier"),
            },
            "token_classification": linear("head/linear", "classifier"),
        },
        head_fields={
            "masked_lm": {"masked_lm_transform": False},
            "sequence_classification": {"pooler": "gelu"},
        },
        head_keys={
            "masked_lm": (Key("mlp_bias", "mlp_bias", False, also=("head_bias",)),),
            "sequence_classification": (
                Rule(dict.fromkeys(("classifier_pooling", "clf_pooling")), _pooling, _pooled),
            ),
        },
        tied=TIED,
    ),
)
