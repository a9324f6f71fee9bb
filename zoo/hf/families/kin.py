"""LLaMA with one change each: OLMo's norms have no gain, Helium and ERNIE 4.5 turn neighbouring
pairs, Arcee's MLP has no gate, Seed-OSS has biases on queries, keys and values, and BitNet
(2310.11453) norms before each output matrix."""

from __future__ import annotations

from zoo.hf.families.llama import (
    BIASES,
    BRANCHES,
    ENDS,
    FIELDS,
    HEADS,
    IGNORED_KEYS,
    LAYER,
    NORMS,
    TIED,
    classes,
    decoder,
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import Fixed, Key, Rule, Settings
from zoo.hf.rotary import rotary
from zoo.hf.weights import norm

_WEIGHTS = {**ENDS, **BRANCHES, **NORMS}


def _biases(theirs: Settings) -> Settings:
    into, out = bool(theirs["attention_bias"]), bool(theirs["attention_out_bias"])
    words = {(True, True): "all", (True, False): "qkv", (False, True): "out"}
    return {"attention_bias": words.get((into, out), "none")}


def _out_bias(ours: Settings) -> Settings:
    own = ours["attention_bias"]
    return {
        "attention_bias": own in ("all", "qkv"),
        "attention_out_bias": own in ("all", "out"),
    }


FAMILIES = (
    decoder(
        name="olmo",
        classes=classes("Olmo", "ForTokenClassification"),
        fields=FIELDS | {"norm": "layer_norm", "norm_affine": False, "norm_eps": 1e-5},
        keys=(
            *(key for key in sizes(vocab_size=50304) if key.field != "norm_eps"),
            rotary(theta=10000.0),
            BIASES[0],
            Fixed("clip_qkv", None),
        ),
        weights={**ENDS, **BRANCHES},
    ),
    decoder(
        name="helium",
        classes=classes("Helium"),
        fields=FIELDS | {"rotary_interleaved": True},
        keys=(
            *sizes(
                vocab_size=48000,
                hidden_size=2560,
                intermediate_size=7040,
                num_hidden_layers=24,
                num_attention_heads=20,
                num_key_value_heads=20,
                head_dim=128,
                max_position_embeddings=4096,
                rms_norm_eps=1e-8,
            ),
            rotary(theta=100000.0),
            Key("attention_bias", "attention_bias", False, {False: "none", True: "qkv"}),
            BIASES[1],
        ),
        weights=_WEIGHTS,
    ),
    Family(
        name="ernie4_5",
        classes=classes("Ernie4_5", "ForSequenceClassification", "ForTokenClassification"),
        fields=FIELDS | {"rotary_interleaved": True},
        keys=(
            *sizes(
                vocab_size=103424,
                hidden_size=1024,
                intermediate_size=3072,
                num_hidden_layers=18,
                num_attention_heads=16,
                num_key_value_heads=2,
                head_dim=128,
                max_position_embeddings=131072,
                rms_norm_eps=1e-5,
                tie_word_embeddings=True,
            ),
            rotary(theta=500000.0),
            Key("use_bias", "bias", False),
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights=_WEIGHTS,
        heads=HEADS,
        tied=TIED,
    ),
    decoder(
        name="arcee",
        classes=classes("Arcee"),
        fields=FIELDS | {"gated": False},
        keys=(
            *sizes(
                hidden_size=2560,
                intermediate_size=18432,
                hidden_act="relu2",
                max_position_embeddings=4096,
                rms_norm_eps=1e-5,
            ),
            rotary(theta=10000.0),
            *BIASES,
        ),
        weights=_WEIGHTS,
    ),
    decoder(
        name="seed_oss",
        classes=classes("SeedOss"),
        keys=(
            *sizes(
                vocab_size=155136,
                intermediate_size=27648,
                num_hidden_layers=64,
                num_attention_heads=80,
                num_key_value_heads=8,
                head_dim=128,
                max_position_embeddings=524288,
                attention_dropout=0.1,
            ),
            rotary(theta=10000.0),
            Rule({"attention_bias": True, "attention_out_bias": False}, _biases, _out_bias),
            BIASES[1],
            Key("residual_dropout", "dropout", 0.1),
        ),
        weights=_WEIGHTS,
    ),
    Family(
        name="bitnet",
        classes=classes("BitNet", "ForSequenceClassification", "ForTokenClassification"),
        fields=FIELDS | {"variant": "sub_ln"},
        keys=(
            *sizes(
                vocab_size=128256,
                hidden_size=2560,
                intermediate_size=6912,
                num_hidden_layers=30,
                num_attention_heads=20,
                num_key_value_heads=5,
                hidden_act="relu2",
                rms_norm_eps=1e-5,
            ),
            rotary(theta=500000.0),
            BIASES[0],
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights={
            **_WEIGHTS,
            **norm("self_attention/branch/inner_norm", f"{LAYER}.self_attn.attn_sub_norm"),
            **norm("mlp/branch/inner_norm", f"{LAYER}.mlp.ffn_sub_norm"),
        },
        heads=HEADS,
        tied=TIED,
    ),
)
