"""MiniMax and Mixtral."""

from __future__ import annotations

from tests.hf.cases import VOCAB, Case

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_local_experts": 3,
}
FULL = {
    **SIZES,
    "num_local_experts": 1,
    "num_experts_per_tok": 1,
    "layer_types": ["full_attention"] * 2,
    "full_attn_alpha_factor": 2.5,
    "full_attn_beta_factor": 0.5,
    "mlp_alpha_factor": 1.5,
    "mlp_beta_factor": 0.75,
}
DECAYS = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
CASES = {
    "minimax": Case(
        "MiniMaxForCausalLM",
        {
            **SIZES,
            "num_hidden_layers": 4,
            "linear_attn_alpha_factor": 2.0,
            "linear_attn_beta_factor": 0.5,
            # Texts of several blocks.
            "block_size": 4,
        },
        generates=True,
        computed=DECAYS,
    ),
    "minimax_full": Case("MiniMaxForCausalLM", FULL, generates=True),
    "minimax_linear": Case(
        "MiniMaxModel",
        {
            **SIZES,
            "num_hidden_layers": 3,
            "head_dim": 6,
            "hidden_act": "gelu",
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        },
        computed=DECAYS,
    ),
    "mixtral": Case("MixtralForCausalLM", SIZES, generates=True),
    "mixtral_body": Case(
        "MixtralModel", {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 3}
    ),
}
