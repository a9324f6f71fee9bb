"""OLMo 2 (2501.00656) and OLMo 3: norms behind the branches, and on all queries, all keys."""

from __future__ import annotations

from zoo.hf.families.llama import (
    BIASES,
    BRANCHES,
    ENDS,
    FIELDS,
    LAYER,
    classes,
    decoder,
    sizes,
)
from zoo.hf.rotary import rotary, rotary_of_kinds
from zoo.hf.weights import norm
from zoo.hf.windows import every, windows

# The norms, where they stand behind the branches.
NORMS_BEHIND = {
    **norm("self_attention/residual/norm_branch", f"{LAYER}.post_attention_layernorm"),
    **norm("mlp/residual/norm_branch", f"{LAYER}.post_feedforward_layernorm"),
}
QK_NORMS = {
    **norm("self_attention/branch/q_norm/norm", f"{LAYER}.self_attn.q_norm"),
    **norm("self_attention/branch/k_norm/norm", f"{LAYER}.self_attn.k_norm"),
}
_FIELDS = FIELDS | {"variant": "res_post_norm", "qk_norm": True, "qk_norm_over": "width"}
_KEYS = (*sizes(vocab_size=50304, rms_norm_eps=1e-5), BIASES[0])
_WEIGHTS = {**ENDS, **BRANCHES, **NORMS_BEHIND, **QK_NORMS}
_KINDS = every(4)

FAMILIES = (
    decoder(
        name="olmo2",
        classes=classes("Olmo2", "ForTokenClassification"),
        fields=_FIELDS,
        keys=(*_KEYS, rotary(theta=10000.0)),
        weights=_WEIGHTS,
    ),
    decoder(
        name="olmo3",
        classes=classes("Olmo3", "ForTokenClassification"),
        fields=_FIELDS,
        keys=(
            *_KEYS,
            windows(window=4096, layers=_KINDS),
            # A `rope_theta` outside `rope_parameters` is the base in full layers alone.
            rotary_of_kinds(theta=500000.0, local_theta=500000.0, layers=_KINDS),
        ),
        weights=_WEIGHTS,
    ),
)
