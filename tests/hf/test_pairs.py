"""Encoder-decoders: what their released files say, which names a tensor has, what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.hf.cases import all_cases
from tests.hf.test_families import call, write
from zoo.errors import CheckpointError, ConfigError
from zoo.hf.families import families
from zoo.models.config import ModelConfig
from zoo.models.resolve import resolve

# Of the first translation models and summarisers: words that later versions no longer read.
OLD = {
    "_num_labels": 3,
    "add_bias_logits": False,
    "classif_dropout": 0.0,
    "gradient_checkpointing": False,
    "output_past": True,
    "num_beams": 6,
}
# (family, what its files say, what it comes to)
RELEASED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "marian",
        {
            **OLD,
            "activation_function": "swish",
            "add_final_layer_norm": False,
            "bad_words_ids": [[58100]],
            "d_model": 512,
            "decoder_attention_heads": 8,
            "decoder_ffn_dim": 2048,
            "decoder_layers": 6,
            "decoder_vocab_size": 58101,
            "encoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "encoder_layers": 6,
            "max_length": 512,
            "max_position_embeddings": 512,
            "normalize_before": False,
            "normalize_embedding": False,
            "num_hidden_layers": 6,
            "scale_embedding": True,
            "share_encoder_decoder_embeddings": True,
            "static_position_embeddings": True,
        },
        {
            "variant": "post_norm",
            "activation": "silu",
            "embedding_scale": True,
            "positions": "sinusoidal_halves",
            "decoder_start_id": 58100,
            "share_embeddings": True,
            "num_encoder_layers": 6,
            "num_decoder_layers": 6,
            "d_ff": 2048,
            "max_length": 512,
        },
    ),
    (
        "bart",
        {
            **OLD,
            "add_final_layer_norm": False,
            "early_stopping": True,
            "force_bos_token_to_be_generated": True,
            "forced_eos_token_id": 2,
            "no_repeat_ngram_size": 3,
            "normalize_before": False,
            "normalize_embedding": True,
            "num_hidden_layers": 12,
            "prefix": " ",
            "task_specific_params": {"summarization": {"num_beams": 4}},
        },
        {
            "variant": "post_norm",
            "embedding_norm": True,
            "final_norm": False,
            "position_offset": 2,
            "decoder_start_id": 2,
        },
    ),
    (
        "mbart",
        {
            **OLD,
            "add_final_layer_norm": True,
            "normalize_before": True,
            "normalize_embedding": True,
            "scale_embedding": True,
            "static_position_embeddings": False,
            "tokenizer_class": "MBartTokenizer",
            "vocab_size": 250027,
        },
        {"variant": "pre_norm", "embedding_norm": True, "final_norm": True},
    ),
    (
        "pegasus",
        {
            **OLD,
            "activation_function": "relu",
            "add_final_layer_norm": True,
            "extra_pos_embeddings": 0,
            "length_penalty": 0.6,
            "normalize_before": True,
            "normalize_embedding": False,
            "static_position_embeddings": True,
        },
        {"variant": "pre_norm", "embedding_norm": False, "positions": "sinusoidal_halves"},
    ),
    # M2M-100's files, and NLLB's, which name their tokenizer.
    (
        "m2m_100",
        {
            "encoder_layerdrop": 0.05,
            "decoder_layerdrop": 0.05,
            "max_length": 200,
            "num_beams": 5,
            "num_hidden_layers": 12,
            "tokenizer_class": "NllbTokenizer",
            "vocab_size": 256206,
        },
        {
            "variant": "pre_norm",
            "activation": "relu",
            "embedding_scale": True,
            "positions": "sinusoidal_fairseq",
            "position_offset": 2,
            "count_positions": "unpadded",
            "pad_id": 1,
            "decoder_start_id": 2,
            "head_bias": False,
            "max_length": 1024,
        },
    ),
    (
        "blenderbot",
        {
            **OLD,
            "add_final_layer_norm": True,
            "do_blenderbot_90_layernorm": True,
            "encoder_no_repeat_ngram_size": 3,
            "extra_layer_norm": False,
            "extra_pos_embeddings": 0,
            "layernorm_variant": "prelayernorm",
            "normalize_before": True,
            "normalize_embedding": False,
            "num_hidden_layers": 2,
            "static_position_embeddings": False,
            "unk_token_id": 3,
        },
        {"num_encoder_layers": 2, "num_decoder_layers": 24, "position_offset": 0},
    ),
    (
        "blenderbot-small",
        {
            **OLD,
            "add_final_layer_norm": False,
            "do_blenderbot_90_layernorm": True,
            "extra_pos_embeddings": 0,
            "layernorm_variant": "xlm",
            "normalize_before": False,
            "normalize_embedding": True,
            "num_hidden_layers": 8,
            "scale_embedding": True,
            "static_position_embeddings": False,
            "unk_token_id": 3,
            "vocab_size": 54944,
        },
        {
            "variant": "post_norm",
            "embedding_norm": True,
            "norm_target_tokens": True,
            "embedding_scale": True,
            "position_offset": 0,
            "decoder_start_id": 1,
            "num_decoder_layers": 8,
            "max_length": 512,
        },
    ),
    (
        "t5",
        {
            "d_ff": 2048,
            "decoder_start_token_id": 0,
            "initializer_factor": 1.0,
            "n_positions": 512,
            "output_past": True,
            "relative_attention_num_buckets": 32,
            "task_specific_params": {"summarization": {"prefix": "summarize: "}},
        },
        {
            "activation": "relu",
            "gated": False,
            "attention_scale": 1.0,
            "tie_embeddings": True,
            "share_embeddings": True,
            "logit_scale": 512**-0.5,
            "relative_max_distance": 128,
            "num_decoder_layers": 6,
        },
    ),
    (
        "t5",
        {
            "dense_act_fn": "gelu_new",
            "feed_forward_proj": "gated-gelu",
            "is_gated_act": True,
            "num_decoder_layers": 8,
            "num_layers": 8,
            "tie_word_embeddings": False,
        },
        {
            "activation": "gelu_tanh",
            "gated": True,
            "tie_embeddings": False,
            "share_embeddings": True,
            "logit_scale": 1.0,
        },
    ),
    (
        "umt5",
        {"scalable_attention": True, "tie_word_embeddings": False, "vocab_size": 256384},
        {"relative_per_layer": True, "logit_scale": 1.0},
    ),
    (
        "mpnet",
        {"max_position_embeddings": 514, "layer_norm_eps": 1e-5},
        {"max_length": 512, "position_offset": 2, "pad_id": 1, "relative_buckets": 32},
    ),
]
# (family, what is said, the message)
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bart", {"decoder_ffn_dim": 8}, "decoder_ffn_dim = 8 is not supported; use 4096"),
    ("bart", {"decoder_attention_heads": 8}, "decoder_attention_heads = 8"),
    ("bart", {"num_hidden_layers": 6}, "num_hidden_layers = 6 is not supported; use 12"),
    ("bart", {"normalize_before": True}, "normalize_before = True"),
    ("bart", {"static_position_embeddings": True}, "static_position_embeddings = True"),
    ("bart", {"is_decoder": True}, "is_decoder = True"),
    ("mbart", {"add_final_layer_norm": False}, "add_final_layer_norm = False"),
    ("m2m_100", {"decoder_ffn_dim": 8}, "decoder_ffn_dim = 8"),
    # Positions are counted from it on.
    ("m2m_100", {"pad_token_id": None}, "pad_token_id = None"),
    ("marian", {"decoder_vocab_size": 9}, "decoder_vocab_size = 9 is not supported; use 58101"),
    ("blenderbot", {"extra_layer_norm": True}, "extra_layer_norm = True"),
    ("blenderbot-small", {"layernorm_variant": "prelayernorm"}, "layernorm_variant = 'prelayer"),
    ("blenderbot-small", {"normalize_before": True}, "normalize_before = True"),
    ("blenderbot-small", {"normalize_embedding": False}, "normalize_embedding = False"),
    ("t5", {"feed_forward_proj": "gated"}, "feed_forward_proj = 'gated'"),
    ("t5", {"feed_forward_proj": ["relu"]}, "feed_forward_proj = ['relu']"),
    ("t5", {"dense_act_fn": "silu"}, "dense_act_fn = 'silu' is not supported; use 'relu'"),
    ("t5", {"is_gated_act": True}, "is_gated_act = True"),
    (
        "t5",
        {"tie_word_embeddings": False, "scale_decoder_outputs": True},
        "scale_decoder_outputs = True",
    ),
    ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets = 16"),
]


@pytest.mark.parametrize(("name", "said", "wanted"), RELEASED, ids=[each[0] for each in RELEASED])
def test_words_of_released_files_are_read(
    name: str, said: dict[str, Any], wanted: dict[str, Any]
) -> None:
    config = resolve(ModelConfig(**families()[name].read(said)))
    assert {field: getattr(config, field) for field in wanted} == wanted


@pytest.mark.parametrize(("name", "said", "message"), REFUSED, ids=str)
def test_what_is_not_computed_is_refused(name: str, said: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        families()[name].read(said)
    assert message in str(error.value)


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    """Put tensors (`__` in a name is a dot) into a checkpoint's file, or take them out."""
    held = load_file(folder / "model.safetensors")
    for name, array in tensors.items():
        held.pop(name.replace("__", "."), None)
        if array is not None:
            held[name.replace("__", ".")] = array
    save_file(held, folder / "model.safetensors")


@pytest.fixture
def bart(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A checkpoint, its table of tokens and its output."""
    stored = write("bart", tmp_path / "bart")
    return (
        tmp_path / "bart",
        load_file(tmp_path / "bart" / "model.safetensors")["model.shared.weight"],
        stored["output"],
    )


@pytest.mark.parametrize(
    "names",
    [
        ["lm_head__weight"],
        ["model__decoder__embed_tokens__weight"],
        ["model__encoder__embed_tokens__weight", "model__decoder__embed_tokens__weight"],
        ["model__shared__weight", "model__encoder__embed_tokens__weight", "lm_head__weight"],
    ],
    ids=str,
)
def test_one_table_lies_under_any_of_its_names(
    bart: tuple[Path, np.ndarray, np.ndarray], names: list[str]
) -> None:
    folder, table, output = bart
    change(folder, model__shared__weight=None)
    change(folder, **{name: table.copy() for name in names})
    model = zoo.load_pretrained(folder)
    np.testing.assert_allclose(call(model, all_cases()["bart"]), output, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", ["lm_head", "model__encoder__embed_tokens"])
def test_a_second_table_that_differs_is_refused(
    bart: tuple[Path, np.ndarray, np.ndarray], name: str
) -> None:
    folder, table, _ = bart
    change(folder, **{f"{name}__weight": table + 1.0})
    with pytest.raises(CheckpointError, match=r"differs from .*shared.weight, which"):
        zoo.load_pretrained(folder)


def test_a_bias_of_the_logits_may_be_missing(bart: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, _, output = bart
    bias = load_file(folder / "model.safetensors")["final_logits_bias"]
    change(folder, final_logits_bias=None)
    model = zoo.load_pretrained(folder)
    assert not model.config.head_bias
    np.testing.assert_allclose(
        call(model, all_cases()["bart"]), output - bias, atol=2e-5, rtol=2e-5
    )
    zoo.save_pretrained(model, folder)
    assert "final_logits_bias" not in load_file(folder / "model.safetensors")


def test_sines_in_a_file_are_those_that_are_computed(tmp_path: Path) -> None:
    stored = write("marian", tmp_path)
    angles = np.arange(40)[:, None] / 10000 ** (np.arange(0, 16, 2) / 16)
    sines = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    change(tmp_path, model__encoder__embed_positions__weight=sines.astype(np.float16))
    change(tmp_path, model__decoder__embed_positions__weight=sines)
    model = zoo.load_pretrained(tmp_path)
    np.testing.assert_allclose(
        call(model, all_cases()["marian"]), stored["output"], atol=2e-5, rtol=2e-5
    )
    for wrong in (sines[:, ::-1].copy(), sines[:, :8].copy()):
        change(tmp_path, model__decoder__embed_positions__weight=wrong)
        with pytest.raises(CheckpointError, match=r"decoder.embed_positions.weight does not hold"):
            zoo.load_pretrained(tmp_path)


def test_no_token_reads_the_sines_before_its_first_position(tmp_path: Path) -> None:
    stored = write("m2m_100", tmp_path)
    angles = np.arange(42)[:, None] / 10000 ** (np.arange(8) / 7)
    sines = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    sines[1] = 0.0
    change(tmp_path, model__encoder__embed_positions__weights=sines)
    model = zoo.load_pretrained(tmp_path)
    np.testing.assert_allclose(
        call(model, all_cases()["m2m_100"]), stored["output"], atol=2e-5, rtol=2e-5
    )
    change(tmp_path, model__encoder__embed_positions__weights=np.roll(sines, 1, axis=0))
    with pytest.raises(CheckpointError, match=r"encoder.embed_positions.weights does not hold"):
        zoo.load_pretrained(tmp_path)


def test_the_sines_that_heads_are_turned_by_are_those_of_their_width(tmp_path: Path) -> None:
    stored = write("roformer", tmp_path)
    angles = np.arange(20)[:, None] / 10000 ** (np.arange(0, 4, 2) / 4)
    sines = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    change(tmp_path, encoder__embed_positions__weight=sines)
    model = zoo.load_pretrained(tmp_path)
    np.testing.assert_allclose(
        call(model, all_cases()["roformer"]), stored["output"], atol=2e-5, rtol=2e-5
    )
    change(tmp_path, encoder__embed_positions__weight=sines[:, ::-1].copy())
    with pytest.raises(CheckpointError, match=r"embed_positions.weight does not hold the sines"):
        zoo.load_pretrained(tmp_path)


def test_the_head_of_t5_is_its_own_where_the_file_holds_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write("t5_untied", tmp_path / "own")
    write("t5_unscaled", tmp_path / "tied")
    own, tied = (zoo.load_pretrained(tmp_path / name) for name in ("own", "tied"))
    assert (own.config.tie_embeddings, tied.config.tie_embeddings) == (False, True)
    assert own.config.logit_scale == tied.config.logit_scale == 1.0
    with caplog.at_level(logging.WARNING):
        bare = zoo.load_pretrained(tmp_path / "own", head="none")
    assert bare.config.head == "none"
    assert "left out, not of head = none: lm_head.weight" in caplog.text


def test_an_encoder_is_told_from_the_pair_by_its_class(tmp_path: Path) -> None:
    write("t5_encoder", tmp_path)
    model = zoo.load_pretrained(tmp_path)
    assert model.config.architecture == "encoder"
    written = tmp_path / "again"
    assert zoo.save_pretrained(model, written, family="t5_encoder") == "t5"
    assert json.loads((written / "config.json").read_text())["architectures"] == ["T5EncoderModel"]
    with pytest.raises(CheckpointError, match=r"t5 cannot express this model"):
        zoo.save_pretrained(model, written, family="t5")


def test_a_trained_pair_goes_out_as_the_first_family_that_has_its_words(tmp_path: Path) -> None:
    model = zoo.create_model(
        "encoder-decoder-tiny",
        variant="post_norm",
        vocab_size=20,
        d_model=16,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=2,
        positions="sinusoidal_halves",
        tie_embeddings=True,
        max_length=12,
        rngs=0,
    )
    assert zoo.save_pretrained(model, tmp_path) == "marian"
    ids = np.arange(12).reshape(2, 6)
    np.testing.assert_array_equal(zoo.load_pretrained(tmp_path)(ids, ids), model(ids, ids))


def test_a_target_begins_with_what_the_files_say(tmp_path: Path) -> None:
    """As transformers' generate: of the generation settings, then of the config, then `bos`."""
    write("mbart", tmp_path)
    config, own = tmp_path / "config.json", tmp_path / "generation_config.json"
    said = json.loads(config.read_text())
    for generation, key, start in (
        (None, {"decoder_start_token_id": 3, "bos_token_id": 6}, 3),
        (None, {"decoder_start_token_id": None, "bos_token_id": 6}, 6),
        ({"bos_token_id": 7}, {"decoder_start_token_id": None, "bos_token_id": 6}, 7),
        ({"decoder_start_token_id": 9}, {"decoder_start_token_id": 3, "bos_token_id": 6}, 9),
    ):
        config.write_text(json.dumps(said | key))
        if generation is not None:
            own.write_text(json.dumps(generation))
        model = zoo.load_pretrained(tmp_path)
        tokens = zoo.generate(model, jnp.asarray([[4, 5]]), max_new_tokens=1)
        assert int(tokens[0, 0]) == start
    plain = zoo.Sampling(defaults=False)
    tokens = zoo.generate(model, jnp.asarray([[4, 5]]), max_new_tokens=1, sampling=plain)
    assert int(tokens[0, 0]) == 3
    own.write_text(json.dumps({"decoder_start_token_id": 9_999}))
    with pytest.raises(ConfigError, match="decoder_start_token_id = 9999"):
        zoo.generate(zoo.load_pretrained(tmp_path), jnp.asarray([[4, 5]]), max_new_tokens=1)
