"""Beam search as transformers has it: open beams, and the best whole texts beside them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from zoo.decoding.reading import Memory, advance
from zoo.decoding.rules import Numbers, Rules, ruled, stops
from zoo.models.tower import Transformer

# Below every sum of log-probabilities, and finite: of what is not there.
_NONE = -1e9


@dataclasses.dataclass(frozen=True)
class Beams:
    """A search between two tokens; a pytree.

    Attributes:
        index: [] int32, tokens so far.
        texts, scores: the open beams, [batch, beams, tokens], and their log-probabilities.
        whole, merits, full: the best texts that ended, their log-probabilities over a power of the
            length, and whether there is one, [batch, beams].
        better: [batch] bool, whether an open beam may still come to be among the best.
        going: [] bool, whether any text is still open.
        memory: of the open beams, a row each.
    """

    index: jax.Array
    texts: jax.Array
    scores: jax.Array
    whole: jax.Array
    merits: jax.Array
    full: jax.Array
    better: jax.Array
    going: jax.Array
    memory: Memory


jax.tree_util.register_dataclass(Beams)


def start(
    rules: Rules, numbers: Numbers, tokens: jax.Array, logits: jax.Array, memory: Memory
) -> Beams:
    """The search after the first new token.

    Args:
        tokens: [batch, total], the prompt and what fills a text.
        logits: [batch, vocab] behind the prompt.
    """
    batch, beams = len(tokens), rules.num_beams
    rows = jnp.repeat(jnp.arange(batch), beams)
    texts = jnp.repeat(tokens[:, None], beams, axis=1)
    # All beams are one at first; only the first may be continued.
    scores = jnp.full((batch, beams), _NONE).at[:, 0].set(0.0)
    opened = Beams(
        index=jnp.int32(rules.begin),
        texts=texts,
        scores=scores,
        whole=texts,
        merits=jnp.full((batch, beams), _NONE),
        full=jnp.zeros((batch, beams), bool),
        better=jnp.ones(batch, bool),
        going=jnp.bool_(True),
        memory=memory.of_rows(rows),
    )
    return _extended(rules, numbers, opened, logits[rows])


def step(model: Transformer, rules: Rules, numbers: Numbers, beams: Beams) -> Beams:
    """The search after one more token."""
    rows = beams.texts.reshape(-1, rules.total)
    logits, memory = advance(model, beams.memory, rows, beams.index - 1)
    return _extended(rules, numbers, dataclasses.replace(beams, memory=memory), logits)


def best(beams: Beams) -> jax.Array:
    """[batch, tokens]: of each row the best text that ended."""
    return beams.whole[:, 0]


def _extended(rules: Rules, numbers: Numbers, beams: Beams, logits: jax.Array) -> Beams:
    batch, width, total = beams.texts.shape
    rows, vocab = beams.texts.reshape(-1, total), logits.shape[-1]
    scores = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    scores = ruled(rules, numbers, scores, rows, beams.memory.seen, beams.index)
    scores = (scores.reshape(batch, width, vocab) + beams.scores[..., None]).reshape(batch, -1)
    # So many that some are left to go on where the best ones end.
    count = min(max(2, 1 + len(rules.stop_ids)) * width, width * vocab)
    scores, places = jax.lax.top_k(scores, count)
    parents, chosen = places // vocab, places % vocab
    texts = _of(beams.texts, parents).at[:, :, beams.index].set(chosen)
    ends = stops(rules, chosen) | (beams.index + 1 == total)

    kept, first = jax.lax.top_k(scores + ends * _NONE, width)
    whole, merits, full = _collected(rules, numbers, beams, texts, scores, ends)

    own = (jnp.arange(batch)[:, None] * width + _of(parents, first)).reshape(-1)
    index = beams.index + 1
    length = index - rules.begin
    if rules.early_stopping == "never":
        # Longer texts gain where their length counts for them.
        most = jnp.int32(rules.total - rules.begin)
        length = jnp.where(numbers["length_penalty"] > 0.0, most, length)
    hoped = kept[:, 0] / length.astype(jnp.float32) ** numbers["length_penalty"]
    worst = jnp.where(full, jnp.min(merits, axis=1, keepdims=True), _NONE)
    better = beams.better & jnp.any(hoped[:, None] > worst, axis=1)
    going = jnp.any(better) & ~jnp.all(ends)
    if rules.early_stopping is True:
        going = going & ~jnp.all(full)
    return Beams(
        index=index,
        texts=_of(texts, first),
        scores=kept,
        whole=whole,
        merits=merits,
        full=full,
        better=better,
        going=going,
        memory=beams.memory.of_rows(own),
    )


def _collected(
    rules: Rules,
    numbers: Numbers,
    beams: Beams,
    texts: jax.Array,
    scores: jax.Array,
    ends: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best whole texts, these among them: of the likeliest `num_beams`, those that end."""
    width = rules.num_beams
    ends = ends & (jnp.arange(ends.shape[1]) < width)
    length = (beams.index + 1 - rules.begin).astype(jnp.float32)
    closed = ~beams.better[:, None]
    if rules.early_stopping is True:
        closed = closed | jnp.all(beams.full, axis=1, keepdims=True)
    merits = scores / length ** numbers["length_penalty"] + (~ends) * _NONE + closed * _NONE
    merits, first = jax.lax.top_k(jnp.concatenate([beams.merits, merits], axis=1), width)
    whole = jnp.concatenate([beams.whole, texts], axis=1)
    full = jnp.concatenate([beams.full, ends], axis=1)
    return _of(whole, first), merits, _of(full, first)


def _of(array: jax.Array, places: jax.Array) -> jax.Array:
    """Along the second axis of [batch, any, ...], those at [batch, new]."""
    return jax.vmap(lambda own, chosen: own[chosen])(array, places)
