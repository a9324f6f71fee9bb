"""LLaMA: pre-norm decoders with RMSNorm, rotary positions, grouped heads and a gated MLP."""

from __future__ import annotations

from zoo.hf.family import Family
from zoo.hf.keys import Key
from zoo.hf.rotary import rotary
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import linear, norm, tensor

LAYER = "layers.{}"

# Attention and MLP of LLaMA's kin, whose norms differ.
BRANCHES = {
    **linear("self_attention/branch/q", f"{LAYER}.self_attn.q_proj"),
    **linear("self_attention/branch/k", f"{LAYER}.self_attn.k_proj"),
    **linear("self_attention/branch/v", f"{LAYER}.self_attn.v_proj"),
    **linear("self_attention/branch/o", f"{LAYER}.self_attn.o_proj"),
    **linear("mlp/branch/gate", f"{LAYER}.mlp.gate_proj"),
    **linear("mlp/branch/w1", f"{LAYER}.mlp.up_proj"),
    **linear("mlp/branch/w2", f"{LAYER}.mlp.down_proj"),
}
ENDS = {**tensor("embedding/tokens", "embed_tokens.weight"), **norm("final_norm", "norm")}
FIELDS = {
    "architecture": "decoder",
    "variant": "pre_norm",
    "norm": "rms_norm",
    "embedding_norm": False,
    "final_norm": True,
    "embedding_scale": False,
    "positions": "rotary",
    "gated": True,
    "bias": False,
    "init": "normal",
}
SIZES = (
    Key("vocab_size", "vocab_size", 32000),
    Key("hidden_size", "d_model", 4096),
    Key("intermediate_size", "d_ff", 11008),
    Key("num_hidden_layers", "num_layers", 32),
    Key("num_attention_heads", "num_heads", 32),
    Key("num_key_value_heads", "num_kv_heads", None),
    Key("head_dim", "head_dim", None),
    Key("hidden_act", "activation", "silu", ACTIVATIONS),
    Key("max_position_embeddings", "max_length", 2048),
    Key("initializer_range", "init_std", 0.02),
    Key("rms_norm_eps", "norm_eps", 1e-6),
    Key("tie_word_embeddings", "tie_embeddings", False),
    Key("attention_dropout", "attention_dropout", 0.0),
)
HEADS = {"language_model": linear("head", "lm_head")}
TIED = {"lm_head.weight": "embed_tokens.weight"}
# Buffers that old files carry.
IGNORED = ("layers.{}.self_attn.rotary_emb.inv_freq",)

FAMILIES = (
    Family(
        name="llama",
        classes={"LlamaForCausalLM": "language_model", "LlamaModel": "none"},
        fields=FIELDS,
        keys=(
            *SIZES,
            rotary(theta=10000.0),
            Key("attention_bias", "attention_bias", False, {False: "none", True: "all"}),
            Key("mlp_bias", "mlp_bias", False),
        ),
        prefix="model.",
        weights={
            **ENDS,
            **BRANCHES,
            **norm("self_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
            **norm("mlp/residual/norm_in", f"{LAYER}.post_attention_layernorm"),
        },
        heads=HEADS,
        ignored=IGNORED,
        tied=TIED,
    ),
)
