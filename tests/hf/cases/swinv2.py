"""Swin Transformer V2."""

from __future__ import annotations

from tests.hf.cases import Case

# Windows of 2 x 2 shift on a grid of 4 x 4, and the second stage has one window.
SIZES = {
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 2,
    "image_size": 16,
    "patch_size": 4,
}
CASES = {
    "swinv2": Case("Swinv2Model", SIZES, takes="image"),
    "swinv2_image": Case(
        "Swinv2ForImageClassification",
        # The grid of 12 x 12 is no multiple of the window, nor that of 6 x 6 or 3 x 3.
        {
            **SIZES,
            "depths": [2, 4, 1],
            "num_heads": [2, 2, 8],
            "window_size": 5,
            "image_size": 24,
            "patch_size": 2,
            "num_channels": 2,
            "num_labels": 3,
            "mlp_ratio": 1.5,
            "hidden_act": "gelu_new",
        },
        takes="image",
    ),
    "swinv2_trained": Case(
        "Swinv2Model",
        {**SIZES, "window_size": 3, "image_size": 20, "pretrained_window_sizes": [2, 4]},
        takes="image",
    ),
    "swinv2_unbiased": Case(
        "Swinv2ForImageClassification",
        # No side divides the next: 19 pixels, 7 and 4 tokens.
        {**SIZES, "qkv_bias": False, "image_size": 19, "patch_size": 3, "num_labels": 3},
        takes="image",
    ),
    "swinv2_whole": Case(
        "Swinv2Model", {**SIZES, "window_size": 9, "num_channels": 1}, takes="image"
    ),
}
