"""`zoo.generate`: a prompt read at once, then the token loop in one compiled program."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.decoding import beams
from zoo.decoding.defaults import start_token, with_defaults
from zoo.decoding.reading import Memory, advance, begin
from zoo.decoding.rules import Numbers, Rules, choose, settle, stops
from zoo.decoding.sampling import Sampling, check_ids
from zoo.decoding.weights import Structure, prepared
from zoo.errors import ConfigError
from zoo.models.encoder_decoder import EncoderDecoder
from zoo.models.tower import Transformer

OnTokens = Callable[[np.ndarray[Any, Any]], None]


def generate(
    model: Transformer,
    prompt_ids: jax.Array,
    attention_mask: jax.Array | None = None,
    *,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    key: jax.Array | None = None,
    eos_id: int | Sequence[int] | None = None,
    sampling: Sampling | None = None,
    on_tokens: OnTokens | None = None,
) -> jax.Array:
    """Continue prompts, or answer them with an encoder-decoder; greedily by default.

    Rules of a checkpoint of transformers that was loaded (stop and pad tokens, tokens that are
    forced or may not come, penalties) hold unless `sampling` says otherwise; how the text is
    searched or drawn is for the call to say.

    A text that outgrows `max_length` goes on: with learned positions, of which there are no more,
    from its last `max_length` tokens, read anew for every token (slowly); otherwise as before.

    Args:
        prompt_ids: [batch, prompt] int32; the source of an encoder-decoder.
        attention_mask: [batch, prompt], 0 at padding, which stands on the left in front of a
            decoder's prompt and anywhere in a source.
        temperature: 0 takes the likeliest token; above 0 tokens are drawn, which needs `key`.
        eos_id: token, or several, that end a text: what follows is filled with the (first) one,
            or with the pad token of `sampling` or of the checkpoint. None: the checkpoint's, or
            none; (): none.
        sampling: which tokens may come, and beams.
        on_tokens: is given every new token while the text goes on, [batch] int32; with beams there
            are none before the end.

    Returns:
        [batch, prompt + max_new_tokens] int32; of an encoder-decoder [batch, start token +
        max_new_tokens].

    Raises:
        ConfigError: on a model that writes no text, an empty prompt, a token beyond the
            vocabulary, or a setting that cannot work.
    """
    prompt_ids = jnp.asarray(prompt_ids)
    mask = np.asarray(np.ones_like(prompt_ids) if attention_mask is None else attention_mask)
    _check_prompt(model, prompt_ids, mask)
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens = {max_new_tokens}; use 1 or more")
    # So written that nan, which compares with nothing, is refused too.
    if not 0.0 <= temperature < math.inf:
        raise ConfigError(f"temperature = {temperature}; use 0 or more")
    if temperature > 0.0 and key is None:
        raise ConfigError(f"temperature = {temperature} draws tokens; give a key, or use 0")
    pairs = isinstance(model, EncoderDecoder)
    prompt = 1 if pairs else prompt_ids.shape[1]
    rows = model.config.sizes().vocab_size
    (sampling or Sampling()).check(vocab_size=rows, temperature=temperature)
    sampling, stop_ids = with_defaults(sampling or Sampling(), model, begin=prompt)
    if eos_id is not None:
        stop_ids = (eos_id,) if isinstance(eos_id, int) else tuple(eos_id)
        check_ids("eos_id", stop_ids, rows)
    if on_tokens is not None and sampling.num_beams > 1:
        raise ConfigError(
            f"on_tokens with num_beams = {sampling.num_beams}: which text wins is known at the "
            "end; use num_beams = 1, or leave on_tokens out"
        )
    rules, numbers = settle(
        sampling,
        stop_ids=stop_ids,
        begin=prompt,
        total=prompt + max_new_tokens,
        temperature=temperature,
    )
    start = np.int32(start_token(sampling, model) if pairs else 0)
    structure, leaves = prepared(model)
    fixed = {"structure": structure, "rules": rules}
    key = key if rules.draws else None
    if on_tokens is None:
        done: jax.Array = _write(leaves, prompt_ids, mask, start, key, numbers, **fixed)
        return done
    state = _begin(leaves, prompt_ids, mask, start, key, numbers, **fixed)
    assert isinstance(state, _Texts)
    for index in range(prompt, rules.total):
        on_tokens(np.asarray(state.tokens[:, index]))
        if index + 1 == rules.total or bool(state.done.all()):
            break
        state = _go_on(leaves, state, numbers, index + 2, **fixed)
    written: jax.Array = state.tokens
    return written


def _check_prompt(model: Transformer, prompt_ids: jax.Array, mask: np.ndarray[Any, Any]) -> None:
    """Refuse what indexing would clip and attention would ignore in silence."""
    head, architecture = model.config.head, model.config.architecture
    if head != "language_model" or architecture not in ("decoder", "encoder_decoder"):
        raise ConfigError(
            f"head = {head!r} on architecture = {architecture!r} does not continue text; "
            "use head = 'language_model' on 'decoder' or 'encoder_decoder'"
        )
    if prompt_ids.ndim != 2 or prompt_ids.shape[1] == 0:
        raise ConfigError(
            f"prompt_ids has shape {prompt_ids.shape}; use [batch, length of 1 or more]"
        )
    if not jnp.issubdtype(prompt_ids.dtype, jnp.integer):
        raise ConfigError(f"prompt_ids is of {prompt_ids.dtype}; use whole numbers")
    given, seen = np.asarray(prompt_ids), mask != 0
    last = model.config.sizes().vocab_size - 1
    for token in (int(given.min()), int(given.max())):
        if not 0 <= token <= last:
            raise ConfigError(f"prompt_ids holds token {token}; ids run from 0 to {last}")
    if seen.shape != given.shape:
        raise ConfigError(
            f"attention_mask has shape {seen.shape}; it needs that of prompt_ids, {given.shape}"
        )
    if architecture == "encoder_decoder":
        if not seen.any(axis=1).all():
            raise ConfigError("attention_mask hides a whole source; leave a token to read")
        return
    if not seen[:, -1].all() or (seen[:, :-1] > seen[:, 1:]).any():
        raise ConfigError("attention_mask has padding after a token; pad prompts on the left")


@dataclasses.dataclass(frozen=True)
class _Texts:
    """Texts between two tokens; a pytree.

    Attributes:
        index: [] int32, tokens so far.
        tokens: [rows, total], filled behind those.
        done: [rows] bool, whether a stop token came.
        key: of the call; None where nothing is drawn.
        memory: of all tokens but the last.
    """

    index: jax.Array
    tokens: jax.Array
    done: jax.Array
    key: jax.Array | None
    memory: Memory


jax.tree_util.register_dataclass(_Texts)


@functools.partial(jax.jit, static_argnames=("structure", "rules"))
def _begin(
    leaves: Sequence[jax.Array],
    prompt_ids: jax.Array,
    mask: jax.Array,
    start: jax.Array,
    key: jax.Array | None,
    numbers: Numbers,
    *,
    structure: Structure,
    rules: Rules,
) -> _Texts | beams.Beams:
    """Read the prompt and choose the first new token."""
    model = structure.with_arrays(leaves)
    tokens, seen, source = prompt_ids.astype(jnp.int32), mask.astype(bool), None
    if isinstance(model, EncoderDecoder):
        source = (model.encode(tokens, seen)[0], seen)
        tokens = jnp.full((len(tokens), 1), start, jnp.int32)
        seen = jnp.ones_like(tokens, bool)
    new = ((0, 0), (0, rules.total - rules.begin))
    tokens = jnp.pad(tokens, new, constant_values=rules.fill_id)
    seen = jnp.pad(seen, new, constant_values=True)
    logits, memory = begin(model, tokens, seen, source, prompt=rules.begin)
    if rules.num_beams > 1:
        return beams.start(rules, numbers, tokens, logits, memory)
    done = jnp.zeros(len(tokens), bool)
    texts = _Texts(jnp.int32(rules.begin), tokens, done, key, memory)
    return _written(rules, numbers, texts, logits)


@functools.partial(jax.jit, static_argnames=("structure", "rules"), donate_argnames="state")
def _go_on(
    leaves: Sequence[jax.Array],
    state: Any,
    numbers: Numbers,
    until: jax.Array | int,
    *,
    structure: Structure,
    rules: Rules,
) -> Any:
    """The token loop as one program: up to `until` tokens, or the end of every text."""
    model = structure.with_arrays(leaves)

    def going(state: Any) -> jax.Array:
        open_ = state.going if isinstance(state, beams.Beams) else ~jnp.all(state.done)
        return open_ & (state.index < until)

    def step(state: Any) -> Any:
        if isinstance(state, beams.Beams):
            return beams.step(model, rules, numbers, state)
        logits, memory = advance(model, state.memory, state.tokens, state.index - 1)
        return _written(rules, numbers, dataclasses.replace(state, memory=memory), logits)

    return jax.lax.while_loop(going, step, state)


@functools.partial(jax.jit, static_argnames=("structure", "rules"))
def _write(
    leaves: Sequence[jax.Array],
    prompt_ids: jax.Array,
    mask: jax.Array,
    start: jax.Array,
    key: jax.Array | None,
    numbers: Numbers,
    *,
    structure: Structure,
    rules: Rules,
) -> jax.Array:
    """[rows, total], prompt and loop as one program: a tiny model writes tokens in the time that
    it takes to start a second one."""
    state = _begin(leaves, prompt_ids, mask, start, key, numbers, structure=structure, rules=rules)
    state = _go_on(leaves, state, numbers, rules.total, structure=structure, rules=rules)
    tokens: jax.Array = beams.best(state) if isinstance(state, beams.Beams) else state.tokens
    return tokens


def _written(rules: Rules, numbers: Numbers, texts: _Texts, logits: jax.Array) -> _Texts:
    """The texts with their next token."""
    seen = texts.memory.seen
    chosen = choose(rules, numbers, logits, texts.tokens, seen, texts.index, texts.key)
    chosen = jnp.where(texts.done, rules.fill_id, chosen)
    tokens = jax.lax.dynamic_update_slice_in_dim(texts.tokens, chosen[:, None], texts.index, axis=1)
    done = texts.done | stops(rules, chosen)
    return dataclasses.replace(texts, index=texts.index + 1, tokens=tokens, done=done)
