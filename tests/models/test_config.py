"""Configurations: what cannot work is refused by field and value, what is open is filled in."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax
import numpy as np
import pytest

from zoo.errors import ConfigError, VariantError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.presets import PRESETS, create_model, list_models, override, preset
from zoo.models.resolve import resolve
from zoo.models.transformer import declare
from zoo.variants.placement import NormSlot, Site
from zoo.variants.registry import get_variant

ROTARY = {"positions": "rotary"}
IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"vocab_size": 0}, "vocab_size = 0"),
    ({"d_model": 0}, "d_model = 0"),
    ({"num_layers": 0}, "num_layers = 0"),
    ({"num_layers": -2}, "num_layers = -2"),
    ({"num_heads": 0}, "num_heads = 0"),
    ({"max_length": 0}, "max_length = 0"),
    ({"num_kv_heads": 0}, "num_kv_heads = 0"),
    ({"head_dim": 0}, "head_dim = 0"),
    ({"d_ff": 0}, "d_ff = 0"),
    ({"window": 0}, "window = 0"),
    ({"num_heads": 7, "d_model": 64}, "num_heads = 7 does not divide d_model = 64; use 1, 2, 4"),
    ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads = 3 does not divide num_heads = 4"),
    ({"num_heads": 4, "num_kv_heads": 8}, "num_kv_heads = 8"),
    ({"d_model": 12, "num_heads": 4, "positions": "rotary"}, "head_dim = 3 is odd"),
    ({"d_model": 15, "num_heads": 3, "positions": "sinusoidal"}, "d_model = 15 is odd"),
    ({"dropout": 1.0}, "dropout = 1.0"),
    ({"dropout": -0.1}, "dropout = -0.1"),
    ({"embedding_dropout": 1.5}, "embedding_dropout = 1.5"),
    ({"attention_dropout": float("nan")}, "attention_dropout = nan"),
    ({"stochastic_depth": 1.0}, "stochastic_depth = 1.0"),
    ({"norm_eps": 0.0}, "norm_eps = 0.0"),
    ({"init_std": -1.0}, "init_std = -1.0"),
    ({"qkv_gain": 0.0}, "qkv_gain = 0.0"),
    ({"variant": "ngpt", "qkv_gain": 0.5}, "qkv_gain = 0.5: ngpt says itself"),
    ({"rotary_theta": 0.0}, "rotary_theta = 0.0"),
    ({"rotary_pattern": "RG"}, "rotary_pattern = 'RG': use the letters R"),
    ({"positions": "rotary", "rotary_pattern": "LR"}, "rotary_local_theta = None"),
    ({"positions": "rotary", "rotary_local_theta": 10.0}, "rotary_local_theta = 10.0"),
    ({"rotary_pattern": "RN"}, "with positions = 'learned'"),
    ({**ROTARY, "rotary_scaling": "half(factor=2.0)"}, "'half' is not known; use linear, llama3"),
    ({**ROTARY, "rotary_scaling": "linear(2.0)"}, "cannot be read"),
    ({**ROTARY, "rotary_scaling": "linear(length=4)"}, "linear takes factor"),
    ({**ROTARY, "rotary_scaling": "llama3(factor=2)"}, "llama3 needs length"),
    ({**ROTARY, "rotary_scaling": "linear(factor=0.5)"}, "factor = 0.5; use 1 or more"),
    (
        {**ROTARY, "rotary_scaling": "yarn(factor=2.0, length=8, slow=9.0, fast=3.0)"},
        "slow = 9.0 must be below fast = 3.0",
    ),
    ({"parallel_norms": "separate"}, "parallel_norms = 'separate' with layout = 'sequential'"),
    (
        {"parallel_norms": "separate", "layout": "parallel", "variant": "deep_norm"},
        "deep_norm has no plain norm on what its branches read",
    ),
    ({"embedding_std": 0.0}, "embedding_std = 0.0"),
    ({"window": 4, "window_pattern": "LX"}, "window_pattern = 'LX'"),
    ({"window": 4, "window_pattern": ""}, "window_pattern = ''"),
    ({"window_pattern": "LG"}, "window_pattern = 'LG' without a window"),
    ({"window": 513, "positions": "learned"}, "window = 513 is longer than max_length = 512"),
    ({"attention": "fused", "attention_dropout": 0.1}, "attention = 'fused'"),
    ({"variant": "pre_norm", "final_norm": False}, "final_norm = False: pre_norm needs it"),
    ({"variant": "post_norm", "final_norm": True}, "final_norm = True: post_norm forbids it"),
    ({"variant": "peri_norm", "embedding_norm": False}, "embedding_norm = False"),
    ({"variant": "sandwich_norm", "embedding_norm": True}, "embedding_norm = True"),
    ({"variant": "res_post_norm", "qk_norm": False}, "qk_norm = False: res_post_norm needs it"),
    ({"qk_norm_over": "width"}, "qk_norm_over = 'width' without qk_norm; set qk_norm = True"),
    ({"attention": "fused", "attention_softcap": 50.0}, "attention_softcap = 50.0"),
    ({"logit_softcap": 0.0}, "logit_softcap = 0.0: must be above 0"),
    ({"head": "masked_lm"}, "head = 'masked_lm': architecture = 'decoder' carries language_model"),
    ({"num_encoder_layers": 3}, "num_encoder_layers = 3: 'decoder' has one stack"),
    ({"architecture": "encoder_decoder", "num_decoder_layers": 0}, "num_decoder_layers = 0"),
    ({"architecture": "encoder_decoder", "layout": "parallel"}, "layout = 'parallel'"),
    ({"architecture": "encoder_decoder", "decoder_start_id": 256}, "ids run from 0 to 255"),
    ({"decoder_start_id": 1}, "decoder_start_id = 1: 'decoder' has no target"),
    ({"relative_buckets": 5}, "relative_buckets = 5: half of them stand for each direction"),
    ({"relative_buckets": 32, "relative_max_distance": 16}, "relative_max_distance = 16: 16 of"),
    ({"architecture": "vision", "relative_buckets": 32}, "relative_buckets = 32 with"),
    ({"relative_per_layer": True}, "relative_per_layer = True without relative_buckets"),
    ({"logit_scale": 0.0}, "logit_scale = 0.0: must be above 0"),
    (
        {"num_experts": 4, "gated": True, "bias": False, "mlp_input_bias": True},
        "num_experts = 4: experts are gated and have no biases",
    ),
    ({"share_embeddings": True}, "share_embeddings = True: 'decoder' has one table"),
    ({"norm_target_tokens": True}, "norm_target_tokens = True: 'decoder' has no target"),
    (
        {"architecture": "encoder_decoder", "norm_target_tokens": True},
        "norm_target_tokens = True without a norm on the embedding",
    ),
    ({"architecture": "vision", "image_size": 30}, "patch_size = 4 does not divide image_size"),
    ({"architecture": "vision", "max_length": 9}, "its images have 65 places"),
    ({"architecture": "vision", "positions": "rotary"}, "positions = 'rotary'"),
    ({"architecture": "vision", "tie_embeddings": True}, "tie_embeddings = True"),
    (
        {"architecture": "vision", "type_vocab_size": 2},
        "type_vocab_size = 2: only a model of one text stack",
    ),
    (
        {"architecture": "encoder_decoder", "embedding_width": 8},
        "embedding_width = 8: only a model of one text stack",
    ),
    ({"embedding_width": 7, "positions": "sinusoidal"}, "embedding_width = 7 is odd"),
    ({"embedding_width": 2, "positions": "sinusoidal_fairseq"}, "with a width of 2: it needs"),
    (
        {"embedding_width": 8, "tie_embeddings": True},
        "tie_embeddings = True with embedding_width = 8: the head reads d_model = 128",
    ),
    ({"architecture": "encoder", "head_transform": True}, "head_transform = True with head = 'mas"),
    ({"output_embedding_width": 8}, "output_embedding_width = 8: a dense layer in the head makes"),
    (
        {"architecture": "encoder", "output_embedding_width": 8, "tie_embeddings": True},
        "output_embedding_width = 8 with tie_embeddings = True: the head is the tokens' table, of",
    ),
    ({"architecture": "vision", "pooler": "tanh", "pooling": "mean"}, "pooler = 'tanh'"),
    ({"architecture": "decoder", "pooler": "tanh"}, "pooler = 'tanh' with architecture = 'decod"),
    (
        {"architecture": "encoder", "head": "none", "pooler": "tanh", "pooler_first": True},
        "pooler_first = True with pooler = 'tanh' and pooling = 'first'",
    ),
    (
        {"architecture": "encoder", "masked_lm_transform": False, "tie_embeddings": True}
        | {"embedding_width": 8},
        "tie_embeddings = True with embedding_width = 8: the head reads d_model = 128",
    ),
    ({"architecture": "encoder", "pooler": "tanh"}, "pooler = 'tanh' with head = 'masked_lm'"),
    ({"architecture": "vision", "patch_size": 0}, "patch_size = 0: must be at least 1"),
    ({"architecture": "vision", "window": 3}, "window = 3 with architecture = 'vision'"),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE, ids=str)
def test_what_cannot_work_is_refused_by_field_and_value(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve(ModelConfig(**changes))


def test_what_is_left_open_follows_from_the_rest() -> None:
    config = resolve(ModelConfig(variant="DeepNet(p=0.25)", d_model=64, num_heads=4))
    assert config.variant == "deep_norm"
    assert (config.num_kv_heads, config.head_dim, config.d_ff) == (4, 16, 256)
    assert (config.embedding_norm, config.final_norm, config.qk_norm) == (False, False, False)
    assert config.embedding_std == 64**-0.5
    peri = resolve(ModelConfig(variant="peri-ln"))
    assert (peri.embedding_norm, peri.final_norm) == (True, True)
    assert resolve(ModelConfig(variant="res_post_norm")).qk_norm is True
    assert resolve(ModelConfig(init="normal", init_std=0.03)).embedding_std == 0.03
    scaling = resolve(ModelConfig(positions="rotary", rotary_scaling="yarn(factor=4, length=64)"))
    assert scaling.rotary_scaling == (
        "yarn(factor=4.0, length=64, slow=1.0, fast=32.0, truncate=True, "
        f"amplitude={0.1 * math.log(4.0) + 1.0})"
    )
    assert resolve(scaling) == scaling
    patterns = resolve(ModelConfig(num_layers=4, window=3, window_pattern="LGLGG"))
    assert patterns.window_pattern == "LG"
    assert resolve(config) == config


def test_both_stacks_have_the_depth_that_is_given_once_or_each_its_own() -> None:
    pair = ModelConfig(architecture="encoder_decoder", num_layers=5)
    both = resolve(pair)
    assert (both.num_encoder_layers, both.num_decoder_layers, both.decoder_start_id) == (5, 5, 0)
    own = declare(dataclasses.replace(pair, num_decoder_layers=2)).placement
    assert {name: len(stack.layers) for name, stack in own.stacks} == {"encoder": 5, "decoder": 2}
    with pytest.raises(ConfigError, match="is of encoder or decoder"):
        resolve(ModelConfig(num_layers=5), own)


def test_free_ends_are_the_users_choice() -> None:
    config = resolve(ModelConfig(variant="rezero", final_norm=True, embedding_norm=True))
    assert (config.final_norm, config.embedding_norm) == (True, True)
    assert resolve(ModelConfig(variant="post_norm", embedding_norm=True)).embedding_norm is True


def test_an_unknown_variant_is_refused_with_near_matches() -> None:
    with pytest.raises(VariantError, match="did you mean deep_norm"):
        resolve(ModelConfig(variant="deep_nrom"))


def test_unknown_models_and_fields_are_refused_with_near_matches() -> None:
    with pytest.raises(ConfigError, match=r"'decoder-tin'.*did you mean decoder-tiny"):
        preset("decoder-tin")
    with pytest.raises(ConfigError, match=r"'num_layer'.*did you mean num_layers"):
        create_model("decoder-tiny", num_layer=3)
    with pytest.raises(ConfigError, match="fields: architecture, variant"):
        override(ModelConfig(), {"zzz": 1})


def test_presets_are_listed_by_pattern() -> None:
    assert list_models() == list(PRESETS)
    tiny = ["encoder-tiny", "decoder-tiny", "encoder-decoder-tiny", "vision-tiny"]
    tiny += ["deit-tiny", "swinv2-tiny"]
    assert list_models("*-tiny") == tiny
    assert list_models("nothing*") == []


@pytest.mark.parametrize("name", ["decoder-tiny", "decoder-small", "gpt2-small"])
@pytest.mark.parametrize("variant", ["post_norm", "deep_norm(p=0.5)", None])
def test_a_preset_makes_a_model_of_any_size_and_variant(name: str, variant: str | None) -> None:
    small = {"d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 19, "max_length": 8}
    changes = small if variant is None else small | {"variant": variant}
    model = create_model(name, rngs=1, **changes)
    logits = model(np.zeros((1, 5), np.int32))
    assert logits.shape == (1, 5, 19)
    assert np.isfinite(logits).all()
    kept = dataclasses.asdict(preset(name)) | changes
    assert model.config == resolve(ModelConfig(**kept))


def test_a_seed_makes_the_same_model_and_another_seed_another() -> None:
    first, again, other = (
        weight.split(create_model("decoder-tiny", rngs=seed, d_model=8))[0] for seed in (3, 3, 4)
    )
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(first["embedding"]["tokens"] != other["embedding"]["tokens"])


def test_a_variant_object_makes_the_model_that_its_name_makes() -> None:
    small = {"d_model": 8, "num_layers": 2, "num_heads": 2, "rngs": 3}
    named = create_model("decoder-tiny", variant="deep_norm(p=0.5)", **small)
    given = create_model("decoder-tiny", variant=get_variant("DeepNet(p=0.5)"), **small)
    assert given.config == named.config
    assert given.placement == named.placement
    for a, b in zip(*(jax.tree.leaves(weight.split(m)[0]) for m in (named, given)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_variant_of_ones_own_needs_no_registration_to_make_a_model() -> None:
    own = dataclasses.replace(
        get_variant("post_norm"),
        name="unknown_elsewhere",
        law=lambda context: Site(context.sublayer, norm_branch=NormSlot(0.5)),
        final_norm="required",
        aliases=(),
    )
    model = create_model("decoder-tiny", variant=own, d_model=8, num_layers=2, num_heads=2)
    assert (model.config.variant, model.config.final_norm) == ("unknown_elsewhere", True)
    gain = weight.split(model)[0]["stack"]["blocks"]["0"]["layers"]["0"]["sublayers"]["0"]
    np.testing.assert_array_equal(gain["residual"]["norm_branch"]["gain"], np.full((2, 8), 0.5))
    assert model(np.zeros((1, 5), np.int32)).shape == (1, 5, 256)
    with pytest.raises(ConfigError, match="num_layers = 0"):
        create_model("decoder-tiny", variant=own, num_layers=0)
    # A config is written to files and flags, so it holds a name.
    with pytest.raises(ConfigError, match=r"variant = <Variant unknown_elsewhere>.*create_model"):
        resolve(ModelConfig(variant=own))  # type: ignore[arg-type]


def test_a_placement_of_another_depth_is_refused() -> None:
    two = declare(ModelConfig(num_layers=2)).placement
    with pytest.raises(ConfigError, match=r"num_layers = 3.*post_norm.*2 layers"):
        declare(ModelConfig(num_layers=3), two)
