"""GLM 4 of THUDM: interleaved rotary positions on half of a head and fused gates; in the second
of its two forms norms stand on both sides of the branches."""

from __future__ import annotations

from zoo.hf.families.llama import (
    BRANCHES,
    ENDS,
    FIELDS,
    IGNORED,
    LAYER,
    NORMS,
    classes,
    decoder,
    sizes,
)
from zoo.hf.keys import Entry, Key
from zoo.hf.rotary import rotary
from zoo.hf.weights import linear, norm

# Gate and the product with it, side by side.
FUSED_GATE = {
    **linear("mlp/branch/gate", f"{LAYER}.mlp.gate_up_proj", part=0),
    **linear("mlp/branch/w1", f"{LAYER}.mlp.gate_up_proj", part=1),
}
_SANDWICH = {
    **norm("self_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
    **norm("self_attention/residual/norm_branch", f"{LAYER}.post_self_attn_layernorm"),
    **norm("mlp/residual/norm_in", f"{LAYER}.post_attention_layernorm"),
    **norm("mlp/residual/norm_branch", f"{LAYER}.post_mlp_layernorm"),
}
_FIELDS = FIELDS | {"rotary_interleaved": True}
_KEYS: tuple[Entry, ...] = (
    *sizes(
        vocab_size=151552,
        intermediate_size=13696,
        num_hidden_layers=40,
        num_key_value_heads=2,
        head_dim=128,
        max_position_embeddings=131072,
        rms_norm_eps=1.5625e-7,
    ),
    rotary(theta=10000.0, fraction=0.5),
    Key("attention_bias", "attention_bias", True, {True: "qkv", False: "none"}),
)

FAMILIES = (
    decoder(
        name="glm",
        classes=classes("Glm"),
        fields=_FIELDS,
        keys=_KEYS,
        weights={**ENDS, **BRANCHES, **FUSED_GATE, **NORMS},
        ignored=IGNORED,
    ),
    decoder(
        name="glm4",
        classes=classes("Glm4"),
        fields=_FIELDS | {"variant": "sandwich_norm"},
        keys=_KEYS,
        weights={**ENDS, **BRANCHES, **FUSED_GATE, **_SANDWICH},
        ignored=IGNORED,
    ),
)
