"""Placements of x-transformers 1.44.8 whose equations are the papers', as our parameters.

Version 1 is meant: version 2 dropped ResiDual, and bounds its hyper-connections with further
sigmoids, which is neither paper's equation. Left out because x-transformers differs:
KEEL (version 2 alone; its first layer has the outer norms too), NormFormer (a sandwich norm there
is around the MLP as well), the aggregated attention residuals (queries of another form).
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """Its norms have no bias, and may store gain - 1."""
    gain = module.gamma if hasattr(module, "gamma") else module.g
    return {"gain": single(gain + float(module.unit_offset))}


def _sublayer(kind: str, norms: Any, module: Any) -> Tree:
    residual: Tree = {
        slot: _norm(part) for slot, part in zip(SLOTS, norms, strict=True) if part is not None
    }
    if hasattr(module, "fn"):  # LayerScale around F
        residual["branch"] = single(module.gamma + float(module.unit_offset))
        module = module.fn
    if kind == "f":
        first, last = module.ff[0][0], module.ff[-1]
        branch = {"w1": linear(first), "w2": linear(last)}
    else:
        # Attention has no biases there, the MLP has.
        parts = (module.to_q, module.to_k, module.to_v, module.to_out)
        branch = attention(*parts, bias=True)
    return {"branch": branch, "residual": residual}


def _stack(layers: Any) -> Tree:
    sublayers = [
        _sublayer(kind, norms, module)
        for kind, (norms, module, _) in zip(layers.layer_types, layers.layers, strict=True)
    ]
    each = len(sublayers) // LAYERS
    return blocks([sublayers[start : start + each] for start in range(0, len(sublayers), each)])


def decoder(variant: str, *, eps: float = 1e-5, **switches: Any) -> Golden:
    """A decoder with learned positions, exact gelu and gains without shifts."""
    from x_transformers import Decoder, TransformerWrapper

    wrapper = {name: switches.pop(name) for name in ("post_emb_norm",) if name in switches}
    layers = Decoder(
        dim=D_MODEL,
        depth=LAYERS,
        heads=NUM_HEADS,
        attn_dim_head=D_MODEL // NUM_HEADS,
        ff_mult=D_FF / D_MODEL,
        **switches,
    )
    model = TransformerWrapper(num_tokens=VOCAB, max_seq_len=LENGTH, attn_layers=layers, **wrapper)
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
    if wrapper.get("post_emb_norm"):
        params["embedding_norm"] = _norm(model.post_emb_norm)
    if hasattr(layers.final_norm, "unit_offset"):
        params["final_norm"] = _norm(layers.final_norm)
    config = base_config(
        variant=variant,
        num_layers=LAYERS,
        positions="learned",
        embedding_scale=False,
        activation="gelu",
        norm="rms_norm" if switches.get("use_rmsnorm") else "layer_norm",
        norm_eps=eps,
        norm_bias=False,
    )
    return Golden(
        config=config,
        params=params,
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": model(ids, return_embeddings=True), "logits": model(ids)},
    )


# torch's normalize, behind its RMSNorm, takes the root of the sum alone.
_RMS: Mapping[str, Any] = {"use_rmsnorm": True, "eps": 1e-12}

MAKERS: dict[str, Maker] = {
    "post_norm_decoder": lambda: decoder("post_norm", pre_norm=False),
    "pre_norm_decoder": lambda: decoder("pre_norm", **_RMS),
    "sandwich_norm_decoder": lambda: decoder("sandwich_norm", sandwich_norm=True, **_RMS),
    "peri_norm_decoder": lambda: decoder("peri_norm", sandwich_norm=True, post_emb_norm=True),
}
