"""BERT (1810.04805) and ERNIE: post-norm encoders, with segments, a pooler and a dense masked-LM
head; Megatron's BERT (1909.08053), which is pre-norm; and RemBERT (2010.12821), whose embedding is
narrow and whose head is wide."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zoo.hf.family import ByTensor, Family, Where
from zoo.hf.keys import CannotExpress, Entry, Fixed, Key, Rule, Settings
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import Map, linear, norm, tensor
from zoo.hf.windows import whole
from zoo.models.config import Head

_LAYER = "encoder.layer.{}"

# What BERT and its kin share.
TRUNK = {
    **tensor("embedding/tokens", "embeddings.word_embeddings.weight"),
    **tensor("embedding/table", "embeddings.position_embeddings.weight"),
    **tensor("embedding/types", "embeddings.token_type_embeddings.weight"),
    **norm("embedding_norm", "embeddings.LayerNorm"),
    **linear("self_attention/branch/q", f"{_LAYER}.attention.self.query"),
    **linear("self_attention/branch/k", f"{_LAYER}.attention.self.key"),
    **linear("self_attention/branch/v", f"{_LAYER}.attention.self.value"),
    **linear("self_attention/branch/o", f"{_LAYER}.attention.output.dense"),
    **norm("self_attention/residual/norm_out", f"{_LAYER}.attention.output.LayerNorm"),
    **linear("mlp/branch/w1", f"{_LAYER}.intermediate.dense"),
    **linear("mlp/branch/w2", f"{_LAYER}.output.dense"),
    **norm("mlp/residual/norm_out", f"{_LAYER}.output.LayerNorm"),
}
FIELDS = {
    "variant": "post_norm",
    "norm": "layer_norm",
    "norm_bias": True,
    "embedding_norm": True,
    "final_norm": False,
    "embedding_scale": False,
    "positions": "learned",
    "bias": True,
    "init": "normal",
}
KEYS = (
    Key("vocab_size", "vocab_size", 30522),
    Key("hidden_size", "d_model", 768),
    Key("num_hidden_layers", "num_layers", 12),
    Key("num_attention_heads", "num_heads", 12),
    Key("intermediate_size", "d_ff", 3072),
    Key("hidden_act", "activation", "gelu", ACTIVATIONS),
    Key("hidden_dropout_prob", "dropout", 0.1, also=("embedding_dropout",)),
    Key("attention_probs_dropout_prob", "attention_dropout", 0.1),
    Key("type_vocab_size", "type_vocab_size", 2, needed=True),
    Key("layer_norm_eps", "norm_eps", 1e-12),
    Key("tie_word_embeddings", "tie_embeddings", True),
    Fixed("position_embedding_type", "absolute"),
    Key("initializer_range", "init_std", 0.02),
    Fixed("add_cross_attention", False),
)


def keys(*, kinds: bool = True, table: bool = True, **defaults: Any) -> tuple[Entry, ...]:
    """The keys of BERT's kin, with what a missing one means where that differs.

    Args:
        kinds: whether tokens have kinds.
        table: whether their positions are a table's.
    """
    absent = {"type_vocab_size": not kinds, "position_embedding_type": not table}
    return tuple(
        dataclasses.replace(key, default=defaults.get(key.name, key.default))
        for key in KEYS
        if not absent.get(key.name)
    )


CAUSAL = Key("is_decoder", "architecture", False, {False: "encoder", True: "decoder"})
LM_HEAD = {
    **linear("head/dense", "cls.predictions.transform.dense"),
    **norm("head/norm", "cls.predictions.transform.LayerNorm"),
    **linear("head/vocabulary", "cls.predictions.decoder"),
    **tensor("head/vocabulary/bias", "cls.predictions.bias"),
}
TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
OWN_BIAS = Where(
    "tie_embeddings", False, tensor("head/vocabulary/bias", "cls.predictions.decoder.bias")
)


# The norms in front of the branches, and one at the end, but none on the embedding.
_PRE_FIELDS = {**FIELDS, "variant": "pre_norm", "embedding_norm": False, "final_norm": True}
_PRE = {
    **TRUNK,
    **norm("self_attention/residual/norm_in", f"{_LAYER}.attention.ln"),
    **norm("mlp/residual/norm_in", f"{_LAYER}.ln"),
    **norm("final_norm", "encoder.ln"),
}


def _narrow(ours: Settings) -> Settings:
    if ours["embedding_width"] is None:
        raise CannotExpress("embedding_width = None: its embedding is always projected")
    return {"input_embedding_size": ours["embedding_width"]}


def _output(theirs: Settings) -> Settings:
    width = whole(theirs, "output_embedding_size")
    return {"output_embedding_width": None if width == theirs["input_embedding_size"] else width}


def _wide(ours: Settings) -> Settings:
    return {"output_embedding_size": ours["output_embedding_width"] or ours["embedding_width"]}


# Projected even where it is as wide as the stream.
_INPUT = Rule(
    {"input_embedding_size": 256},
    lambda theirs: {"embedding_width": whole(theirs, "input_embedding_size")},
    _narrow,
)
_OUTPUT = Rule({"input_embedding_size": 256, "output_embedding_size": 1664}, _output, _wide)
_WIDE_HEAD = {
    **linear("head/dense", "cls.predictions.dense"),
    **norm("head/norm", "cls.predictions.LayerNorm"),
    **linear("head/vocabulary", "cls.predictions.decoder"),
}


def _family(
    name: str,
    models: str,
    causal: str,
    *more: Entry,
    trunk: str = "bert",
    defaults: Settings | None = None,
    fields: Settings = FIELDS,
    weights: Map = TRUNK,
    lm_head: Map = LM_HEAD,
    head_keys: Mapping[Head, tuple[Entry, ...]] = MappingProxyType({}),
    ignored: tuple[str, ...] = (),
) -> Family:
    """One `model_type`.

    Args:
        models: what the names of its classes begin with.
        causal: its class that decodes.
        trunk: what the names of its tensors begin with.
        defaults: what missing keys mean, where that is not as in BERT.
    """
    return Family(
        name=name,
        classes={
            f"{models}Model": "none",
            f"{models}ForMaskedLM": "masked_lm",
            f"{models}ForPreTraining": "masked_lm",
            causal: "language_model",
            f"{models}ForSequenceClassification": "sequence_classification",
            f"{models}ForTokenClassification": "token_classification",
            f"{models}ForQuestionAnswering": "span",
        },
        fields=fields,
        keys=(
            *keys(**(defaults or {})),
            CAUSAL,
            Key("max_position_embeddings", "max_length", 512),
            *more,
        ),
        ignored_keys=("classifier_dropout", *ignored),
        prefix=f"{trunk}.",
        weights={**weights, **linear("pooler/dense", "pooler.dense")},
        heads={
            "masked_lm": lm_head,
            "language_model": lm_head,
            "sequence_classification": linear("head/linear", "classifier"),
            "token_classification": linear("head/linear", "classifier"),
            "span": linear("head/linear", "qa_outputs"),
        },
        head_fields={
            "sequence_classification": {"pooler": "tanh"},
            "language_model": {"head_transform": True},
        },
        head_keys=head_keys,
        by_tensor=(ByTensor("none", "pooler.dense.weight", "pooler", "tanh", None),),
        ignored=("embeddings.position_ids",),
        tied=TIED,
        where=(OWN_BIAS,),
        renamed=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
    )


FAMILIES = (
    _family("bert", "Bert", "BertLMHeadModel"),
    _family(
        "ernie",
        "Ernie",
        "ErnieForCausalLM",
        # An embedding of tasks beside that of kinds.
        Fixed("use_task_id", False),
        trunk="ernie",
        ignored=("task_type_vocab_size", "task_id"),
    ),
    _family(
        "megatron-bert",
        "MegatronBert",
        "MegatronBertForCausalLM",
        defaults={
            "vocab_size": 29056,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
        fields=_PRE_FIELDS,
        weights=_PRE,
    ),
    _family(
        "rembert",
        "RemBert",
        "RemBertForCausalLM",
        _INPUT,
        # Its class ties nothing.
        Fixed("tie_word_embeddings", False),
        trunk="rembert",
        defaults={
            "vocab_size": 250300,
            "hidden_size": 1152,
            "num_hidden_layers": 32,
            "num_attention_heads": 18,
            "intermediate_size": 4608,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        weights={**TRUNK, **linear("project", "encoder.embedding_hidden_mapping_in")},
        lm_head=_WIDE_HEAD,
        head_keys={"masked_lm": (_OUTPUT,), "language_model": (_OUTPUT,)},
        ignored=("classifier_dropout_prob",),
    ),
)
