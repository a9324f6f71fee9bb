"""What files of released decoders say in words of their time, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.errors import CheckpointError
from zoo.hf.families import families
from zoo.models.config import ModelConfig
from zoo.models.resolve import resolve

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {
    "type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "attention_factor": 1.25,
}
# (family, what its files say, what it comes to)
RELEASED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "llama",
        {"rope_theta": 5e5, "rope_scaling": LLAMA3, "pretraining_tp": 1},
        {
            "rotary_theta": 5e5,
            "rotary_scaling": "llama3(factor=8.0, length=8192, slow=1.0, fast=4.0)",
        },
    ),
    (
        "qwen2",
        {"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 28},
        {"window": None, "attention_bias": "qkv", "mlp_bias": False},
    ),
    # What a key that is missing means, where it is not what Llama's means.
    ("helium", {}, {"rotary_theta": 1e5}),
    ("ernie4_5", {}, {"rotary_theta": 5e5}),
    ("bitnet", {}, {"rotary_theta": 5e5}),
    ("cohere", {}, {"rotary_theta": 5e5}),
    ("cohere2", {}, {"rotary_theta": 1e4}),
    # Texts are written on beyond max_length, where a longer window tells.
    ("mistral", {"max_position_embeddings": 16, "sliding_window": 24}, {"window": 24}),
    (
        "gemma",
        {"hidden_act": "gelu", "hidden_activation": None},
        {"activation": "gelu_tanh", "norm": "offset_rms_norm", "head_dim": 256},
    ),
    (
        "gemma2",
        {"cache_implementation": "hybrid", "sliding_window_size": 4096},
        {
            "window": 4096,
            "window_pattern": "LG",
            "attention_softcap": 50.0,
            "logit_softcap": 30.0,
            "attention_scale": None,
        },
    ),
    (
        "gemma3_text",
        {
            "num_hidden_layers": 26,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
            "rope_theta": 1000000,
            "rope_local_base_freq": 10000,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        {
            "window_pattern": "LLLLLG",
            "rotary_pattern": "LLLLLR",
            "rotary_theta": 1000000,
            "rotary_local_theta": 10000,
            "rotary_scaling": "linear(factor=8.0)",
        },
    ),
    (
        "olmo3",
        {"max_position_embeddings": 65536, "rope_scaling": YARN, "rope_theta": 500000},
        {
            "window_pattern": "LLLG",
            "rotary_pattern": "LLLR",
            "rotary_local_theta": 500000.0,
            "rotary_scaling": "yarn(factor=8.0, length=8192, slow=1.0, fast=32.0, truncate=True, "
            "amplitude=1.25)",
        },
    ),
    (
        "glm4",
        {"partial_rotary_factor": 0.5, "attention_bias": False},
        {"rotary_fraction": 0.5, "attention_bias": "none", "variant": "sandwich_norm"},
    ),
    (
        "exaone4",
        {
            "num_hidden_layers": 4,
            "sliding_window_pattern": "LLLG",
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "max_position_embeddings": 131072,
        },
        {"window": 4096, "window_pattern": "LLLG", "rotary_pattern": "RRRN"},
    ),
    (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 8, "num_attention_heads": 128}
        | {"hidden_size": 8192},
        {"num_kv_heads": 8, "layout": "parallel", "parallel_norms": "separate"},
    ),
    (
        "gpt_neox",
        {"rotary_emb_base": 10000, "rotary_pct": 0.25, "use_parallel_residual": True},
        {"rotary_fraction": 0.25, "layout": "parallel", "parallel_norms": "separate"},
    ),
    (
        "granite",
        {
            "attention_multiplier": 0.015625,
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            "residual_multiplier": 0.22,
        },
        {
            "variant": "scaled_residual(embedding_multiplier=12.0, logit_multiplier=0.125)",
            "attention_scale": 0.015625,
        },
    ),
    (
        "smollm3",
        {"no_rope_layers": [1, 1, 1, 0] * 9, "max_window_layers": 28},
        {"rotary_pattern": "RRRN", "window": None},
    ),
    (
        "xglm",
        {"activation_dropout": 0.0, "decoder_start_token_id": 2, "layerdrop": 0.0},
        {
            "positions": "sinusoidal_fairseq",
            "position_offset": 2,
            "count_positions": "all",
            "embedding_scale": True,
        },
    ),
    (
        "cohere2",
        {"sliding_window_pattern": 4, "layer_switch": 4, "position_embedding_type": "rope_gptj"},
        {"window_pattern": "LLLG", "rotary_pattern": "RRRN", "layout": "parallel"},
    ),
    (
        "bert-generation",
        {"directionality": "bidi", "is_decoder": True, "position_embedding_type": "absolute"},
        {"architecture": "decoder", "variant": "post_norm", "type_vocab_size": None},
    ),
    # The English model, whose tokens have no kinds.
    ("gte", {"type_vocab_size": 0}, {"type_vocab_size": None, "rotary_theta": 160000.0}),
    (
        "roformer",
        {"embedding_size": 768, "rotary_value": False, "use_cache": True},
        {"embedding_width": None, "positions": "rotary", "max_length": 1536},
    ),
    (
        "eurobert",
        {"rope_theta": 250000, "clf_pooling": "late", "mask_token_id": 128002},
        {"architecture": "encoder", "rotary_theta": 250000, "pooling": "first"},
    ),
]
# (family, what is said, the message)
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "rope_parameters.factor = None"),
    ("llama", {"rope_scaling": {**LLAMA3, "beta_fast": 1}}, "rope_parameters.beta_fast = 1"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
    ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, "'longrope'"),
    ("olmo3", {"sliding_window": None}, "sliding_window = None"),
    ("olmo3", {"layer_types": ["full_attention"]}, "32 entries"),
    ("qwen3", {"layer_types": ["chunked_attention"] * 32}, "layer_types"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar = 0"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
    ("gemma3_text", {"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters"),
    ("granite", {"logits_scaling": 0}, "logits_scaling = 0"),
    ("smollm3", {"no_rope_layers": [2] * 36}, "no_rope_layers"),
    ("olmo", {"clip_qkv": 8.0}, "clip_qkv = 8.0"),
    ("stablelm", {"qk_layernorm": True}, "qk_layernorm = True"),
    ("gpt_neox", {"is_decoder": True}, "is_decoder = True"),
    ("gpt_bigcode", {"multi_query": False}, "multi_query = False"),
    ("gpt_neo", {"attention_types": [[["global"], 3]]}, "24 layers, as num_layers says"),
    ("falcon", {"alibi": True}, "alibi = True"),
    ("falcon", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn = 2"),
    ("gptj", {"rotary_dim": None}, "rotary_dim = None"),
    ("codegen", {"n_head": 6, "n_embd": 24, "rotary_dim": 4}, "n_head = 6"),
    # Zeros in the row of a position that tokens have; and layers that read a source.
    ("xglm", {"pad_token_id": 5}, "pad_token_id = 5 is not supported; use 1, 0 or None"),
    ("xglm", {"add_cross_attention": True}, "add_cross_attention = True"),
    ("bert-generation", {"add_cross_attention": True}, "add_cross_attention = True"),
    ("bert-generation", {"type_vocab_size": 2}, "type_vocab_size = 2 is not known here"),
    # Of the model's first release, whose file says everything in other words; and what would turn
    # at other angles the longer a text is.
    ("nomic_bert", {"n_embd": 768}, "n_embd = 768 is not known here"),
    ("nomic_bert", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    ("nomic_bert", {"is_decoder": True}, "is_decoder = True is not known here"),
    ("nomic_bert", {"type_vocab_size": None}, "type_vocab_size = None is not supported"),
    ("gte", {"rope_scaling": {"type": "ntk", "factor": 2.0}}, "'ntk'"),
    ("gte", {"num_key_value_heads": 2}, "num_key_value_heads = 2 is not known here"),
    # Of its first release, which has its adapters among the weights.
    ("jina_embeddings_v3", {"lora_rank": 4}, "lora_rank = 4 is not known here"),
    ("roformer", {"rotary_value": True}, "rotary_value = True"),
    ("rembert", {"tie_word_embeddings": True}, "tie_word_embeddings = True"),
    ("rembert", {"input_embedding_size": None}, "input_embedding_size = None"),
    ("eurobert", {"is_decoder": True}, "is_decoder = True is not known here"),
    ("eurobert", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
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


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, ("mean", True)),
        ({"classifier_pooling": "mean"}, ("mean", False)),
        # By its older name.
        ({"clf_pooling": "bos"}, ("first", False)),
        ({"clf_pooling": "bos", "classifier_pooling": "late"}, ("mean", True)),
    ],
    ids=str,
)
def test_keys_of_a_head_count_with_that_head_alone(
    said: dict[str, Any], wanted: tuple[str, bool]
) -> None:
    family = families()["eurobert"]
    config = ModelConfig(**family.read(said, head="sequence_classification"))
    assert (config.pooling, config.pooler_first) == wanted
    assert config.pooler == "gelu"
    trunk = ModelConfig(**family.read(said | {"classifier_pooling": "max"}, head="none"))
    assert (trunk.pooling, trunk.pooler) == ("first", None)
    with pytest.raises(CheckpointError, match="classifier_pooling = 'max' is not supported"):
        family.read({"classifier_pooling": "max"}, head="sequence_classification")
