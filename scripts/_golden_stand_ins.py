"""Residuals of transformers' families whose attention and MLP are more than ours.

A family's own decoder layer joins LLaMA's attention and MLP, or a part of its own is switched off;
embedding, positions and head are written out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from _golden_transformers import HEAD_DIM, LAYERS, llama_attention, llama_mlp, sizes, stand_in
from _golden_tree import (
    D_MODEL,
    LENGTH,
    NUM_HEADS,
    VOCAB,
    Array,
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

STREAMS = 3


def _rotary(x: Any) -> tuple[Any, Any]:
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    return LlamaRotaryEmbedding(LlamaConfig(**sizes()))(x, torch.arange(LENGTH)[None])


def _run(layers: Sequence[Any], carry: Any, embedded: Any) -> Any:
    import torch

    mask = torch.full((LENGTH, LENGTH), float("-inf"), dtype=torch.float64).triu(1)
    for layer in layers:
        carry = layer(carry, attention_mask=mask[None, None], position_embeddings=_rotary(embedded))
    return carry


def _ends() -> Any:
    import torch

    head = torch.nn.Linear(D_MODEL, VOCAB, bias=False)
    return torch.nn.ModuleDict({"tokens": torch.nn.Embedding(VOCAB, D_MODEL), "head": head})


def _rms_norm() -> Any:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    return LlamaRMSNorm(D_MODEL, 1e-5)


def _golden(
    variant: str, ends: Any, params: Tree, ids: Any, hidden: Any, logits: Any, **config: Any
) -> Golden:
    ours: dict[str, Any] = {
        "num_layers": LAYERS,
        "num_kv_heads": sizes()["num_key_value_heads"],
        "positions": "rotary",
        "embedding_scale": False,
        "activation": "silu",
        "gated": True,
        "bias": False,
        "norm": "rms_norm",
        "norm_eps": 1e-5,
    }
    own = {"embedding": {"tokens": single(ends["tokens"].weight)}, "head": linear(ends["head"])}
    return Golden(
        config=base_config(variant=variant, **ours | config),
        params=own | params,
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": hidden, "logits": logits},
    )


def mhc() -> Golden:
    """DeepSeek-V4's manifold-constrained hyper-connections, with its own way out of the streams."""
    import torch
    from transformers import DeepseekV4Config
    from transformers.models.deepseek_v4 import modeling_deepseek_v4 as family

    config = DeepseekV4Config(
        **sizes(
            hc_mult=STREAMS,
            q_lora_rank=8,
            o_lora_rank=8,
            o_groups=2,
            layer_types=["sliding_attention"] * LAYERS,
            n_routed_experts=2,
            num_experts_per_tok=1,
        )
    )
    layers = torch.nn.ModuleList(
        family.DeepseekV4DecoderLayer(config, index) for index in range(LAYERS)
    )
    for index, layer in enumerate(layers):
        stand_in(layer, index)
        # Its MLP is told the tokens as well, for routing by hash.
        layer.mlp.register_forward_pre_hook(lambda _, x, __: (x, {}), with_kwargs=True)
    ends, head, final = _ends(), family.DeepseekV4HyperHead(config), _rms_norm()
    for part in [head, *(part for layer in layers for part in (layer.attn_hc, layer.ffn_hc))]:
        for param in part.parameters():
            # Far from even, so that a mixture and its transpose give different models.
            torch.nn.init.normal_(param, std=2.0)
    randomise(torch.nn.ModuleList([layers, ends, head, final]))
    ids = tokens(1)
    x = ends["tokens"](ids)
    carry = x.unsqueeze(2).expand(-1, -1, STREAMS, -1).contiguous()
    hidden = final(head(_run(layers, carry, x)))

    def connection(part: Any) -> Tree:
        return {
            "kernel": single(part.fn).T,
            "base": single(part.base),
            "scale": single(part.scale),
        }

    def sublayers(layer: Any) -> list[Tree]:
        return [
            {
                "branch": llama_attention(layer.self_attn),
                "residual": {
                    "norm_in": norm(layer.input_layernorm),
                    "mapping": connection(layer.attn_hc),
                },
            },
            {
                "branch": llama_mlp(layer.mlp),
                "residual": {
                    "norm_in": norm(layer.post_attention_layernorm),
                    "mapping": connection(layer.ffn_hc),
                },
            },
        ]

    out = {
        "kernel": single(head.hc_fn).T,
        "base": single(head.hc_base),
        "scale": single(head.hc_scale),
    }
    params = {
        "stack": {
            "ends": {"head": out},
            **blocks([sublayers(layer) for layer in layers]),
        },
        "final_norm": norm(final),
    }
    return _golden(f"mhc(streams={STREAMS})", ends, params, ids, hidden, ends["head"](hidden))


def variance_gate() -> Golden:
    """Muse Spark's gated sandwich; its own gain inside the MLP's second norm stays at 1."""
    import torch
    from transformers.models.muse_spark import modeling_muse_spark as family
    from transformers.models.muse_spark.configuration_muse_spark import MuseSparkTextConfig

    config = MuseSparkTextConfig(**sizes(mlp_layer_types=["dense"] * LAYERS))
    layers = torch.nn.ModuleList(
        family.MuseSparkTextDecoderLayer(config, index) for index in range(LAYERS)
    )
    for index, layer in enumerate(layers):
        stand_in(layer, index)
        for gate in (layer.post_attention_residual_gate, layer.post_feedforward_residual_gate):
            torch.nn.init.zeros_(gate.gate)
    ends, final = _ends(), _rms_norm()
    embedding_norm = family.MuseSparkRMSNorm(eps=1e-5, with_scale=False)
    randomise(torch.nn.ModuleList([layers, ends, final]))
    for layer in layers:
        torch.nn.init.zeros_(layer.post_feedforward_layernorm.weight)
    ids = tokens(1)
    x = embedding_norm(ends["tokens"](ids))
    hidden = final(_run(layers, x, x))

    def around(before: Any, gate: Any) -> Tree:
        return {"norm_in": {"gain": single(before.weight + 1.0)}, "gate": single(gate.gate)}

    def sublayers(layer: Any) -> list[Tree]:
        return [
            {
                "branch": llama_attention(layer.self_attn),
                "residual": around(layer.input_layernorm, layer.post_attention_residual_gate),
            },
            {
                "branch": llama_mlp(layer.mlp),
                "residual": around(
                    layer.pre_feedforward_layernorm, layer.post_feedforward_residual_gate
                ),
            },
        ]

    params = {
        "stack": blocks([sublayers(layer) for layer in layers]),
        "final_norm": norm(final),
    }
    return _golden("variance_gate", ends, params, ids, hidden, ends["head"](hidden))


def ngpt() -> Golden:
    """Dory's layers, which are nGPT's on the way through.

    Its gate on the attention's output is held at sigmoid(0) = 1/2, which twice the output matrix
    makes up for, and its norms before output matrices are off.
    """
    import torch
    from transformers import DoryConfig
    from transformers.models.dory import modeling_dory as family

    # Our keys share a scale with their queries, so there are as many of both.
    config = DoryConfig(
        **sizes(layer_types=["full_attention"] * LAYERS, num_key_value_heads=NUM_HEADS)
    )
    layers = torch.nn.ModuleList(family.DoryDecoderLayer(config, index) for index in range(LAYERS))
    ends, head, final = _ends(), family.DoryLMHead(config), family.DoryL2Norm()
    randomise(torch.nn.ModuleList([layers, ends, head]))
    for layer in layers:
        torch.nn.init.zeros_(layer.self_attn.gate_proj.weight)
        layer.self_attn.attn_sub_norm = layer.mlp.ffn_sub_norm = torch.nn.Identity()
        layer.self_attn.o_proj.weight.data *= 2.0
    for part in [final, *layers.modules()]:
        if isinstance(part, family.DoryL2Norm):
            part.eps = 1e-12  # nGPT's code has none
    ids = tokens(1)
    x = ends["tokens"](ids)
    hidden = final(_run(layers, x, x))
    ends["head"] = head

    def rate(stored: Any) -> Array:
        """Ours is stored at d^-1/2 where it starts at 0.05, theirs where it starts at 0.05."""
        return single(stored * layers[0].lambda_scale / (0.05 * D_MODEL**0.5))

    def sublayers(layer: Any) -> list[Tree]:
        own, mlp = layer.self_attn, layer.mlp
        attention = llama_attention(own)
        attention["o"]["kernel"] = attention["o"]["kernel"] / 2.0
        scale = single(own.sqk * own.sqk_scale / HEAD_DIM**0.5 / D_MODEL**0.5)
        attention["qk_scale"] = {"array": scale.reshape(NUM_HEADS, 1, HEAD_DIM)}
        hidden_scales = {
            "hidden_scale": {"array": single(mlp.suv_gate)},
            # Its sqrt(d) on this side does not outlive the norm of the branch.
            "product_scale": {"array": single(mlp.suv_up)},
        }
        return [
            {"branch": attention, "residual": {"branch": rate(layer.lambda_1)}},
            {
                "branch": {**llama_mlp(mlp), **hidden_scales},
                "residual": {"branch": rate(layer.lambda_2)},
            },
        ]

    params = {
        "stack": blocks([sublayers(layer) for layer in layers]),
        "head": {
            **linear(head),
            "logit_scale": single(head.logit_scale * head.logit_scale_factor / D_MODEL**0.5),
        },
    }
    return _golden("ngpt", ends, params, ids, hidden, head(hidden), num_kv_heads=NUM_HEADS)


MAKERS: dict[str, Maker] = {
    "mhc_deepseek_v4": mhc,
    "variance_gate_muse_spark": variance_gate,
    "ngpt_dory": ngpt,
}
