"""Vision encoders of transformers: ViT, which is pre-norm, DINOv2, which has LayerScale, and Swin
V2, which has norms on its branches and stages of windows."""

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


def swin_v2() -> Golden:
    """Two stages: a layer whose windows stand still and one whose windows are moved, then one."""
    from transformers import Swinv2Config, Swinv2ForImageClassification

    settings = _settings() | {"patch_size": 3, "num_labels": LABELS}
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
        del settings[name]
    stages = {"embed_dim": D_MODEL // 2, "depths": [2, 1], "num_heads": [2, 2], "window_size": 2}
    model = Swinv2ForImageClassification(Swinv2Config(**settings, **stages, mlp_ratio=2.0))
    randomise(model)
    images, body = _images(), model.swinv2

    def sublayers(layer: Any) -> list[Tree]:
        own, made = layer.attention.self, layer.attention.self.continuous_position_bias_mlp
        attended = attention(own.query, own.key, own.value, layer.attention.output.dense)
        attended["score_scale"] = single(own.logit_scale)[:, 0, 0]
        return [
            {
                "branch": {
                    "attention": attended,
                    "relative": {"hidden": linear(made[0]), "out": linear(made[2])},
                },
                "residual": {"norm_branch": norm(layer.layernorm_before)},
            },
            {
                "branch": {
                    "w1": linear(layer.intermediate.dense),
                    "w2": linear(layer.output.dense),
                },
                "residual": {"norm_branch": norm(layer.layernorm_after)},
            },
        ]

    def stack(stage: Any) -> Tree:
        # Layers with the same weights and other windows: a block each.
        apart = [blocks([sublayers(layer)])["blocks"]["0"] for layer in stage.blocks]
        return {"blocks": {str(index): block for index, block in enumerate(apart)}}

    first, second = body.encoder.layers
    projection = body.embeddings.patch_embeddings.projection
    patches = single(projection.weight).transpose(2, 3, 1, 0).reshape(-1, D_MODEL // 2)
    # Theirs goes down the columns of four tokens, ours along the rows.
    down = single(first.downsample.reduction.weight).T.reshape(2, 2, D_MODEL // 2, D_MODEL)
    pixels: Array = images.numpy().transpose(0, 2, 3, 1)
    return Golden(
        config={
            "architecture": "vision",
            "variant": "swin_v2_norm",
            "d_model": D_MODEL // 2,
            "d_ff": D_MODEL,
            "num_layers": 3,
            "num_heads": 2,
            "stage_layers": [2, 1],
            "stage_heads": [2, 2],
            "window": 2,
            "image_size": IMAGE,
            "patch_size": 3,
            "num_channels": CHANNELS,
            "num_labels": LABELS,
            "embedding_norm": True,
            "positions": "none",
            "pooling": "mean",
            "attention_bias": "qvo",
        },
        params={
            "stages": {
                "0": {
                    "embedding": {"patches": {"kernel": patches, "bias": single(projection.bias)}},
                    "embedding_norm": norm(body.embeddings.norm),
                    "stack": stack(first),
                },
                "1": {
                    "embedding": {"patches": {"kernel": down.swapaxes(0, 1).reshape(-1, D_MODEL)}},
                    "embedding_norm": norm(first.downsample.norm),
                    "stack": stack(second),
                    "final_norm": norm(body.layernorm),
                },
            },
            "head": {"linear": linear(model.classifier)},
        },
        inputs={"pixel_values": pixels},
        outputs={"hidden": body(images).last_hidden_state, "logits": model(images).logits},
    )


MAKERS: dict[str, Maker] = {
    "pre_norm_vit": vit,
    "layer_scale_dino_v2": dino_v2,
    "swin_v2_norm_swin_v2": swin_v2,
}
