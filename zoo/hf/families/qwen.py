"""Qwen 2 and 3: LLaMA with biases on queries, keys and values, then with norms on queries and
keys instead, and with windows in the last layers."""

from __future__ import annotations

from zoo.hf.families.llama import (
    BIASES,
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
    sizes,
)
from zoo.hf.family import Family
from zoo.hf.keys import Settings
from zoo.hf.rotary import rotary
from zoo.hf.weights import norm
from zoo.hf.windows import whole, windows

QK_NORMS = {
    **norm("self_attention/branch/q_norm", f"{LAYER}.self_attn.q_norm"),
    **norm("self_attention/branch/k_norm", f"{LAYER}.self_attn.k_norm"),
}


def _letters(theirs: Settings) -> str:
    """Windows in the layers behind the first `max_window_layers`."""
    depth, full = whole(theirs, "num_hidden_layers"), whole(theirs, "max_window_layers", 0)
    if not theirs["use_sliding_window"] or theirs["sliding_window"] is None:
        full = depth
    full = min(full, depth)
    return "G" * full + "L" * (depth - full)


_SIZES: dict[str, int] = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
}
_SHARED = (
    rotary(theta=10000.0),
    windows(
        window=4096,
        layers=_letters,
        keys={"use_sliding_window": False, "max_window_layers": 28},
        write=lambda ours: {"use_sliding_window": ours["window"] is not None},
    ),
)

FAMILIES = (
    Family(
        name="qwen2",
        classes=classes("Qwen2"),
        fields=FIELDS | {"attention_bias": "qkv"},
        keys=(*sizes(**_SIZES), *_SHARED),
        # Of pictures, which this class does not see.
        ignored_keys=(*IGNORED_KEYS, "use_mrope"),
        prefix="model.",
        weights={**ENDS, **BRANCHES, **NORMS},
        heads=HEADS,
        head_fields=HEAD_FIELDS,
        tied=TIED,
    ),
    decoder(
        name="qwen3",
        classes=classes("Qwen3"),
        fields=FIELDS | {"qk_norm": True},
        keys=(*sizes(head_dim=128, **_SIZES), BIASES[0], *_SHARED),
        weights={**ENDS, **BRANCHES, **NORMS, **QK_NORMS},
    ),
)
