"""Placements of x-transformers whose equations are the papers', as our parameters.

Of version 1 (1.44.8) where both have it: version 2 dropped ResiDual, and bounds its
hyper-connections with further sigmoids, which is neither paper's equation. Of version 2, what
version 1 lacks. NormFormer and KEEL are made of switches that set a little too much. Left out, for
their equations differ: the aggregated attention residuals (queries of another form) and version
2's hyper-connections.
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
    if hasattr(residual, "static_alpha"):
        around["mixing"] = _hyper_connection(residual)
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


def _hyper_connection(module: Any) -> Tree:
    """Its static_alpha is [streams, 1 + streams]: what a row gives to the input, then to each."""
    return {
        "read": single(module.static_alpha[:, :1]),
        "carry": single(module.static_alpha[:, 1:]),
        "write": single(module.static_beta),
        "norm": {"gain": single(module.norm.weight)},
        "into_alpha": single(module.dynamic_alpha_fn),
        "into_beta": single(module.dynamic_beta_fn)[:, None],
        "alpha_scale": single(module.dynamic_alpha_scale),
        "beta_scale": single(module.dynamic_beta_scale),
    }


def _stack(layers: Any) -> Tree:
    sublayers = [
        _sublayer(kind, *parts)
        for kind, parts in zip(layers.layer_types, layers.layers, strict=True)
    ]
    if _is_dual(layers):  # its post-norm stream is a plain one within ours
        sublayers = [each | {"residual": {"plain": each["residual"]}} for each in sublayers]
    depth = len(sublayers) // LAYERS
    tree = blocks([sublayers[start : start + depth] for start in range(0, len(sublayers), depth)])
    if _is_dual(layers):
        tree["ends"] = {"norm_end": _norm(layers.final_norm)}
    return tree


def _is_dual(layers: Any) -> bool:
    return getattr(layers, "resi_dual", False)  # version 2 does not have it


def _norm_former(layers: Any) -> None:
    """Take off what NormFormer has in one kind of sublayer only, and a switch sets in both."""
    for kind, (norms, _, residual) in zip(layers.layer_types, layers.layers, strict=True):
        if kind == "a":
            residual.residual_scale = None
        else:
            norms[SLOTS.index("norm_branch")] = None


def _keel(layers: Any) -> None:
    """Take the factor off the first layer, and the outer norm off its attention."""
    for _, _, residual in layers.layers[:2]:
        residual.scale_residual_constant = 1.0
    layers.layers[0][0][SLOTS.index("norm_out")] = None


def _small_eps(layers: Any) -> None:
    """ResiDual's own eps in the norm of the running sum."""
    layers.final_norm.ln.eps = 1e-7


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
    if layers.stream_emb is not None:
        # Its rows start apart from one another by a learned embedding, the paper's do not.
        layers.stream_emb.data.zero_()
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
    if not _is_dual(layers) and any(True for _ in layers.final_norm.parameters()):
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
    "residual_dual_decoder": lambda: decoder(
        "residual_dual(input_scale=0.5)", resi_dual=True, resi_dual_scale=0.5, prepare=_small_eps
    ),
    "hyper_connections_decoder": lambda: decoder(
        "hyper_connections(streams=3)", num_residual_streams=3
    ),
    "norm_former_decoder": lambda: decoder(
        "norm_former(res_scale=True)",
        prepare=_norm_former,
        sandwich_norm=True,
        attn_head_scale=True,
        ff_post_act_ln=True,
        scale_residual=True,
    ),
}

# What version 1 lacks; the layers around it are the same.
MAKERS_2: dict[str, Maker] = {
    "dyt_decoder": lambda: decoder("pre_norm", norm="dyt", use_dynamic_tanh=True),
    "derf_decoder": lambda: decoder("pre_norm", norm="derf", use_derf=True),
    "keel_decoder": lambda: decoder(
        "keel",
        prepare=_keel,
        pre_and_post_norm=True,
        scale_residual_constant=2 * LAYERS,
        **_RMS,
    ),
}
