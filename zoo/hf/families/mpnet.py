"""MPNet (2004.09297): post-norm encoders that know places by a table and by distances."""

from __future__ import annotations

from zoo.hf.families.roberta import CLASSIFIERS, LM_HEAD, OWN_BIAS, TIED
from zoo.hf.family import ByTensor, Family
from zoo.hf.keys import Fixed, Key, Rule, Settings
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import linear, norm, tensor
from zoo.hf.windows import whole

_LAYER = "encoder.layer.{}"
# The id of padding, whatever the config says, and the position of the first token.
_PAD, _FIRST = 1, 2


def _read_length(theirs: Settings) -> Settings:
    return {"max_length": whole(theirs, "max_position_embeddings") - _FIRST}


FAMILIES = (
    Family(
        name="mpnet",
        classes={
            "MPNetModel": "none",
            "MPNetForMaskedLM": "masked_lm",
            "MPNetForSequenceClassification": "sequence_classification",
            "MPNetForTokenClassification": "token_classification",
            "MPNetForQuestionAnswering": "span",
        },
        fields={
            "architecture": "encoder",
            "variant": "post_norm",
            "norm": "layer_norm",
            "norm_bias": True,
            "embedding_norm": True,
            "final_norm": False,
            "embedding_scale": False,
            "positions": "learned",
            "position_offset": _FIRST,
            "count_positions": "unpadded",
            "pad_id": _PAD,
            "relative_max_distance": 128,
            "relative_buckets": 32,
            "bias": True,
            "init": "normal",
        },
        keys=(
            Key("vocab_size", "vocab_size", 30527),
            Key("hidden_size", "d_model", 768),
            Key("num_hidden_layers", "num_layers", 12),
            Key("num_attention_heads", "num_heads", 12),
            Key("intermediate_size", "d_ff", 3072),
            Key("hidden_act", "activation", "gelu", ACTIVATIONS),
            Key("hidden_dropout_prob", "dropout", 0.1, also=("embedding_dropout",)),
            Key("attention_probs_dropout_prob", "attention_dropout", 0.1),
            Rule(
                {"max_position_embeddings": 512},
                _read_length,
                lambda ours: {"max_position_embeddings": ours["max_length"] + _FIRST},
            ),
            Key("initializer_range", "init_std", 0.02),
            Key("layer_norm_eps", "norm_eps", 1e-12),
            # Theirs gives the table other rows, and counts 32 buckets all the same.
            Fixed("relative_attention_num_buckets", 32),
            Key("tie_word_embeddings", "tie_embeddings", True),
        ),
        prefix="mpnet.",
        weights={
            **tensor("embedding/tokens", "embeddings.word_embeddings.weight"),
            **tensor("embedding/table", "embeddings.position_embeddings.weight"),
            **norm("embedding_norm", "embeddings.LayerNorm"),
            **tensor("relative/table", "encoder.relative_attention_bias.weight"),
            **linear("self_attention/branch/q", f"{_LAYER}.attention.attn.q"),
            **linear("self_attention/branch/k", f"{_LAYER}.attention.attn.k"),
            **linear("self_attention/branch/v", f"{_LAYER}.attention.attn.v"),
            **linear("self_attention/branch/o", f"{_LAYER}.attention.attn.o"),
            **norm("self_attention/residual/norm_out", f"{_LAYER}.attention.LayerNorm"),
            **linear("mlp/branch/w1", f"{_LAYER}.intermediate.dense"),
            **linear("mlp/branch/w2", f"{_LAYER}.output.dense"),
            **norm("mlp/residual/norm_out", f"{_LAYER}.output.LayerNorm"),
            **linear("pooler/dense", "pooler.dense"),
        },
        heads={
            "masked_lm": LM_HEAD,
            **CLASSIFIERS,
        },
        head_fields={
            "masked_lm": {"head_activation": "gelu"},
            "sequence_classification": {"pooler": "tanh"},
        },
        by_tensor=(ByTensor("none", "pooler.dense.weight", "pooler", "tanh", None),),
        ignored=("embeddings.position_ids",),
        tied=TIED,
        where=(OWN_BIAS,),
    ),
)
