"""From a token's logits to the choice of it; the rules and their order are transformers'."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from zoo.decoding.sampling import EarlyStopping, Sampling

Numbers = Mapping[str, jax.Array]  # settings that a compiled program takes as inputs


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is settled before a program is compiled: `Sampling` with nothing left open.

    Attributes:
        begin, total: tokens of the prompt (or 1, the start token), and with the new ones.
        stop_ids: tokens that end a text.
        fill_id: what stands behind them.
        draws: whether tokens are drawn; else the likeliest is taken.
    """

    begin: int
    total: int
    stop_ids: tuple[int, ...]
    fill_id: int
    draws: bool
    top_k: int | None
    no_repeat_ngram_size: int
    min_new_tokens: int
    num_beams: int
    early_stopping: EarlyStopping
    forced_bos_id: int | None
    forced_eos_id: int | None
    bad_words: tuple[tuple[int, ...], ...]
    suppress_ids: tuple[int, ...]
    begin_suppress_ids: tuple[int, ...]


def settle(
    sampling: Sampling,
    *,
    stop_ids: tuple[int, ...],
    begin: int,
    total: int,
    temperature: float,
) -> tuple[Rules, Numbers]:
    """Settings in two parts: what a program is compiled for, and numbers that it takes."""
    pad = sampling.pad_id
    rules = Rules(
        begin=begin,
        total=total,
        stop_ids=stop_ids,
        fill_id=pad if pad is not None else stop_ids[0] if stop_ids else 0,
        draws=temperature > 0.0,
        top_k=sampling.top_k,
        no_repeat_ngram_size=sampling.no_repeat_ngram_size or 0,
        min_new_tokens=sampling.min_new_tokens or 0,
        num_beams=sampling.num_beams,
        early_stopping=sampling.early_stopping or False,
        forced_bos_id=sampling.forced_bos_id,
        forced_eos_id=sampling.forced_eos_id,
        # A stop token by itself is no bad word: without it no text would end.
        bad_words=tuple(
            word for word in sampling.bad_words or () if len(word) > 1 or word[0] not in stop_ids
        ),
        suppress_ids=sampling.suppress_ids or (),
        begin_suppress_ids=sampling.begin_suppress_ids or (),
    )
    neutral = {"top_p": 1.0, "min_p": None, "repetition_penalty": 1.0}
    numbers = {name: getattr(sampling, name) for name in neutral}
    numbers = {name: value for name, value in numbers.items() if value not in (None, neutral[name])}
    if rules.draws:
        numbers["temperature"] = temperature
    if rules.num_beams > 1:
        power = sampling.length_penalty
        numbers["length_penalty"] = 1.0 if power is None else power
    return rules, {name: jnp.float32(value) for name, value in numbers.items()}


def choose(
    rules: Rules,
    numbers: Numbers,
    logits: jax.Array,
    tokens: jax.Array,
    seen: jax.Array,
    index: jax.Array,
    key: jax.Array | None,
) -> jax.Array:
    """Token `index` of each row, [rows] int32; arguments as for `ruled`, `key` of the call, which
    only drawing needs."""
    scores = ruled(rules, numbers, logits, tokens, seen, index)
    if not rules.draws:
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)
    assert key is not None
    own = jax.random.fold_in(key, index)
    return jax.random.categorical(own, narrowed(rules, numbers, scores)).astype(jnp.int32)


def ruled(
    rules: Rules,
    numbers: Numbers,
    scores: jax.Array,
    tokens: jax.Array,
    seen: jax.Array,
    index: jax.Array,
) -> jax.Array:
    """Scores with those of tokens that may not come at -inf.

    Args:
        scores: [rows, vocab] float32 of token `index`: logits, or log-probabilities of beams.
        tokens: [rows, total]; those from `index` on are not read.
        seen: [rows, total] bool, False at padding, which no rule looks at.
    """
    vocab = jnp.arange(scores.shape[-1])
    known = seen & (jnp.arange(tokens.shape[1]) < index)
    if "repetition_penalty" in numbers:
        penalty = numbers["repetition_penalty"]
        present = _marked(scores, tokens, known)
        punished = jnp.where(scores < 0, scores * penalty, scores / penalty)
        scores = jnp.where(present, punished, scores)
    if rules.no_repeat_ngram_size:
        ended, completing = _repeats(rules.no_repeat_ngram_size, tokens, known, index)
        scores = _without(scores, _marked(scores, completing, ended))
    for *before, last in rules.bad_words:
        follows = _ends_with(before, tokens, known, index)
        scores = _without(scores, follows[:, None] & (vocab == last))
    if rules.min_new_tokens and rules.stop_ids:
        early = index < rules.begin + rules.min_new_tokens
        scores = _without(scores, early & _is_in(vocab, rules.stop_ids))
    if rules.forced_bos_id is not None and rules.begin == 1:
        scores = _forced(scores, rules.forced_bos_id, index == 1)
    if rules.forced_eos_id is not None:
        scores = _forced(scores, rules.forced_eos_id, index == rules.total - 1)
    if rules.suppress_ids:
        scores = _without(scores, _is_in(vocab, rules.suppress_ids))
    if rules.begin_suppress_ids:
        forced = rules.forced_bos_id is not None and rules.begin == 1
        first = index == rules.begin + forced
        scores = _without(scores, first & _is_in(vocab, rules.begin_suppress_ids))
    return scores


def narrowed(rules: Rules, numbers: Numbers, scores: jax.Array) -> jax.Array:
    """Logits to draw from: over the temperature, and those that are left out at -inf."""
    scores = scores / numbers["temperature"]
    if rules.top_k is not None:
        count = min(rules.top_k, scores.shape[-1])
        scores = _without(scores, scores < jax.lax.top_k(scores, count)[0][:, -1:])
    if "top_p" in numbers:
        rising = jnp.sort(scores, axis=-1)
        reached = jnp.cumsum(jax.nn.softmax(rising, axis=-1), axis=-1)
        kept = reached > 1.0 - numbers["top_p"]
        # The likeliest stays whatever rounding makes of the sum.
        kept = kept.at[:, -1].set(True)
        least = jnp.min(jnp.where(kept, rising, jnp.inf), axis=-1, keepdims=True)
        scores = _without(scores, scores < least)
    if "min_p" in numbers:
        probability = jax.nn.softmax(scores, axis=-1)
        top = jnp.max(probability, axis=-1, keepdims=True)
        scores = _without(scores, probability < numbers["min_p"] * top)
    return scores


def stops(rules: Rules, chosen: jax.Array) -> jax.Array:
    """Whether each token ends its text, of the same shape."""
    return _is_in(chosen, rules.stop_ids)


def _is_in(tokens: jax.Array, ids: tuple[int, ...]) -> jax.Array:
    return jnp.isin(tokens, jnp.asarray(ids, tokens.dtype)) if ids else jnp.zeros_like(tokens, bool)


def _without(scores: jax.Array, banned: jax.Array) -> jax.Array:
    return jnp.where(banned, -jnp.inf, scores)


def _forced(scores: jax.Array, token: int, now: jax.Array) -> jax.Array:
    alone = jnp.full_like(scores, -jnp.inf).at[:, token].set(0.0)
    return jnp.where(now, alone, scores)


def _marked(scores: jax.Array, tokens: jax.Array, which: jax.Array) -> jax.Array:
    """[rows, vocab] bool: whether a token is among those of [rows, any] that `which` says."""
    rows = jnp.arange(len(scores))[:, None]
    return jnp.zeros(scores.shape, bool).at[rows, tokens].max(which)


def _repeats(
    size: int, tokens: jax.Array, known: jax.Array, index: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of every run of `size` tokens: whether its beginning is how the text ends, and its last."""
    length = tokens.shape[1]
    runs = max(length - size + 1, 0)
    same = known[:, size - 1 :] & known[:, :runs]
    for place in range(size - 1):
        recent = _at(tokens, index - (size - 1) + place)
        same = same & (tokens[:, place : place + runs] == recent[:, None])
    return same, tokens[:, size - 1 :]


def _ends_with(run: list[int], tokens: jax.Array, known: jax.Array, index: jax.Array) -> jax.Array:
    """[rows] bool: whether the text ends so."""
    same = jnp.full(len(tokens), index >= len(run))
    for place, token in enumerate(reversed(run)):
        before = index - 1 - place
        same = same & (_at(tokens, before) == token) & _at(known, before)
    return same


def _at(array: jax.Array, index: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(array, jnp.maximum(index, 0), axis=1, keepdims=False)
