"""Translating a `config.json`: a table of keys for each family, read in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zoo.errors import CheckpointError, choices

Settings = dict[str, Any]

# A missing key means the default of the family's config class; `...` marks one that must be there.
REQUIRED: Any = ...


@dataclasses.dataclass(frozen=True)
class Key:
    """A key that is a field of ModelConfig.

    Attributes:
        name: in `config.json`.
        field: of `ModelConfig`.
        also: further fields that have the same value.
        default: what a missing key means there.
        values: their value -> ours, one to one when read from the back; the first of several that
            mean the same is written. None: the values are the same.
        needed: whether theirs has no model without it, which ours says as None.
    """

    name: str
    field: str
    default: Any = REQUIRED
    values: Mapping[Any, Any] | None = None
    also: tuple[str, ...] = ()
    needed: bool = False

    def defaults(self) -> Settings:
        return {self.name: self.default}

    def read(self, theirs: Settings) -> Settings:
        value = theirs[self.name]
        if self.needed and value is None:
            raise refused(self.name, value, ["a number"])
        if self.values is not None:
            if not isinstance(value, str | int | float | None) or value not in self.values:
                raise refused(self.name, value, self.values)
            value = self.values[value]
        return dict.fromkeys((self.field, *self.also), value)

    def write(self, ours: Settings) -> Settings:
        value = ours[self.field]
        if self.needed and value is None:
            raise CannotExpress(f"{self.field} = None: {self.name} is a number")
        if self.values is None:
            return {self.name: value}
        for their, own in self.values.items():
            if own == value:
                return {self.name: their}
        raise CannotExpress(f"{self.field} = {value!r}: {self.name} can say {choices(self.values)}")


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A key that changes the computation and of which one value is supported."""

    name: str
    value: Any
    default: Any = REQUIRED

    def defaults(self) -> Settings:
        return {self.name: self.value if self.default is REQUIRED else self.default}

    def read(self, theirs: Settings) -> Settings:
        if theirs[self.name] != self.value:
            raise refused(self.name, theirs[self.name], [self.value])
        return {}

    def write(self, ours: Settings) -> Settings:
        return {self.name: self.value}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Keys that mean something together.

    Attributes:
        keys: name -> what a missing key means.
        reading: of all their settings (defaults filled in) to fields of `ModelConfig`.
        writing: of the fields of a resolved `ModelConfig` to their settings.
    """

    keys: Settings
    reading: Callable[[Settings], Settings]
    writing: Callable[[Settings], Settings]

    def defaults(self) -> Settings:
        return dict(self.keys)

    def read(self, theirs: Settings) -> Settings:
        return self.reading(theirs)

    def write(self, ours: Settings) -> Settings:
        return self.writing(ours)


Entry = Key | Fixed | Rule


class CannotExpress(Exception):
    """A setting of ours for which a family has no words."""


def refused(name: str, value: Any, accepted: Iterable[Any]) -> CheckpointError:
    """The error of a value of `config.json` that is not supported."""
    return CheckpointError(
        f"config.json: {name} = {value!r} is not supported; use {choices(map(repr, accepted))}"
    )


def read_keys(
    entries: Iterable[Entry], config: Mapping[str, Any], ignored: Iterable[str]
) -> Settings:
    """Fields of `ModelConfig` of a `config.json`.

    Args:
        ignored: keys that do not change what is computed.

    Raises:
        CheckpointError: on a key that is missing, unknown or has a value that is not supported.
    """
    entries = list(entries)
    defaults: Settings = {}
    for entry in entries:
        defaults |= entry.defaults()
    known = {*defaults, *ignored, *NEVER_COMPUTES, *_MUST_BE_EMPTY}
    for name in _MUST_BE_EMPTY:
        if config.get(name):
            raise refused(name, config[name], [None])
    for name in config:
        if name not in known:
            raise CheckpointError(
                f"config.json: {name} = {config[name]!r} is not known here and may change what is "
                f"computed; if it does not, load with ignore=({name!r},)"
            )
    theirs = {name: config.get(name, default) for name, default in defaults.items()}
    for name, value in theirs.items():
        if value is REQUIRED:
            raise CheckpointError(f"config.json has no {name}, which has no default")
    ours: Settings = {}
    for entry in entries:
        ours |= entry.read(theirs)
    return ours


def write_keys(entries: Iterable[Entry], ours: Settings) -> Settings:
    """Their settings of the fields of a resolved `ModelConfig`."""
    theirs: Settings = {}
    for entry in entries:
        theirs |= entry.write(ours)
    return theirs


_MUST_BE_EMPTY = ("pruned_heads", "quantization_config")

# Keys that any family's config may hold and that change nothing a model computes: names, how
# outputs are packed, how training went, what generation starts from.
NEVER_COMPUTES = frozenset(
    (
        "_name_or_path",
        "_commit_hash",
        "_attn_implementation_autoset",
        "architectures",
        "auto_map",
        "model_type",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "torchscript",
        "use_bfloat16",
        "tf_legacy_loss",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "use_return_dict",
        "use_cache",
        "cross_attention_hidden_size",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "finetuning_task",
        "task_specific_params",
        "tokenizer_class",
        "prefix",
        "bos_token_id",
        "eos_token_id",
        "sep_token_id",
        "cls_token_id",
        "pad_token_id",
        "mask_token_id",
        "decoder_start_token_id",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "suppress_tokens",
        "begin_suppress_tokens",
        "bad_words_ids",
        "max_length",
        "min_length",
        "do_sample",
        "early_stopping",
        "num_beams",
        "num_beam_groups",
        "diversity_penalty",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "repetition_penalty",
        "length_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "num_return_sequences",
        "output_scores",
        "return_dict_in_generate",
        "remove_invalid_values",
        "exponential_decay_length_penalty",
        "chunk_size_feed_forward",
        "is_encoder_decoder",
        "initializer_range",
        "initializer_factor",
        "gradient_checkpointing",
        "language",
        "pretraining_tp",
        "attn_implementation",
        "_attn_implementation",
        "experts_implementation",
        "generation_config",
    )
)
