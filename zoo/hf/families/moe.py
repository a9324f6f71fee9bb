"""Qwen 3 and OLMo with experts in place of the MLP: OLMoE (2409.02060), FlexOlmo (2507.07024) and
the mixture of Qwen 3 (2505.09388)."""

from __future__ import annotations

from zoo.hf.families.llama import (
    BIASES,
    BRANCHES,
    ENDS,
    FIELDS,
    HEAD_FIELDS,
    HEADS,
    LAYER,
    NORMS,
    TIED,
    classes,
    sizes,
)
from zoo.hf.families.minimax import IGNORED_KEYS, fused, mixture
from zoo.hf.families.mistral import alike
from zoo.hf.families.olmo2 import NORMS_BEHIND
from zoo.hf.families.olmo2 import QK_NORMS as WIDE_QK_NORMS
from zoo.hf.families.qwen import QK_NORMS
from zoo.hf.family import Family
from zoo.hf.keys import CannotExpress, Fixed, Key, Rule, Settings, refused
from zoo.hf.rotary import rotary
from zoo.hf.weights import Map
from zoo.hf.windows import whole, windows

_ATTENTION: Map = {place: each for place, each in BRANCHES.items() if place.startswith("self")}
_NAMES = ("gate_proj", "up_proj", "down_proj")
_EXPERTS = mixture(f"{LAYER}.mlp", *_NAMES)
_FUSED = fused("mlp", *_NAMES)
_NORMALIZE = Key("norm_topk_prob", "experts_renormalised", False)


def _experts(count: int, *, chosen: int) -> tuple[Rule, Key]:
    """How many there are, under either name of that key, and how many a token goes through."""
    names = ("num_experts", "num_local_experts")

    def read(theirs: Settings) -> Settings:
        said = [name for name in names if theirs[name] is not None]
        if len({repr(theirs[name]) for name in said}) > 1:
            raise refused(names[1], theirs[names[1]], [theirs[names[0]]])
        return {"num_experts": whole(theirs, said[0]) if said else count}

    def write(ours: Settings) -> Settings:
        if ours["num_experts"] is None:
            raise CannotExpress("num_experts = None: all of its MLPs are experts")
        return {names[0]: ours["num_experts"]}

    rule = Rule(dict.fromkeys(names), read, write)
    return rule, Key("num_experts_per_tok", "experts_per_token", chosen)


def _no_layers_without(theirs: Settings) -> Settings:
    if theirs["mlp_only_layers"]:
        raise refused("mlp_only_layers", theirs["mlp_only_layers"], [[]])
    return {}


FAMILIES = (
    Family(
        name="olmoe",
        classes=classes("Olmoe", "ForSequenceClassification", "ForTokenClassification"),
        fields=FIELDS | {"qk_norm": True, "qk_norm_over": "width"},
        keys=(
            *(
                key
                for key in sizes(
                    vocab_size=50304,
                    hidden_size=2048,
                    intermediate_size=2048,
                    num_hidden_layers=16,
                    num_attention_heads=16,
                    max_position_embeddings=4096,
                    rms_norm_eps=1e-5,
                )
                if key.field != "head_dim"
            ),
            rotary(theta=10000.0),
            BIASES[0],
            Fixed("clip_qkv", None),
            *_experts(64, chosen=8),
            _NORMALIZE,
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights={**ENDS, **_ATTENTION, **NORMS, **WIDE_QK_NORMS, **_EXPERTS},
        heads=HEADS,
        tied=TIED,
        fused=_FUSED,
    ),
    Family(
        name="flex_olmo",
        classes=classes("FlexOlmo", "ForSequenceClassification", "ForTokenClassification"),
        fields=FIELDS | {"variant": "res_post_norm", "qk_norm": True, "qk_norm_over": "width"},
        keys=(
            *(
                key
                for key in sizes(
                    vocab_size=100352,
                    max_position_embeddings=4096,
                )
                if key.field != "head_dim"
            ),
            rotary(theta=500000.0),
            BIASES[0],
            *_experts(7, chosen=5),
            _NORMALIZE,
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights={
            **ENDS,
            **_ATTENTION,
            **NORMS_BEHIND,
            **WIDE_QK_NORMS,
            **_EXPERTS,
        },
        heads=HEADS,
        tied=TIED,
        fused=_FUSED,
    ),
    Family(
        name="qwen3_moe",
        classes=classes("Qwen3Moe"),
        fields=FIELDS | {"qk_norm": True},
        keys=(
            *sizes(
                {"intermediate_size": "moe_intermediate_size"},
                vocab_size=151936,
                hidden_size=2048,
                intermediate_size=768,
                num_hidden_layers=24,
                num_key_value_heads=4,
                max_position_embeddings=32768,
            ),
            rotary(theta=10000.0),
            BIASES[0],
            windows(
                window=4096,
                layers=alike,
                keys={"use_sliding_window": False},
                write=lambda ours: {"use_sliding_window": ours["window"] is not None},
                listed=False,
            ),
            Fixed("decoder_sparse_step", 1),
            Rule({"mlp_only_layers": None}, _no_layers_without, lambda _: {"mlp_only_layers": []}),
            *_experts(128, chosen=8),
            _NORMALIZE,
        ),
        # Of layers without experts.
        ignored_keys=(*IGNORED_KEYS, "intermediate_size", "max_window_layers"),
        prefix="model.",
        weights={**ENDS, **_ATTENTION, **NORMS, **QK_NORMS, **_EXPERTS},
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        tied=TIED,
        fused=_FUSED,
    ),
)
