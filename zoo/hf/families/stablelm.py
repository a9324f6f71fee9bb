"""StableLM 2 and StarCoder 2 (2402.19173): LLaMA with layer norms."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.llama import (
    BRANCHES,
    ENDS,
    FIELDS,
    HEAD_FIELDS,
    HEADS,
    IGNORED,
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
from zoo.hf.keys import Fixed, Key
from zoo.hf.rotary import rotary
from zoo.hf.weights import linear
from zoo.hf.windows import whole, windows

_FIELDS: dict[str, Any] = FIELDS | {"norm": "layer_norm", "norm_bias": True}
_LAYERS = {**BRANCHES, **NORMS}

FAMILIES = (
    decoder(
        name="stablelm",
        classes=classes("StableLm"),
        fields=_FIELDS,
        keys=(
            *sizes(
                {"rms_norm_eps": "layer_norm_eps"},
                vocab_size=50304,
                intermediate_size=6912,
                hidden_size=2560,
                num_key_value_heads=32,
                max_position_embeddings=4096,
                rms_norm_eps=1e-5,
            ),
            rotary(theta=10000.0, fraction=0.25),
            Key("use_qkv_bias", "attention_bias", False, {False: "none", True: "qkv"}),
            Key(
                "use_parallel_residual",
                "layout",
                False,
                {False: "sequential", True: "parallel"},
            ),
            Key("hidden_dropout", "dropout", 0.0),
            # Each head has a norm of its own, in a tensor of its own.
            Fixed("qk_layernorm", False),
        ),
        weights={**ENDS, **_LAYERS, **parallel(_LAYERS)},
        ignored=IGNORED,
    ),
    Family(
        name="starcoder2",
        classes=classes("Starcoder2"),
        fields=_FIELDS | {"gated": False},
        keys=(
            *sizes(
                {"rms_norm_eps": "norm_epsilon"},
                vocab_size=49152,
                hidden_size=3072,
                intermediate_size=12288,
                num_hidden_layers=30,
                num_attention_heads=24,
                num_key_value_heads=2,
                hidden_act="gelu_pytorch_tanh",
                max_position_embeddings=4096,
                initializer_range=0.018042,
                rms_norm_eps=1e-5,
                tie_word_embeddings=True,
            ),
            rotary(theta=10000.0),
            windows(
                window=None,
                layers=lambda theirs: "L" * whole(theirs, "num_hidden_layers"),
                listed=False,
            ),
            Key("use_bias", "bias", True),
            Key("residual_dropout", "dropout", 0.0),
            Key("embedding_dropout", "embedding_dropout", 0.0),
        ),
        # Old names of others, and what the class does always.
        ignored_keys=(
            *IGNORED_KEYS,
            "activation_function",
            "attention_softmax_in_fp32",
            "layer_norm_epsilon",
            "mlp_type",
            "norm_type",
            "scale_attention_softmax_in_fp32",
            "scale_attn_weights",
        ),
        prefix="model.",
        weights={
            **ENDS,
            **_LAYERS,
            **linear("mlp/branch/w1", f"{LAYER}.mlp.c_fc"),
            **linear("mlp/branch/w2", f"{LAYER}.mlp.c_proj"),
        },
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        tied=TIED,
    ),
)
