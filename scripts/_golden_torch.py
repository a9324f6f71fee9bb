"""Layers made of torch.nn's attention: torch's own, and ReZero as its authors wrote it."""

from __future__ import annotations

from typing import Any

import numpy as np
from _golden_tree import (
    D_FF,
    D_MODEL,
    LENGTH,
    NUM_HEADS,
    VOCAB,
    Golden,
    Maker,
    Tree,
    base_config,
    blocks,
    linear,
    norm,
    randomise,
    single,
    tokens,
)

LAYERS = 3


def _attention(module: Any) -> Tree:
    """A MultiheadAttention keeps q, k and v in one matrix."""
    tree: Tree = {"o": linear(module.out_proj)}
    kernels = np.split(single(module.in_proj_weight), 3)
    biases = np.split(single(module.in_proj_bias), 3)
    for name, kernel, bias in zip("qkv", kernels, biases, strict=True):
        tree[name] = {"kernel": kernel.T, "bias": bias}
    return tree


def _mlp(layer: Any) -> Tree:
    return {"w1": linear(layer.linear1), "w2": linear(layer.linear2)}


def _ends() -> Any:
    """Embeddings and a head around somebody's layers."""
    import torch

    return torch.nn.ModuleDict(
        {
            "tokens": torch.nn.Embedding(VOCAB, D_MODEL),
            "positions": torch.nn.Embedding(LENGTH, D_MODEL),
            "head": torch.nn.Linear(D_MODEL, VOCAB, bias=False),
        }
    )


def _config(variant: str, **changes: Any) -> dict[str, Any]:
    shared: dict[str, Any] = {"embedding_scale": False, "activation": "relu"}
    return base_config(variant=variant, num_layers=LAYERS, **shared | changes)


def rezero() -> Golden:
    """Three layers with a causal mask; both sublayers of a layer share their multiplier there."""
    import torch
    from rezero.transformer import RZTXEncoderLayer

    layers = torch.nn.ModuleList(
        RZTXEncoderLayer(D_MODEL, NUM_HEADS, D_FF, dropout=0.0) for _ in range(LAYERS)
    )
    ends = _ends()
    randomise(torch.nn.ModuleList([layers, ends]))
    ids = tokens(1)
    x = ends["tokens"](ids) + ends["positions"].weight
    later = torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)
    x = x.transpose(0, 1)  # the length comes first there
    for layer in layers:
        x = layer(x, src_mask=later)
    x = x.transpose(0, 1)

    def sublayers(layer: Any) -> list[Tree]:
        residual = {"branch": single(layer.resweight)[0]}
        return [
            {"branch": _attention(layer.self_attn), "residual": residual},
            {"branch": _mlp(layer), "residual": residual},
        ]

    return Golden(
        config=_config("rezero"),
        params={
            "embedding": {
                "tokens": single(ends["tokens"].weight),
                "table": single(ends["positions"].weight),
            },
            "stack": blocks([sublayers(layer) for layer in layers]),
            "head": linear(ends["head"]),
        },
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": x, "logits": ends["head"](x)},
    )


def _sublayers(layer: Any, slot: str) -> list[Tree]:
    """A TransformerEncoderLayer, or a TransformerDecoderLayer with cross-attention."""
    branches = [_attention(layer.self_attn)]
    norms = [layer.norm1, layer.norm2]
    if hasattr(layer, "multihead_attn"):
        branches.append(_attention(layer.multihead_attn))
        norms.append(layer.norm3)
    branches.append(_mlp(layer))
    return [
        {"branch": branch, "residual": {slot: norm(around)}}
        for branch, around in zip(branches, norms, strict=True)
    ]


def _layers(kind: str, *, before: bool) -> Any:
    import torch

    make = getattr(torch.nn, f"Transformer{kind}Layer")
    sizes = {"d_model": D_MODEL, "nhead": NUM_HEADS, "dim_feedforward": D_FF}
    return torch.nn.ModuleList(
        make(**sizes, dropout=0.0, batch_first=True, norm_first=before) for _ in range(LAYERS)
    )


REZERO: dict[str, Maker] = {"rezero_decoder": rezero}
