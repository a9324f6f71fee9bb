"""What a model makes of a text that goes on: how likely a given one is, and which one it writes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zoo.decoding import Sampling, generate
from zoo.decoding.weights import Structure, split
from zoo.errors import ConfigError, DataError
from zoo.models.tower import Transformer
from zoo.tasks.judging import room
from zoo.tasks.losses import cross_entropy
from zoo.training.prompts import Prompts

# Of a batch: rows, tokens and logits at most.
MOST_ROWS, _MOST_TOKENS, _MOST_LOGITS = 16, 1 << 14, 1 << 26
# Tokens are written so many at a time before somebody looks whether a text has ended.
_LOOKS_EVERY = 8
Done = Callable[[int], object]


class Score(NamedTuple):
    """A continuation's log-likelihood in nats, and whether each token of it is the likeliest."""

    loglikelihood: float
    greedy: bool


def check_writes(model: Transformer) -> None:
    """Raise `ConfigError` for a model that gives no probabilities to a text that goes on."""
    architecture, head = model.config.architecture, model.config.head
    if head != "language_model":
        raise ConfigError(
            f"head = {head!r} on architecture = {architecture!r} continues no text; use a decoder "
            "or an encoder-decoder with head = 'language_model'"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    """A continuation as the model reads it.

    Attributes:
        source: tokens of an encoder; none for a decoder.
        read: that the decoder is given.
        targets: that are scored, each predicted at one of the last places of `read`.
    """

    source: list[int]
    read: list[int]
    targets: list[int]

    def shape(self, most: int) -> tuple[int, ...]:
        """What it is padded to: source, read and targets."""
        parts = (self.source, self.read, self.targets)
        return tuple(room(len(part), most) if part else 0 for part in parts)


def score(
    model: Transformer,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    rows: int = MOST_ROWS,
    done: Done = lambda count: None,
) -> list[Score]:
    """Scores of continuations, each behind its context.

    Args:
        pairs: (context, continuation), both of one token or more; of an encoder-decoder the context
            is the source. A context that is too long for the model loses its beginning.
        rows: that are read at once, at most.
        done: is told how many more have been scored.

    Raises:
        DataError: on an empty part, a continuation that is too long, or a token that the model has
            not.
    """
    most, vocab_size = model.config.sizes().max_length, model.config.sizes().vocab_size
    asked = [_asked(model, list(context), list(own)) for context, own in pairs]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, each in enumerate(asked):
        groups.setdefault(each.shape(most), []).append(index)
    structure, leaves = split(model)
    found: list[Any] = [None] * len(asked)
    for shape, members in sorted(groups.items(), reverse=True):
        fitting = min(_MOST_TOKENS // sum(shape[:2]), _MOST_LOGITS // (shape[2] * vocab_size))
        size = max(1, min(rows, fitting, 1 << (len(members) - 1).bit_length()))
        for chosen, filled in _batches(members, size):
            given, places, targets = _stacked([asked[index] for index in filled], shape)
            nats, likeliest = jax.device_get(
                _scored(leaves, given, places, targets, structure=structure)
            )
            for row, index in enumerate(chosen):
                count = len(asked[index].targets)
                own = np.asarray(nats[row, :count], np.float64)
                found[index] = Score(-float(own.sum()), bool(likeliest[row, :count].all()))
            done(len(chosen))
    return found


def _asked(model: Transformer, context: list[int], own: list[int]) -> _Asked:
    most, vocab_size = model.config.sizes().max_length, model.config.sizes().vocab_size
    if not context or not own:
        name = "continuation" if context else "context"
        raise DataError(f"a {name} has 0 tokens; nothing can be scored")
    if len(own) > most:
        raise DataError(
            f"a continuation of {len(own)} tokens is longer than the model's max_length = {most}"
        )
    check_ids([*context, *own], vocab_size)
    if model.config.architecture == "encoder_decoder":
        return _Asked(context[-most:], [model.config.decoder_start_id or 0, *own[:-1]], own)
    return _Asked([], [*context, *own][-most - 1 : -1], own)


def check_ids(ids: Sequence[int], rows: int) -> None:
    """Raise `DataError` at a token that a model of so many rows has not."""
    if ids and max(ids) >= rows:
        raise DataError(
            f"text has token {max(ids)}, the model knows {rows}; is this its tokenizer?"
        )


def _batches(members: list[int], size: int) -> Iterator[tuple[list[int], list[int]]]:
    """(members, the same filled up to `size` with the last one) in their order."""
    for start in range(0, len(members), size):
        chosen = members[start : start + size]
        yield chosen, chosen + chosen[-1:] * (size - len(chosen))


def _stacked(
    asked: list[_Asked], shape: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(arguments of the model, places of the predictions, targets); padding stands behind."""
    source, read, targets = (
        np.zeros((len(asked), width), np.int32) for width in (max(1, shape[0]), *shape[1:])
    )
    seen = [np.zeros(part.shape, bool) for part in (source, read)]
    places = np.zeros_like(targets)
    for row, each in enumerate(asked):
        for part, tokens in ((source, each.source), (read, each.read), (targets, each.targets)):
            part[row, : len(tokens)] = tokens
        for part, tokens in zip(seen, (each.source, each.read), strict=True):
            part[row, : len(tokens)] = True
        count = len(each.targets)
        places[row, :count] = len(each.read) - count + np.arange(count)
    if shape[0]:
        given = {"input_ids": source, "attention_mask": seen[0], "decoder_input_ids": read}
    else:
        given = {"input_ids": read, "attention_mask": seen[1]}
    return given, places, targets


@functools.partial(jax.jit, static_argnames="structure")
def _scored(
    leaves: Sequence[jax.Array],
    given: dict[str, Any],
    places: jax.Array,
    targets: jax.Array,
    *,
    structure: Structure,
) -> tuple[jax.Array, jax.Array]:
    """(nats, whether it is the likeliest) of each target, [batch, targets]."""
    model: Any = structure.with_arrays(leaves)
    # Logits of the scored places only: a context may be long, and a vocabulary large.
    hidden = jnp.take_along_axis(model.hidden(**given), places[..., None], axis=1)
    logits = model.logits(hidden)
    return cross_entropy(logits, targets).nats, jnp.argmax(logits, axis=-1) == targets


class _Enough(Exception):
    """Every text of a batch has ended."""


def write(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    read: Prompts,
    *,
    stops: Sequence[str] = (),
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    sampling: Sampling | None = None,
    seed: int = 0,
    rows: int = MOST_ROWS,
    done: Done = lambda count: None,
) -> list[str]:
    """What a model writes behind each of some prompts, without special tokens.

    Args:
        prompts: tokens, of an encoder-decoder the source's. A prompt that leaves no room for what
            is to be written loses its beginning.
        read: how the checkpoint reads them: its tokenizer, and what ends a text.
        stops: strings; a text ends before the first one that comes.
        max_new_tokens, temperature, sampling: as for `generate`.
        seed: of the draws, where there is a temperature.
        rows: that are written at once, at most.
        done: is told how many more texts are there.

    Raises:
        ConfigError: when the model has no room for so many tokens.
        DataError: on an empty prompt, or a token that the model has not.
    """
    sizes, pairs = model.config.sizes(), model.config.architecture == "encoder_decoder"
    most = sizes.max_length if pairs else sizes.max_length - max_new_tokens
    if max_new_tokens >= sizes.max_length:
        raise ConfigError(
            f"max_new_tokens = {max_new_tokens} is more than a model of max_length = "
            f"{sizes.max_length} can write behind something; use {sizes.max_length - 1} or fewer"
        )
    given = [list(prompt)[-most:] for prompt in prompts]
    if not all(given):
        raise DataError("a prompt has 0 tokens; there is nothing to go on from")
    check_ids([token for prompt in given for token in prompt], sizes.vocab_size)
    groups: dict[int, list[int]] = {}
    for index, prompt in enumerate(given):
        groups.setdefault(room(len(prompt), most), []).append(index)
    written = [""] * len(given)
    key = jax.random.key(seed)
    for width, members in sorted(groups.items(), reverse=True):
        size = min(rows, 1 << (len(members) - 1).bit_length())
        for number, (chosen, filled) in enumerate(_batches(members, size)):
            tokens, seen = _padded([given[index] for index in filled], width, left=not pairs)
            ended = _Ending(read, tuple(stops))
            made = _generated(
                model,
                tokens,
                seen,
                ended,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                key=jax.random.fold_in(jax.random.fold_in(key, width), number),
                sampling=sampling or Sampling(),
            )
            for index, row in zip(chosen, made, strict=False):
                written[index] = ended.text(row)[0]
            done(len(chosen))
    return written


@dataclasses.dataclass(frozen=True, eq=False)
class _Ending:
    """Where a text ends: at a token of the checkpoint, or at a string."""

    read: Prompts
    stops: tuple[str, ...]

    def text(self, tokens: np.ndarray) -> tuple[str, bool]:
        """The text of new tokens [n] up to its end, and whether that has come."""
        ends = np.flatnonzero(np.isin(tokens, self.read.ends))
        kept = tokens[: ends[0]] if len(ends) else tokens
        hidden = np.isin(kept, self.read.tokenizer.special_ids)
        whole = self.read.tokenizer.decode(kept[~hidden])
        cut = min((place for stop in self.stops if (place := whole.find(stop)) >= 0), default=None)
        return whole[:cut], len(ends) > 0 or cut is not None


def _generated(
    model: Transformer,
    tokens: np.ndarray,
    seen: np.ndarray,
    ended: _Ending,
    *,
    sampling: Sampling,
    **settings: Any,
) -> np.ndarray:
    """New tokens [batch, n]; where strings end texts, until all have ended."""
    made: list[np.ndarray] = []

    def watch(new: np.ndarray) -> None:
        made.append(new)
        looks = len(made) % _LOOKS_EVERY == 0
        if looks and all(ended.text(row)[1] for row in np.stack(made, axis=1)):
            raise _Enough

    # Without such strings, or with beams, the loop runs as one program.
    watched = bool(ended.stops) and sampling.num_beams == 1
    try:
        whole = generate(
            model,
            jnp.asarray(tokens),
            jnp.asarray(seen),
            eos_id=ended.read.ends,
            sampling=sampling,
            on_tokens=watch if watched else None,
            **settings,
        )
    except _Enough:
        return np.stack(made, axis=1)
    prompt = 1 if model.config.architecture == "encoder_decoder" else tokens.shape[1]
    return np.asarray(whole)[:, prompt:]


def _padded(prompts: list[list[int]], width: int, *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """(tokens int32, whether they are there), both [batch, width]."""
    tokens, seen = np.zeros((len(prompts), width), np.int32), np.zeros((len(prompts), width), bool)
    for row, prompt in enumerate(prompts):
        place = slice(width - len(prompt), width) if left else slice(len(prompt))
        tokens[row, place], seen[row, place] = prompt, True
    return tokens, seen
