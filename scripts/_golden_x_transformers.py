"""Placements of x-transformers 1.44.8 whose equations are the papers', as our parameters.

Version 1 is meant: version 2 dropped ResiDual, and bounds its hyper-connections with further
sigmoids, which is neither paper's equation. Left out because x-transformers differs:
KEEL (version 2 alone; its first layer has the outer norms too), the aggregated attention residuals
(queries of another form). NormFormer is made of its switches, one of which sets too much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from _golden_tree import (
    D_FF,
    D_MODEL,
    LENGTH,
    NUM_HEADS,
    VOCAB,
    Golden,
    Maker,
    Tree,
    attention,
    base_config,
    blocks,
    linear,
    randomise,
    single,
    tokens,
)

LAYERS = 3
SLOTS = ("norm_in", "norm_branch", "norm_out")


def _norm(module: Any) -> Tree:
    """Any of its norms; none has a shift but the point functions, and gains may be stored - 1."""
    offset = float(getattr(module, "unit_offset", 0.0))
    match type(module).__name__:
        case "DynamicTanh":
            return {
                "alpha": single(module.pre_tanh_scale + module.pre_tanh_scale_offset),
                "gain": single(module.gamma + module.gamma_offset),
                "bias": single(module.beta),
            }
        case "Derf":
            return {
                "alpha": single(module.alpha + module.scale_offset),
                "shift": single(module.s),
                "gain": single(module.gamma + module.scale_offset),
                "bias": single(module.beta),
            }
        case "ScaleNorm":
            return {"gain": single(module.g + offset)[0]}
        case "RMSNorm":
            return {"gain": single(module.g + offset)}
    return {"gain": single(module.gamma + offset)}


def _sublayer(kind: str, norms: Any, module: Any, residual: Any) -> Tree:
    around: Tree = {
        slot: _norm(part) for slot, part in zip(SLOTS, norms, strict=True) if part is not None
    }
    if getattr(residual, "residual_scale", None) is not None:
        around["skip"] = single(residual.residual_scale)
    if hasattr(module, "fn"):  # LayerScale around F
        around["branch"] = single(module.gamma + float(module.unit_offset))
        module = module.fn
    if kind == "f":
        branch = {"w1": linear(module.ff[0][0]), "w2": linear(module.ff[-1])}
        for part in module.ff:
            if hasattr(part, "gamma"):
                branch["inner_norm"] = _norm(part)
    else:
        # Attention has no biases there, the MLP has.
        parts = (module.to_q, module.to_k, module.to_v, module.to_out)
        branch = attention(*parts, bias=True)
        if module.head_scale:
            branch["head_scale"] = single(module.head_scale_params).reshape(-1)
    return {"branch": branch, "residual": around}


def _stack(layers: Any) -> Tree:
    sublayers = [
        _sublayer(kind, *parts)
        for kind, parts in zip(layers.layer_types, layers.layers, strict=True)
    ]
    each = len(sublayers) // LAYERS
    return blocks([sublayers[start : start + each] for start in range(0, len(sublayers), each)])


def _norm_former(layers: Any) -> None:
    """Take off what NormFormer has in one kind of sublayer only, and a switch sets in both."""
    for kind, (norms, _, residual) in zip(layers.layer_types, layers.layers, strict=True):
        if kind == "a":
            residual.residual_scale = None
        else:
            norms[SLOTS.index("norm_branch")] = None


def decoder(
    variant: str,
    *,
    norm: str = "layer_norm",
    eps: float = 1e-5,
    prepare: Callable[[Any], None] | None = None,
    wrapper: Mapping[str, Any] | None = None,
    **switches: Any,
) -> Golden:
    """A decoder with learned positions, exact gelu and gains without shifts.

    Args:
        norm, eps: our names of its norms.
        prepare: changes the layers before their weights are drawn.
        wrapper: switches of what is around the layers.
        switches: of the layers.
    """
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=D_MODEL,
        depth=LAYERS,
        heads=NUM_HEADS,
        attn_dim_head=D_MODEL // NUM_HEADS,
        ff_mult=D_FF / D_MODEL,
        **switches,
    )
    if prepare is not None:
        prepare(layers)
    model = TransformerWrapper(
        num_tokens=VOCAB, max_seq_len=LENGTH, attn_layers=layers, **wrapper or {}
    )
    randomise(model)
    ids = tokens(1)
    positions = model.pos_emb
    params: Tree = {
        "embedding": {
            "tokens": single(model.token_emb.emb.weight),
            "table": single(positions.emb.weight * positions.scale),
        },
        "stack": _stack(layers),
        "head": linear(model.to_logits),
    }
    if (wrapper or {}).get("post_emb_norm"):
        params["embedding_norm"] = _norm(model.post_emb_norm)
    if layers.pre_norm:
        params["final_norm"] = _norm(layers.final_norm)
    config = base_config(
        variant=variant,
        num_layers=LAYERS,
        positions="learned",
        embedding_scale=False,
        activation="gelu",
        norm=norm,
        norm_eps=eps,
        norm_bias=norm in ("dyt", "derf"),
    )
    return Golden(
        config=config,
        params=params,
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": model(ids, return_embeddings=True), "logits": model(ids)},
    )


# torch's normalize, behind its RMSNorm, takes the root of the sum alone.
_RMS: Mapping[str, Any] = {"norm": "rms_norm", "use_rmsnorm": True, "eps": 1e-12}

MAKERS: dict[str, Maker] = {
    "post_norm_decoder": lambda: decoder("post_norm", pre_norm=False),
    "pre_norm_decoder": lambda: decoder("pre_norm", **_RMS),
    "scale_norm_decoder": lambda: decoder(
        "pre_norm", norm="scale_norm", use_scalenorm=True, eps=1e-12
    ),
    "sandwich_norm_decoder": lambda: decoder("sandwich_norm", sandwich_norm=True, **_RMS),
    "peri_norm_decoder": lambda: decoder(
        "peri_norm", sandwich_norm=True, wrapper={"post_emb_norm": True}
    ),
    "admin_decoder": lambda: decoder("admin", pre_norm=False, scale_residual=True),
    "layer_scale_decoder": lambda: decoder(
        "layer_scale", use_layerscale=True, layerscale_init_value=0.5
    ),
    "norm_former_decoder": lambda: decoder(
        "norm_former",
        prepare=_norm_former,
        sandwich_norm=True,
        attn_head_scale=True,
        ff_post_act_ln=True,
        scale_residual=True,
    ),
}

# Norms that version 1 lacks; the layers around them are the same.
MAKERS_2: dict[str, Maker] = {
    "dyt_decoder": lambda: decoder("pre_norm", norm="dyt", use_dynamic_tanh=True),
    "derf_decoder": lambda: decoder("pre_norm", norm="derf", use_derf=True),
}
