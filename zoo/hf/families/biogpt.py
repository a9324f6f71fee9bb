"""BioGPT (2210.10341) and XGLM (2112.10668): pre-norm decoders with BART's names of tensors."""

from __future__ import annotations

from zoo.hf.family import Family
from zoo.hf.keys import Fixed, Key, Rule, Settings, refused
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import linear, norm, tensor

_LAYER = "layers.{}"
_FIELDS: Settings = {
    "architecture": "decoder",
    "variant": "pre_norm",
    "norm": "layer_norm",
    "norm_eps": 1e-5,
    "norm_bias": True,
    "embedding_norm": False,
    "final_norm": True,
    "position_offset": 2,
    "bias": True,
    "init": "normal",
}
_WEIGHTS = {
    **tensor("embedding/tokens", "embed_tokens.weight"),
    **linear("self_attention/branch/q", f"{_LAYER}.self_attn.q_proj"),
    **linear("self_attention/branch/k", f"{_LAYER}.self_attn.k_proj"),
    **linear("self_attention/branch/v", f"{_LAYER}.self_attn.v_proj"),
    **linear("self_attention/branch/o", f"{_LAYER}.self_attn.out_proj"),
    **norm("self_attention/residual/norm_in", f"{_LAYER}.self_attn_layer_norm"),
    **linear("mlp/branch/w1", f"{_LAYER}.fc1"),
    **linear("mlp/branch/w2", f"{_LAYER}.fc2"),
    **norm("mlp/residual/norm_in", f"{_LAYER}.final_layer_norm"),
    **norm("final_norm", "layer_norm"),
}


def _read_padding(theirs: Settings) -> Settings:
    """Padding of an id above 1 is refused.

    The class zeroes the row of its sines that has this id, and the first token stands at 2.
    """
    pad = theirs["pad_token_id"]
    if pad not in (None, 0, 1):
        raise refused("pad_token_id", pad, [1, 0, None])
    return {}


FAMILIES = (
    Family(
        name="biogpt",
        classes={
            "BioGptForCausalLM": "language_model",
            "BioGptModel": "none",
            "BioGptForSequenceClassification": "sequence_classification",
            "BioGptForTokenClassification": "token_classification",
        },
        # Positions are counted over what the mask shows.
        fields={**_FIELDS, "positions": "learned", "count_positions": "seen"},
        keys=(
            Key("vocab_size", "vocab_size", 42384),
            Key("hidden_size", "d_model", 1024),
            Key("num_hidden_layers", "num_layers", 24),
            Key("num_attention_heads", "num_heads", 16),
            Key("intermediate_size", "d_ff", 4096),
            Key("max_position_embeddings", "max_length", 1024),
            Key("hidden_act", "activation", "gelu", ACTIVATIONS),
            Key("hidden_dropout_prob", "dropout", 0.1, also=("embedding_dropout",)),
            Key("attention_probs_dropout_prob", "attention_dropout", 0.1),
            Key("initializer_range", "init_std", 0.02),
            Key("scale_embedding", "embedding_scale", True),
            Key("tie_word_embeddings", "tie_embeddings", True),
        ),
        # No norm there reads the epsilon.
        ignored_keys=("layer_norm_eps", "layerdrop", "activation_dropout"),
        prefix="biogpt.",
        weights={**_WEIGHTS, **tensor("embedding/table", "embed_positions.weight")},
        heads={
            "language_model": linear("head", "output_projection"),
            "sequence_classification": linear("head/linear", "score"),
            "token_classification": linear("head/linear", "classifier"),
        },
        head_fields={"sequence_classification": {"classifier_bias": False}},
        tied={"output_projection.weight": "embed_tokens.weight"},
    ),
    Family(
        name="xglm",
        classes={"XGLMForCausalLM": "language_model", "XGLMModel": "none"},
        fields={**_FIELDS, "positions": "sinusoidal_fairseq"},
        keys=(
            Key("vocab_size", "vocab_size", 256008),
            Key("d_model", "d_model", 1024),
            Key("num_layers", "num_layers", 24),
            Key("attention_heads", "num_heads", 16),
            Key("ffn_dim", "d_ff", 4096),
            Key("max_position_embeddings", "max_length", 2048),
            Key("activation_function", "activation", "gelu", ACTIVATIONS),
            Key("dropout", "dropout", 0.1, also=("embedding_dropout",)),
            Key("attention_dropout", "attention_dropout", 0.1),
            Key("init_std", "init_std", 0.02),
            Key("scale_embedding", "embedding_scale", True),
            Key("tie_word_embeddings", "tie_embeddings", True),
            Rule({"pad_token_id": 1}, _read_padding, lambda ours: {"pad_token_id": 1}),
            Fixed("add_cross_attention", False),
        ),
        ignored_keys=("layerdrop", "activation_dropout"),
        prefix="model.",
        weights=_WEIGHTS,
        heads={"language_model": linear("head", "lm_head")},
        sines=("embed_positions.weights",),
        tied={"lm_head.weight": "embed_tokens.weight"},
    ),
)
