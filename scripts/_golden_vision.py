"""Vision encoders of transformers: ViT, which is pre-norm, and DINOv2, which has LayerScale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _golden_tree import (
    BATCH,
    D_FF,
    D_MODEL,
    NUM_HEADS,
    Array,
    Golden,
    Maker,
    Tree,
    attention,
    blocks,
    linear,
    norm,
    randomise,
    single,
)

LAYERS, IMAGE, PATCH, CHANNELS, LABELS = 3, 12, 4, 3, 5


def _settings() -> dict[str, Any]:
    return {
        "hidden_size": D_MODEL,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": NUM_HEADS,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "num_channels": CHANNELS,
        "attn_implementation": "eager",
    }


def _images() -> Any:
    """[batch, channels, height, width] noise of float16's precision."""
    import torch

    generator = torch.Generator().manual_seed(1)
    images = torch.randn((BATCH, CHANNELS, IMAGE, IMAGE), generator=generator)
    return images.half().double()


def _embedding(module: Any) -> Tree:
    projection = module.patch_embeddings.projection
    kernel = single(projection.weight).transpose(2, 3, 1, 0).reshape(-1, D_MODEL)
    return {
        "patches": {"kernel": kernel, "bias": single(projection.bias)},
        "class_token": single(module.cls_token)[0],
        "table": single(module.position_embeddings)[0],
    }


def _golden(
    variant: str,
    body: Any,
    layers: Any,
    sublayers: Callable[[Any], list[Tree]],
    outputs: dict[str, Any],
    images: Any,
    **config: Any,
) -> Golden:
    pixels: Array = images.numpy().transpose(0, 2, 3, 1)
    shared = {
        "architecture": "vision",
        "variant": variant,
        "d_model": D_MODEL,
        "d_ff": D_FF,
        "num_layers": LAYERS,
        "num_heads": NUM_HEADS,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "num_channels": CHANNELS,
    }
    return Golden(
        config={**shared, **config},
        params={
            "embedding": _embedding(body.embeddings),
            "stack": blocks([sublayers(layer) for layer in layers]),
            "final_norm": norm(body.layernorm),
        },
        inputs={"pixel_values": pixels},
        outputs=outputs,
    )


def vit() -> Golden:
    """With its classifier on the class token."""
    from transformers import ViTConfig, ViTForImageClassification

    settings = {**_settings(), "intermediate_size": D_FF, "num_labels": LABELS}
    model = ViTForImageClassification(ViTConfig(**settings))
    randomise(model)
    images = _images()

    def sublayers(layer: Any) -> list[Tree]:
        own, mlp = layer.attention, layer.mlp
        return [
            {
                "branch": attention(own.q_proj, own.k_proj, own.v_proj, own.o_proj),
                "residual": {"norm_in": norm(layer.layernorm_before)},
            },
            {
                "branch": {"w1": linear(mlp.fc1), "w2": linear(mlp.fc2)},
                "residual": {"norm_in": norm(layer.layernorm_after)},
            },
        ]

    outputs = {"hidden": model.vit(images).last_hidden_state, "logits": model(images).logits}
    config = {"num_labels": LABELS, "norm_eps": 1e-12}
    golden = _golden("pre_norm", model.vit, model.vit.layers, sublayers, outputs, images, **config)
    golden.params["head"] = {"linear": linear(model.classifier)}
    return golden


def dino_v2() -> Golden:
    """Without a head."""
    from transformers import Dinov2Config, Dinov2Model

    model = Dinov2Model(Dinov2Config(**_settings(), mlp_ratio=2, layerscale_value=0.5))
    randomise(model)
    images = _images()

    def sublayers(layer: Any) -> list[Tree]:
        own, mlp = layer.attention, layer.mlp
        return [
            {
                "branch": attention(own.q_proj, own.k_proj, own.v_proj, own.o_proj),
                "residual": {
                    "norm_in": norm(layer.norm1),
                    "branch": single(layer.layer_scale1.lambda1),
                },
            },
            {
                "branch": {"w1": linear(mlp.fc1), "w2": linear(mlp.fc2)},
                "residual": {
                    "norm_in": norm(layer.norm2),
                    "branch": single(layer.layer_scale2.lambda1),
                },
            },
        ]

    outputs = {"hidden": model(images).last_hidden_state}
    config = {"head": "none", "norm_eps": 1e-6, "d_ff": 2 * D_MODEL}
    return _golden("layer_scale", model, model.encoder.layer, sublayers, outputs, images, **config)


MAKERS: dict[str, Maker] = {"pre_norm_vit": vit, "layer_scale_dino_v2": dino_v2}
