"""Vision encoders over patches: ViT (2010.11929), DeiT (2012.12877), which has a second token, and
DINOv2 (2304.07193), which scales branches."""

from __future__ import annotations

from typing import Any

from zoo.hf.family import ByTensor, Family
from zoo.hf.keys import CannotExpress, Fixed, Key, Rule, Settings
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.tensors import Array
from zoo.hf.weights import Map, Tensor, linear, norm, tensor
from zoo.hf.windows import whole
from zoo.models.config import ModelConfig

_LAYER = "encoder.layer.{}"


def _patches(array: Array, config: ModelConfig) -> Array:
    """[d_model, channels, side, side] of a convolution to a matrix on patches, channels last."""
    return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])


def _convolution(array: Array, config: ModelConfig) -> Array:
    side, width = config.patch_size, array.shape[-1]
    return array.reshape(side, side, config.num_channels, width).transpose(3, 2, 0, 1)


def _first(name: str) -> Tensor:
    """A table behind an axis of one image."""
    return Tensor(name, load=lambda array, _: array[0], save=lambda array, _: array[None])


CONVOLUTION = Tensor(
    "embeddings.patch_embeddings.projection.weight", load=_patches, save=_convolution
)
_EMBEDDING = {
    "embedding/patches/kernel": CONVOLUTION,
    "embedding/patches/bias": Tensor("embeddings.patch_embeddings.projection.bias"),
    "embedding/class_token": _first("embeddings.cls_token"),
    "embedding/table": _first("embeddings.position_embeddings"),
}


def _layers(before: str, after: str, w1: str, w2: str) -> Map:
    """Attention and MLP behind their norms, by the names of what differs."""
    return {
        **norm("self_attention/residual/norm_in", f"{_LAYER}.{before}"),
        **linear("self_attention/branch/q", f"{_LAYER}.attention.attention.query"),
        **linear("self_attention/branch/k", f"{_LAYER}.attention.attention.key"),
        **linear("self_attention/branch/v", f"{_LAYER}.attention.attention.value"),
        **linear("self_attention/branch/o", f"{_LAYER}.attention.output.dense"),
        **norm("mlp/residual/norm_in", f"{_LAYER}.{after}"),
        **linear("mlp/branch/w1", f"{_LAYER}.{w1}"),
        **linear("mlp/branch/w2", f"{_LAYER}.{w2}"),
    }


_FIELDS = {
    "architecture": "vision",
    "norm": "layer_norm",
    "norm_bias": True,
    "embedding_norm": False,
    "final_norm": True,
    "positions": "learned",
    "bias": True,
    "init": "normal",
}


def _keys(*, image: int, patch: int, eps: float, dropout: float) -> tuple[Key | Fixed, ...]:
    return (
        Key("hidden_size", "d_model", 768),
        Key("num_hidden_layers", "num_layers", 12),
        Key("num_attention_heads", "num_heads", 12),
        Key("hidden_act", "activation", "gelu", ACTIVATIONS),
        Key("hidden_dropout_prob", "dropout", dropout, also=("embedding_dropout",)),
        Key("attention_probs_dropout_prob", "attention_dropout", dropout),
        Key("initializer_range", "init_std", 0.02),
        Key("layer_norm_eps", "norm_eps", eps),
        Key("image_size", "image_size", image),
        Key("patch_size", "patch_size", patch),
        Key("num_channels", "num_channels", 3),
        Key("qkv_bias", "attention_bias", True, {True: "all", False: "out"}),
    )


def _ratio() -> Rule:
    """The width of the MLP as a multiple of the model's."""

    def read(theirs: Settings) -> Settings:
        return {"d_ff": whole(theirs, "hidden_size") * whole(theirs, "mlp_ratio")}

    def write(ours: Settings) -> Settings:
        ratio, rest = divmod(ours["d_ff"], ours["d_model"])
        if rest:
            raise CannotExpress(f"d_ff = {ours['d_ff']}: mlp_ratio is a whole number")
        return {"mlp_ratio": ratio}

    return Rule({"hidden_size": 768, "mlp_ratio": 4}, read, write)


# What takes the place of patches that are hidden in pretraining is not kept.
_NO_MASK_TOKEN = Rule({"use_mask_token": True}, lambda _: {}, lambda _: {"use_mask_token": False})


_VIT: dict[str, Any] = _FIELDS | {"variant": "pre_norm", "pooling": "first"}
_VIT_KEYS = (
    *_keys(image=224, patch=16, eps=1e-12, dropout=0.0),
    Key("intermediate_size", "d_ff", 3072),
    Fixed("pooler_act", "tanh"),
)
_VIT_WEIGHTS: Map = {
    **_EMBEDDING,
    **_layers("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense"),
    **norm("final_norm", "layernorm"),
    **linear("pooler/dense", "pooler.dense"),
}
_VIT_HEADS = {"image_classification": linear("head/linear", "classifier")}
_POOLER = (ByTensor("none", "pooler.dense.weight", "pooler", "tanh", None),)

FAMILIES = (
    Family(
        name="vit",
        classes={"ViTForImageClassification": "image_classification", "ViTModel": "none"},
        fields=_VIT,
        keys=_VIT_KEYS,
        # The stride is of masked image modelling.
        ignored_keys=("encoder_stride", "pooler_output_size"),
        prefix="vit.",
        weights=_VIT_WEIGHTS,
        heads=_VIT_HEADS,
        by_tensor=_POOLER,
    ),
    Family(
        name="deit",
        classes={"DeiTForImageClassification": "image_classification", "DeiTModel": "none"},
        fields=_VIT | {"distillation_token": True},
        keys=_VIT_KEYS,
        ignored_keys=("encoder_stride", "pooler_output_size"),
        prefix="deit.",
        weights={
            **_VIT_WEIGHTS,
            "embedding/distillation_token": _first("embeddings.distillation_token"),
        },
        heads=_VIT_HEADS,
        by_tensor=_POOLER,
    ),
    Family(
        name="dinov2",
        classes={"Dinov2ForImageClassification": "image_classification", "Dinov2Model": "none"},
        fields=_FIELDS | {"variant": "layer_scale"},
        head_fields={
            "image_classification": {"pooling": "first_and_mean"},
            "none": {"pooling": "first"},
        },
        keys=(
            *_keys(image=224, patch=14, eps=1e-6, dropout=0.0),
            _ratio(),
            _NO_MASK_TOKEN,
            Fixed("use_swiglu_ffn", False),
        ),
        # Where the scales start, and what is read out of it as a backbone.
        ignored_keys=(
            "layerscale_value",
            "drop_path_rate",
            "apply_layernorm",
            "reshape_hidden_states",
            "stage_names",
            "out_features",
            "out_indices",
        ),
        prefix="dinov2.",
        weights={
            **_EMBEDDING,
            **_layers("norm1", "norm2", "mlp.fc1", "mlp.fc2"),
            **tensor("self_attention/residual/branch", f"{_LAYER}.layer_scale1.lambda1"),
            **tensor("mlp/residual/branch", f"{_LAYER}.layer_scale2.lambda1"),
            **norm("final_norm", "layernorm"),
        },
        heads={"image_classification": linear("head/linear", "classifier")},
        ignored=("embeddings.mask_token",),
    ),
)
