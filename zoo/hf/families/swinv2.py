"""Swin Transformer V2 (2111.09883): stages of windows, norms on branches, attention by cosine."""

from __future__ import annotations

from typing import Any

from zoo.hf.families.vit import CONVOLUTION
from zoo.hf.family import Family
from zoo.hf.keys import CannotExpress, Fixed, Key, Rule, Settings, refused
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.tensors import Array
from zoo.hf.weights import Map, Tensor, linear, norm
from zoo.hf.windows import whole
from zoo.models.config import ModelConfig


def _listed(theirs: Settings, name: str, count: int, least: int) -> tuple[int, ...]:
    """The first `count` of a list with one whole number for each stage or more."""
    value: Any = theirs[name]
    sound = isinstance(value, list | tuple) and len(value) >= count
    if not sound or not all(type(each) is int and each >= least for each in value):
        raise refused(name, value, [f"a list with a whole number from {least} on for each stage"])
    return tuple(value[:count])


def _read(theirs: Settings) -> Settings:
    depths, width = _listed(theirs, "depths", 1, 1), whole(theirs, "embed_dim")
    stages, ratio = len(theirs["depths"]), theirs["mlp_ratio"]
    depths = _listed(theirs, "depths", stages, 1)
    heads = _listed(theirs, "num_heads", stages, 1)
    if type(ratio) not in (int, float) or not 0 < ratio < 2**24:
        raise refused("mlp_ratio", ratio, ["a number above 0"])
    # Rounded down in every stage, and ours double.
    hidden = [int(ratio * (width << number)) for number in range(min(stages, 64))]
    if any(own != hidden[0] << number for number, own in enumerate(hidden)):
        raise refused("mlp_ratio", ratio, ["one that gives a whole number of hidden units"])
    return {
        "d_model": width,
        "d_ff": hidden[0],
        "num_layers": sum(depths),
        "num_heads": heads[0],
        "stage_layers": depths,
        "stage_heads": heads,
        "stage_trained_windows": _listed(theirs, "pretrained_window_sizes", stages, 0),
    }


def _write(ours: Settings) -> Settings:
    if ours["stage_layers"] is None:
        raise CannotExpress("stage_layers = None: it has stages")
    return {
        "embed_dim": ours["d_model"],
        "mlp_ratio": ours["d_ff"] / ours["d_model"],
        "depths": list(ours["stage_layers"]),
        "num_heads": list(ours["stage_heads"]),
        "pretrained_window_sizes": list(ours["stage_trained_windows"]),
    }


_STAGES = Rule(
    {
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "mlp_ratio": 4.0,
        "pretrained_window_sizes": [0, 0, 0, 0],
    },
    _read,
    _write,
)


def _merged(array: Array, config: ModelConfig) -> Array:
    """[width, columns x rows x channels] of 2 x 2 tokens to a matrix on them row by row."""
    apart = array.reshape(len(array), 2, 2, -1)
    return apart.transpose(2, 1, 3, 0).reshape(-1, len(array))


def _reduction(array: Array, config: ModelConfig) -> Array:
    width = array.shape[-1]
    return array.reshape(2, 2, -1, width).transpose(3, 1, 0, 2).reshape(width, -1)


def _stage(number: int) -> Map:
    ours, theirs = f"stages/{number}", f"encoder.layers.{number}.blocks.{{}}"
    attention, own = f"{ours}/self_attention/branch", f"{theirs}.attention.self"
    relative = f"{own}.continuous_position_bias_mlp"
    scale = Tensor(
        f"{own}.logit_scale",
        load=lambda array, _: array.reshape(-1),
        save=lambda array, _: array.reshape(-1, 1, 1),
    )
    return {
        **linear(f"{attention}/attention/q", f"{own}.query"),
        **linear(f"{attention}/attention/k", f"{own}.key"),
        **linear(f"{attention}/attention/v", f"{own}.value"),
        **linear(f"{attention}/attention/o", f"{theirs}.attention.output.dense"),
        f"{attention}/attention/score_scale": scale,
        **linear(f"{attention}/relative/hidden", f"{relative}.0"),
        **linear(f"{attention}/relative/out", f"{relative}.2"),
        **norm(f"{ours}/self_attention/residual/norm_branch", f"{theirs}.layernorm_before"),
        **linear(f"{ours}/mlp/branch/w1", f"{theirs}.intermediate.dense"),
        **linear(f"{ours}/mlp/branch/w2", f"{theirs}.output.dense"),
        **norm(f"{ours}/mlp/residual/norm_branch", f"{theirs}.layernorm_after"),
    }


def _merging(number: int) -> Map:
    """What stands between a stage and the one below."""
    ours, theirs = f"stages/{number}", f"encoder.layers.{number - 1}.downsample"
    kernel = Tensor(f"{theirs}.reduction.weight", load=_merged, save=_reduction)
    return {
        f"{ours}/embedding/patches/kernel": kernel,
        **norm(f"{ours}/embedding_norm", f"{theirs}.norm"),
    }


def _parts(config: ModelConfig) -> Map:
    depths = config.stage_layers or ()
    found = norm(f"stages/{len(depths) - 1}/final_norm", "layernorm")
    for number in range(len(depths)):
        found |= _stage(number) | (_merging(number) if number else {})
    return found


_ATTENTION = "encoder.layers.{}.blocks.{}.attention.self"

FAMILIES = (
    Family(
        name="swinv2",
        classes={"Swinv2ForImageClassification": "image_classification", "Swinv2Model": "none"},
        fields={
            "architecture": "vision",
            "variant": "swin_v2_norm",
            "norm": "layer_norm",
            "norm_bias": True,
            "embedding_norm": True,
            "final_norm": True,
            "positions": "none",
            "pooling": "mean",
            "bias": True,
            "init": "normal",
        },
        keys=(
            _STAGES,
            Key("window_size", "window", 7),
            Key("image_size", "image_size", 224),
            Key("patch_size", "patch_size", 4),
            Key("num_channels", "num_channels", 3),
            Key("hidden_act", "activation", "gelu", ACTIVATIONS),
            Key("qkv_bias", "attention_bias", True, {True: "qvo", False: "out"}),
            Key("hidden_dropout_prob", "dropout", 0.0, also=("embedding_dropout",)),
            Key("attention_probs_dropout_prob", "attention_dropout", 0.0),
            Key("drop_path_rate", "stochastic_depth", 0.1),
            Key("initializer_range", "init_std", 0.02),
            # It is of the layers and the final norm there; what merges patches has always this one.
            Fixed("layer_norm_eps", 1e-5),
            # Its table has a row more than there are patches, with which the class cannot run.
            Fixed("use_absolute_embeddings", False),
        ),
        # What follows from the stages, what is of masked image modelling, and what is read out of
        # it as a backbone; `path_norm` stands in old files and is read by nothing.
        ignored_keys=(
            "hidden_size",
            "num_layers",
            "encoder_stride",
            "path_norm",
            "stage_names",
            "out_features",
            "out_indices",
        ),
        prefix="swinv2.",
        weights={
            "stages/0/embedding/patches/kernel": CONVOLUTION,
            "stages/0/embedding/patches/bias": Tensor(
                "embeddings.patch_embeddings.projection.bias"
            ),
            **norm("stages/0/embedding_norm", "embeddings.norm"),
        },
        parts=_parts,
        heads={"image_classification": linear("head/linear", "classifier")},
        # Old files hold the buffers too.
        ignored=(
            "embeddings.mask_token",
            f"{_ATTENTION}.relative_coords_table",
            f"{_ATTENTION}.relative_position_index",
        ),
    ),
)
