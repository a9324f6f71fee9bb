"""Phi: GPT-J with biases everywhere; and Phi 3, which is LLaMA with fused matrices."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.glm import FUSED_GATE
from zoo.hf.families.llama import (
    BRANCHES,
    ENDS,
    FIELDS,
    HEAD_FIELDS,
    HEADS,
    IGNORED_KEYS,
    LAYER,
    NORMS,
    TIED,
    classes,
    decoder,
    parallel,
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import Key
from zoo.hf.rotary import rotary
from zoo.hf.weights import linear, norm, tensor
from zoo.hf.windows import whole, windows

_FUSED_QKV = {
    **linear("self_attention/branch/q", f"{LAYER}.self_attn.qkv_proj", part=0),
    **linear("self_attention/branch/k", f"{LAYER}.self_attn.qkv_proj", part=1),
    **linear("self_attention/branch/v", f"{LAYER}.self_attn.qkv_proj", part=2),
}
_DROPOUTS = (
    Key("resid_pdrop", "dropout", 0.0),
    Key("embd_pdrop", "embedding_dropout", 0.0),
)
_SIZES: dict[str, Any] = {"intermediate_size": 8192, "rms_norm_eps": 1e-5}

FAMILIES = (
    decoder(
        name="phi",
        classes=classes("Phi"),
        fields=FIELDS
        | {
            "norm": "layer_norm",
            "norm_bias": True,
            "layout": "parallel",
            "gated": False,
            "bias": True,
            "head_bias": True,
        },
        keys=(
            *sizes(
                {"rms_norm_eps": "layer_norm_eps"},
                **_SIZES,
                vocab_size=51200,
                hidden_size=2048,
                num_hidden_layers=24,
                hidden_act="gelu_new",
            ),
            *_DROPOUTS,
            rotary(theta=10000.0, fraction=0.5),
            Key("qk_layernorm", "qk_norm", False),
        ),
        weights={
            **tensor("embedding/tokens", "embed_tokens.weight"),
            **norm("final_norm", "final_layernorm"),
            **parallel(
                {
                    **{place: each for place, each in BRANCHES.items() if "mlp" not in place},
                    **linear("self_attention/branch/o", f"{LAYER}.self_attn.dense"),
                    **norm("self_attention/branch/q_norm", f"{LAYER}.self_attn.q_layernorm"),
                    **norm("self_attention/branch/k_norm", f"{LAYER}.self_attn.k_layernorm"),
                    **norm("self_attention/residual/norm_in", f"{LAYER}.input_layernorm"),
                    **linear("mlp/branch/w1", f"{LAYER}.mlp.fc1"),
                    **linear("mlp/branch/w2", f"{LAYER}.mlp.fc2"),
                }
            ),
        },
    ),
    Family(
        name="phi3",
        classes=classes("Phi3"),
        fields=FIELDS,
        keys=(
            *sizes(**_SIZES, vocab_size=32064, hidden_size=3072, max_position_embeddings=4096),
            *_DROPOUTS,
            rotary(theta=10000.0, fraction=1.0, scalings=("default",)),
            windows(
                window=None,
                layers=lambda theirs: "L" * whole(theirs, "num_hidden_layers"),
                listed=False,
            ),
        ),
        # The longest text of before is used by scaled positions alone; files of Microsoft's own
        # code say what that class does always.
        ignored_keys=(
            *IGNORED_KEYS,
            "original_max_position_embeddings",
            "attention_bias",
        ),
        prefix="model.",
        weights={**ENDS, **BRANCHES, **_FUSED_QKV, **FUSED_GATE, **NORMS},
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        tied=TIED,
    ),
)
