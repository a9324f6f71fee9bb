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
            "embedding": _embedding(ends),
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


def _layers(kind: str) -> Any:
    import torch

    make = getattr(torch.nn, f"Transformer{kind}Layer")
    sizes = {"d_model": D_MODEL, "nhead": NUM_HEADS, "dim_feedforward": D_FF}
    return torch.nn.ModuleList(
        make(**sizes, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2)
    )


def _embedding(ends: Any) -> Tree:
    return {"tokens": single(ends["tokens"].weight), "table": single(ends["positions"].weight)}


def encoder_decoder() -> Golden:
    """torch's pre-norm layers, two on each side; masks hide the end of a source and a target."""
    import torch

    encoder, decoder = _layers("Encoder"), _layers("Decoder")
    source, target = _ends(), _ends()
    norms = torch.nn.ModuleList(torch.nn.LayerNorm(D_MODEL) for _ in range(2))
    randomise(torch.nn.ModuleList([encoder, decoder, source, target, norms]))
    source_ids, ids = tokens(1), tokens(2)
    hidden_source = torch.zeros(source_ids.shape, dtype=torch.bool)
    hidden_source[1, 4:] = True
    hidden_target = torch.zeros(ids.shape, dtype=torch.bool)
    hidden_target[0, 5:] = True
    later = torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)
    x = source["tokens"](source_ids) + source["positions"].weight
    for layer in encoder:
        x = layer(x, src_key_padding_mask=hidden_source)
    encoded = norms[0](x)
    y = target["tokens"](ids) + target["positions"].weight
    for layer in decoder:
        y = layer(
            y,
            encoded,
            tgt_mask=later,
            tgt_key_padding_mask=hidden_target,
            memory_key_padding_mask=hidden_source,
        )
    y = norms[1](y)
    return Golden(
        config=_config(
            "pre_norm", architecture="encoder_decoder", num_encoder_layers=2, num_decoder_layers=2
        ),
        params={
            "embedding": _embedding(source),
            "encoder": {
                "stack": blocks([_sublayers(layer, "norm_in") for layer in encoder]),
                "final_norm": norm(norms[0]),
            },
            "decoder_embedding": _embedding(target),
            "decoder": {
                "stack": blocks([_sublayers(layer, "norm_in") for layer in decoder]),
                "final_norm": norm(norms[1]),
            },
            "head": linear(target["head"]),
        },
        inputs={
            "input_ids": source_ids.numpy(),
            "decoder_input_ids": ids.numpy(),
            "attention_mask": ~hidden_source.numpy(),
            "decoder_attention_mask": ~hidden_target.numpy(),
        },
        outputs={"hidden": y, "logits": target["head"](y)},
    )


REZERO: dict[str, Maker] = {"rezero_decoder": rezero}
TORCH: dict[str, Maker] = {"pre_norm_encoder_decoder": encoder_decoder}
