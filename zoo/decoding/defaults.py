"""What a checkpoint of transformers says about generation."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from zoo.decoding.sampling import Sampling, check_ids
from zoo.errors import ConfigError
from zoo.models.tower import Transformer

# Keys of generation_config.json -> fields of Sampling.
_FIELDS = {
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "min_new_tokens": "min_new_tokens",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
    "forced_bos_token_id": "forced_bos_id",
    "forced_eos_token_id": "forced_eos_id",
    "bad_words_ids": "bad_words",
    "suppress_tokens": "suppress_ids",
    "begin_suppress_tokens": "begin_suppress_ids",
    "pad_token_id": "pad_id",
}
# Keys that would change which token comes, and the values that do not.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "sequence_bias": (None,),
    "guidance_scale": (None, 1.0),
    "exponential_decay_length_penalty": (None,),
    "penalty_alpha": (None, 0.0),
    "force_words_ids": (None,),
    "constraints": (None,),
    "num_beam_groups": (None, 1),
    "stop_strings": (None,),
    "watermarking_config": (None,),
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


_Kind = tuple[Callable[[Any], bool], str]  # what a value must be, and that in words
_NUMBER: _Kind = (_is_number, "a finite number")
_POSITIVE: _Kind = (lambda value: _is_number(value) and value > 0, "a finite number above 0")
_COUNT: _Kind = (lambda value: _is_whole(value) and value >= 0, "a whole number of 0 or more")
_ID: _Kind = (_is_whole, "a token id")
_IDS: _Kind = (_is_ids, "a list of token ids")
_ID_OR_IDS: _Kind = (lambda value: _is_whole(value) or _is_ids(value), "a token id or a list")
_WORDS: _Kind = (
    lambda value: isinstance(value, list) and all(word and _is_ids(word) for word in value),
    "a list of lists of token ids, none of them empty",
)
_KINDS: dict[str, _Kind] = {
    "repetition_penalty": _POSITIVE,
    "length_penalty": _NUMBER,
    "no_repeat_ngram_size": _COUNT,
    "min_new_tokens": _COUNT,
    "min_length": _COUNT,
    "early_stopping": (lambda value: value in (True, False, "never"), "true, false or 'never'"),
    "forced_bos_token_id": _ID,
    "forced_eos_token_id": _ID_OR_IDS,
    "bad_words_ids": _WORDS,
    "suppress_tokens": _IDS,
    "begin_suppress_tokens": _IDS,
    "pad_token_id": _ID,
    "eos_token_id": _ID_OR_IDS,
    "decoder_start_token_id": _ID,
}
_KNOWN = (*_KINDS, *_UNSUPPORTED)


def kept(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Of a `generation_config.json`, or a `config.json` without one beside it, what is read here,
    as a model holds it."""
    return tuple(
        (name, json.dumps(settings[name])) for name in _KNOWN if settings.get(name) is not None
    )


def with_defaults(
    sampling: Sampling, model: Transformer, *, begin: int
) -> tuple[Sampling, tuple[int, ...]]:
    """Settings with open fields as the model's checkpoint says, and its stop tokens.

    Ids beyond the vocabulary, which some configs have by default, can never come and are left out.

    Args:
        begin: tokens of the prompt, or of the start token.

    Raises:
        ConfigError: when the checkpoint asks for what is not supported, or holds a value that is
            none.
    """
    if not sampling.defaults:
        return sampling, ()
    said = _said(model)
    for name, neutral in _UNSUPPORTED.items():
        if said.get(name) not in neutral:
            raise ConfigError(
                f"the checkpoint's generation settings have {name} = {said[name]!r}, which is not "
                "supported; use Sampling(defaults=False) to generate without them"
            )
    rows = model.config.sizes().vocab_size
    found = {
        field: _as_ours(field, said[name], rows) for name, field in _FIELDS.items() if name in said
    }
    if "min_length" in said and "min_new_tokens" not in said:
        found["min_new_tokens"] = max(said["min_length"] - begin, 0)
    for field, value in found.items():
        if getattr(sampling, field) is None and value is not None:
            sampling = dataclasses.replace(sampling, **{field: value})
    ends = said.get("eos_token_id", [])
    ends = ends if isinstance(ends, list) else [ends]
    return sampling, tuple(end for end in ends if 0 <= end < rows)


def start_token(sampling: Sampling, model: Transformer) -> int:
    """What the text of an encoder-decoder begins with; training may have begun with another."""
    said = _said(model) if sampling.defaults else {}
    start: int = said.get("decoder_start_token_id", model.config.decoder_start_id or 0)
    check_ids("the checkpoint's decoder_start_token_id", (start,), model.config.sizes().vocab_size)
    return start


def _said(model: Transformer) -> dict[str, Any]:
    said = {name: json.loads(value) for name, value in model.generation}
    for name, (is_one, words) in _KINDS.items():
        if name in said and not is_one(said[name]):
            raise ConfigError(
                f"the checkpoint's generation settings have {name} = {said[name]!r}; use {words}, "
                "or Sampling(defaults=False) to generate without them"
            )
    return said


def _as_ours(field: str, value: Any, rows: int) -> Any:
    """Lists of ids as tuples, without those that have no row; a single one as None."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return tuple(tuple(word) for word in value if all(0 <= token < rows for token in word))
    if isinstance(value, list):
        return tuple(token for token in value if 0 <= token < rows)
    return None if field.endswith("_id") and not 0 <= value < rows else value
