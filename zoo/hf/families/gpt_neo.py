"""GPT-Neo, whose scores are not scaled and every second layer of which has a window; and
GPT-BigCode (StarCoder, 2305.06161), whose heads share one key and one value."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.gpt2 import FIELDS, HEAD_FIELDS, HEADS, IGNORED_KEYS, TIED, classes
from zoo.hf.family import Family
from zoo.hf.keys import Fixed, Key, Rule, Settings, refused
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import linear, norm, tensor
from zoo.hf.windows import whole
from zoo.models.config import shortest_pattern, spread

_LAYER = "h.{}"
_KINDS = {"global": "G", "local": "L"}


def _windows(theirs: Settings) -> Settings:
    """`attention_types` counts repeats of lists of kinds; `attention_layers` lists them all."""
    types, depth = theirs["attention_types"], whole(theirs, "num_layers")
    listed = _expanded([[list(_KINDS), 12]] if types is None else types, depth)
    if theirs["attention_layers"] not in (None, listed):
        raise refused("attention_layers", theirs["attention_layers"], [listed])
    width = min(whole(theirs, "window_size"), whole(theirs, "max_position_embeddings"))
    letters = "".join(_KINDS[kind] for kind in listed)
    return {"window": width, "window_pattern": shortest_pattern(letters)}


def _expanded(types: Any, depth: int) -> list[str]:
    try:
        runs = [(list(kinds), int(repeats)) for kinds, repeats in types]
        known = all(kind in _KINDS for kinds, _ in runs for kind in kinds)
    except (TypeError, ValueError, OverflowError):
        known = False
    if not known:
        raise refused("attention_types", types, [[[list(_KINDS), 12]]])
    # Before they are made: a file may count anything.
    if sum(len(kinds) * max(repeats, 0) for kinds, repeats in runs) != depth:
        raise refused("attention_types", types, [f"{depth} layers, as num_layers says"])
    return [kind for kinds, repeats in runs for _ in range(repeats) for kind in kinds]


def _types(ours: Settings) -> Settings:
    depth, window = ours["num_layers"], ours["window"]
    names = {letter: name for name, letter in _KINDS.items()}
    letters = "G" * depth if window is None else spread(ours["window_pattern"], depth)
    listed = [names[letter] for letter in letters]
    return {
        "attention_types": [[listed, 1]],
        "attention_layers": listed,
        "window_size": ours["max_length"] if window is None else window,
    }


_NORMS = {
    **norm("self_attention/residual/norm_in", f"{_LAYER}.ln_1"),
    **norm("mlp/residual/norm_in", f"{_LAYER}.ln_2"),
}
_MLP = {
    **linear("mlp/branch/w1", f"{_LAYER}.mlp.c_fc"),
    **linear("mlp/branch/w2", f"{_LAYER}.mlp.c_proj"),
}
_ENDS = {
    **tensor("embedding/tokens", "wte.weight"),
    **tensor("embedding/table", "wpe.weight"),
    **norm("final_norm", "ln_f"),
}
_ATTENTION = f"{_LAYER}.attn.attention"

FAMILIES = (
    Family(
        name="gpt_neo",
        classes=classes("GPTNeo", "ForCausalLM"),
        fields=FIELDS
        | {
            "variant": "pre_norm",
            "attention_scale": 1.0,
            "attention_bias": "out",
            "mlp_bias": True,
        },
        keys=(
            Key("vocab_size", "vocab_size", 50257),
            Key("max_position_embeddings", "max_length", 2048),
            Key("hidden_size", "d_model", 2048),
            Key("num_layers", "num_layers", 24),
            Key("num_heads", "num_heads", 16),
            Key("intermediate_size", "d_ff", None),
            Key("activation_function", "activation", "gelu_new", ACTIVATIONS),
            Key("resid_dropout", "dropout", 0.0),
            Key("embed_dropout", "embedding_dropout", 0.0),
            Key("attention_dropout", "attention_dropout", 0.0),
            Key("layer_norm_epsilon", "norm_eps", 1e-5),
            Key("initializer_range", "init_std", 0.02),
            Key("tie_word_embeddings", "tie_embeddings", True),
            Rule(
                {"attention_types": None, "attention_layers": None, "window_size": 256},
                _windows,
                _types,
            ),
        ),
        ignored_keys=(*IGNORED_KEYS, "classifier_dropout", "embd_pdrop", "resid_pdrop"),
        prefix="transformer.",
        weights={
            **_ENDS,
            **_NORMS,
            **_MLP,
            **linear("self_attention/branch/q", f"{_ATTENTION}.q_proj"),
            **linear("self_attention/branch/k", f"{_ATTENTION}.k_proj"),
            **linear("self_attention/branch/v", f"{_ATTENTION}.v_proj"),
            **linear("self_attention/branch/o", f"{_ATTENTION}.out_proj"),
        },
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        ignored=("h.{}.attn.attention.bias", "h.{}.attn.attention.masked_bias"),
        tied=TIED,
    ),
    Family(
        name="gpt_bigcode",
        classes=classes("GPTBigCode", "ForCausalLM"),
        fields=FIELDS | {"num_kv_heads": 1},
        keys=(
            Key("vocab_size", "vocab_size", 50257),
            Key("n_positions", "max_length", 1024),
            Key("n_embd", "d_model", 768),
            Key("n_layer", "num_layers", 12),
            Key("n_head", "num_heads", 12),
            Key("n_inner", "d_ff", None),
            Key(
                "activation_function",
                "activation",
                "gelu_pytorch_tanh",
                {"gelu_pytorch_tanh": "gelu_tanh"} | ACTIVATIONS,
            ),
            Key("resid_pdrop", "dropout", 0.1),
            Key("embd_pdrop", "embedding_dropout", 0.1),
            Key("attn_pdrop", "attention_dropout", 0.1),
            Key("layer_norm_epsilon", "norm_eps", 1e-5),
            Key("initializer_range", "init_std", 0.02),
            Key("tie_word_embeddings", "tie_embeddings", True),
            Fixed("multi_query", True),
            Fixed("num_key_value_heads", 1),
            Fixed("scale_attn_weights", True),
            Fixed("add_cross_attention", False),
        ),
        # How half precision is computed with.
        ignored_keys=(
            *IGNORED_KEYS,
            "attention_softmax_in_fp32",
            "scale_attention_softmax_in_fp32",
            "inference_runner",
            "validate_runner_input",
            "pre_allocate_kv_cache",
            "max_batch_size",
            "max_sequence_length",
            "pad_key_length",
        ),
        prefix="transformer.",
        weights={
            **_ENDS,
            **_NORMS,
            **_MLP,
            **linear("self_attention/branch/q", f"{_LAYER}.attn.c_attn", part=0),
            **linear("self_attention/branch/k", f"{_LAYER}.attn.c_attn", part=1),
            **linear("self_attention/branch/v", f"{_LAYER}.attn.c_attn", part=2),
            **linear("self_attention/branch/o", f"{_LAYER}.attn.c_proj"),
        },
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        ignored=("h.{}.attn.bias", "h.{}.attn.masked_bias"),
        tied=TIED,
    ),
)
