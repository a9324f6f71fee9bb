"""Families of transformers whose placement is one of ours, as our parameters.

Each is the family's own model class, except that what is not ours and can be set to nothing is:
rotary over the whole head, no mixture of experts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from _golden_tree import (
    D_FF,
    D_MODEL,
    LENGTH,
    NUM_HEADS,
    VOCAB,
    Array,
    Golden,
    Maker,
    Tree,
    attention,
    base_config,
    blocks,
    linear,
    norm,
    randomise,
    single,
    tokens,
)

LAYERS, KV_HEADS, HEAD_DIM = 3, 2, D_MODEL // NUM_HEADS
Slots = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Family:
    """Where a family of the LLaMA kind keeps its norms.

    Attributes:
        name: prefix of its classes.
        attention, mlp: our slot -> the layer's attribute, per sublayer.
        interleaved: rotary pairs are neighbours, not halves of the head.
        parallel: attention and MLP share an input; `mlp` is empty.
        settings: of its config, beside the sizes.
        stand_ins: of `self_attn` and `mlp`, those that LLaMA's take the place of, since the
            family's own are more than placement.
    """

    name: str
    attention: Slots
    mlp: Slots
    interleaved: bool = False
    parallel: bool = False
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()


_PRE_NORM: Slots = {"norm_in": "input_layernorm"}
GEMMA_2 = Family(
    "Gemma2",
    {"norm_in": "input_layernorm", "norm_branch": "post_attention_layernorm"},
    {"norm_in": "pre_feedforward_layernorm", "norm_branch": "post_feedforward_layernorm"},
    settings={
        "attn_logit_softcapping": 1.5,
        "final_logit_softcapping": 2.0,
        "query_pre_attn_scalar": HEAD_DIM,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
)
GLM_4 = Family(
    "Glm4",
    {"norm_in": "input_layernorm", "norm_branch": "post_self_attn_layernorm"},
    {"norm_in": "post_attention_layernorm", "norm_branch": "post_mlp_layernorm"},
    interleaved=True,
    settings={"partial_rotary_factor": 1.0, "attention_bias": False},
)
EXAONE_4 = Family(
    "Exaone4",
    {"norm_branch": "post_attention_layernorm"},
    {"norm_branch": "post_feedforward_layernorm"},
    settings={"sliding_window": None, "layer_types": ["full_attention"] * LAYERS},
)
COHERE = Family(
    "Cohere",
    _PRE_NORM,
    {},
    interleaved=True,
    parallel=True,
    settings={"logit_scale": 0.25, "rope_theta": 10000.0, "use_qk_norm": True},
)
OLMO_2 = dataclasses.replace(EXAONE_4, name="Olmo2", settings={})
GRANITE = Family(
    "Granite",
    _PRE_NORM,
    {"norm_in": "post_attention_layernorm"},
    settings={
        "attention_multiplier": HEAD_DIM**-0.5,
        "embedding_multiplier": 3.0,
        "logits_scaling": 8.0,
        "residual_multiplier": 0.22,
    },
)
MINIMAX = Family(
    "MiniMax",
    _PRE_NORM,
    {"norm_in": "post_attention_layernorm"},
    settings={
        "layer_types": ["full_attention"] * LAYERS,
        "rope_theta": 10000.0,
        "full_attn_alpha_factor": 2.0,
        "full_attn_beta_factor": 0.6,
        "mlp_alpha_factor": 1.7,
        "mlp_beta_factor": 0.8,
    },
    stand_ins=("mlp",),
)
BEAM = Family(
    "Beam",
    {"norm_in": "input_layernorm", "norm_branch": "post_attention_layernorm"},
    {"norm_in": "pre_feedforward_layernorm", "norm_branch": "post_feedforward_layernorm"},
    settings={
        # Its full attention has no positions.
        "layer_types": ["sliding_attention"] * LAYERS,
        "sliding_window": LENGTH,
        "final_logit_softcapping": None,
    },
    stand_ins=("self_attn", "mlp"),
)


def sizes(**settings: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCAB,
        "hidden_size": D_MODEL,
        "intermediate_size": D_FF,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": LENGTH,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "eager",
        **settings,
    }


def _model(family: Family) -> Any:
    import transformers

    config = getattr(transformers, f"{family.name}Config")(**sizes(**family.settings))
    model = getattr(transformers, f"{family.name}ForCausalLM")(config)
    for index, layer in enumerate(model.model.layers):
        stand_in(layer, index, family.stand_ins)
    return model


def stand_in(layer: Any, index: int, parts: tuple[str, ...] = ("self_attn", "mlp")) -> None:
    """Put LLaMA's attention and MLP into a layer; what is left of it is its residual."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP

    config = LlamaConfig(**sizes())
    if "self_attn" in parts:
        layer.self_attn = LlamaAttention(config, index)
    if "mlp" in parts:
        layer.mlp = LlamaMLP(config)


def _residual(layer: Any, slots: Slots) -> Tree:
    return {slot: norm(getattr(layer, name)) for slot, name in slots.items()}


def llama_attention(module: Any, *, interleaved: bool = False) -> Tree:
    """The four matrices, and the norms of queries and keys where it has them."""

    def halves(array: Array) -> Array:
        """Features of each head so that rotary pairs are halves of it."""
        heads = array.reshape(*array.shape[:-1], -1, HEAD_DIM // 2, 2)
        return heads.swapaxes(-1, -2).reshape(array.shape) if interleaved else array

    tree = attention(module.q_proj, module.k_proj, module.v_proj, module.o_proj)
    for name in ("q", "k"):
        tree[name]["kernel"] = halves(tree[name]["kernel"])
        own = getattr(module, f"{name}_norm", None)
        if hasattr(own, "weight"):
            gain = {"gain": halves(single(own.weight))}
            # Of one head, of each, or of all in a row.
            tree[f"{name}_norm"] = gain if gain["gain"].shape[-1] == HEAD_DIM else {"norm": gain}
    return tree


def llama_mlp(module: Any) -> Tree:
    """A gated MLP, its two matrices into the hidden layer apart or one on the other."""
    if hasattr(module, "gate_up_proj"):
        gate, up = linear(module.gate_up_proj)["kernel"].reshape(D_MODEL, 2, D_FF).swapaxes(0, 1)
        parts = {"gate": {"kernel": gate}, "w1": {"kernel": up}}
    else:
        parts = {"gate": linear(module.gate_proj), "w1": linear(module.up_proj)}
    return {**parts, "w2": linear(module.down_proj)}


def llama_like(variant: str, family: Family, **config: Any) -> Golden:
    """Rotary, grouped heads, gated MLP, rms norms, a final norm, no biases."""
    model = _model(family)
    randomise(model)
    body, ids = model.model, tokens(1)

    def sublayers(layer: Any) -> list[Tree]:
        attends = llama_attention(layer.self_attn, interleaved=family.interleaved)
        mlp, around = llama_mlp(layer.mlp), _residual(layer, family.attention)
        if family.parallel:
            return [{"branch": {"attention": attends, "mlp": mlp}, "residual": around}]
        return [
            {"branch": attends, "residual": around},
            {"branch": mlp, "residual": _residual(layer, family.mlp)},
        ]

    params = {
        "embedding": {"tokens": single(body.embed_tokens.weight)},
        "stack": blocks([sublayers(layer) for layer in body.layers]),
        "final_norm": norm(body.norm),
        "head": linear(model.lm_head),
    }
    ours: dict[str, Any] = {
        "num_kv_heads": KV_HEADS,
        "positions": "rotary",
        "embedding_scale": False,
        "activation": "silu",
        "gated": True,
        "bias": False,
        "norm": "rms_norm",
        "norm_eps": 1e-5,
    }
    return Golden(
        config=base_config(variant=variant, num_layers=LAYERS, **ours | config),
        params=params,
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": body(ids).last_hidden_state, "logits": model(ids).logits},
    )


MAKERS: dict[str, Maker] = {
    "sandwich_norm_gemma_2": lambda: llama_like(
        "sandwich_norm",
        GEMMA_2,
        norm="offset_rms_norm",
        activation="gelu_tanh",
        embedding_scale=True,
        window=3,
        window_pattern="LG",
        attention_softcap=1.5,
        logit_softcap=2.0,
    ),
    "sandwich_norm_glm_4": lambda: llama_like("sandwich_norm", GLM_4),
    "res_post_norm_exaone_4": lambda: llama_like("res_post_norm", EXAONE_4),
    "res_post_norm_olmo_2": lambda: llama_like("res_post_norm", OLMO_2, qk_norm_over="width"),
    "scaled_residual_granite": lambda: llama_like(
        "scaled_residual(embedding_multiplier=3.0, logit_multiplier=0.125)", GRANITE
    ),
    "minimax_post_norm_minimax": lambda: llama_like(
        "minimax_post_norm(attention=(2.0, 0.6), mlp=(1.7, 0.8))", MINIMAX
    ),
    "scaled_residual_cohere": lambda: llama_like(
        "scaled_residual(multiplier=1.0, logit_multiplier=0.25)",
        COHERE,
        layout="parallel",
        norm="layer_norm",
        norm_bias=False,
        qk_norm=True,
        qk_norm_over="per_head",
    ),
    "beam_norm_beam": lambda: llama_like("beam_norm", BEAM),
}
