"""ViT, DeiT and DINOv2."""

from __future__ import annotations

from tests.hf.cases import Case

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
}
OWN = {**SIZES, "intermediate_size": 24}
CASES = {
    "vit": Case("ViTModel", {**OWN, "layer_norm_eps": 1e-3}, takes="image"),
    "vit_image": Case(
        "ViTForImageClassification",
        {**OWN, "num_labels": 3, "num_channels": 2, "hidden_act": "relu"},
        takes="image",
    ),
    "vit_unbiased": Case("ViTForImageClassification", {**OWN, "qkv_bias": False}, takes="image"),
    "deit": Case("DeiTModel", {**OWN, "num_channels": 1}, takes="image"),
    "deit_image": Case(
        "DeiTForImageClassification",
        {**OWN, "num_labels": 3, "hidden_act": "gelu_new", "qkv_bias": False},
        takes="image",
    ),
    "dinov2_image": Case(
        "Dinov2ForImageClassification", {**SIZES, "num_labels": 3, "qkv_bias": False}, takes="image"
    ),
    "dinov2": Case("Dinov2Model", SIZES, takes="image"),
    "dinov2_wide": Case(
        "Dinov2Model", {**SIZES, "mlp_ratio": 2, "hidden_act": "gelu_new"}, takes="image"
    ),
}
