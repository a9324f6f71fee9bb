"""Continuing text. This first form has no cache: every token is a whole forward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import ConfigError
from zoo.models.encoder_decoder import EncoderDecoder
from zoo.models.tower import Transformer


def generate(
    model: Transformer,
    prompt_ids: jax.Array,
    attention_mask: jax.Array | None = None,
    *,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    key: jax.Array | None = None,
    eos_id: int | None = None,
) -> jax.Array:
    """Continue prompts, or answer them with an encoder-decoder; greedily by default.

    A sequence that outgrows the model's `max_length` is continued from its last tokens.

    Args:
        prompt_ids: [batch, prompt] int32; the source of an encoder-decoder.
        attention_mask: [batch, prompt], 0 at padding, which stands on the left in front of a
            decoder's prompt and anywhere in a source.
        temperature: 0 is greedy; above 0 needs `key`.
        eos_id: once drawn, the rest of that sequence is filled with it.

    Returns:
        [batch, prompt + max_new_tokens] int32; of an encoder-decoder [batch, start token +
        max_new_tokens].

    Raises:
        ConfigError: on a model that writes no text, an empty prompt, a token beyond the
            vocabulary, or a bad setting.
    """
    prompt_ids = jnp.asarray(prompt_ids)
    mask = jnp.ones_like(prompt_ids) if attention_mask is None else jnp.asarray(attention_mask)
    _check_prompt(model, prompt_ids, mask, eos_id)
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens = {max_new_tokens}; use 1 or more")
    if temperature < 0.0 or (temperature > 0.0 and key is None):
        raise ConfigError(f"temperature = {temperature}: use 0, or a positive one and a key")
    key = jax.random.key(0) if key is None else key
    begin, source = prompt_ids.astype(jnp.int32), None
    seen = jnp.asarray(mask, jnp.int32)
    if isinstance(model, EncoderDecoder):
        source = (begin, seen)
        start = model.config.decoder_start_id or 0
        begin = jnp.full((len(prompt_ids), 1), start, jnp.int32)
        seen = jnp.ones_like(begin)
    new = ((0, 0), (0, max_new_tokens))
    structure, state = nnx.split(model)
    return _continue(
        state,
        jnp.pad(begin, new),
        jnp.pad(seen, new, constant_values=1),
        source,
        jnp.float32(temperature or 1.0),
        key,
        structure=structure,
        prompt=begin.shape[1],
        sample=temperature > 0.0,
        eos_id=eos_id,
    )


def _check_prompt(
    model: Transformer, prompt_ids: jax.Array, mask: jax.Array, eos_id: int | None
) -> None:
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
    last = model.config.sizes().vocab_size - 1
    for token in (int(prompt_ids.min()), int(prompt_ids.max())):
        if not 0 <= token <= last:
            raise ConfigError(f"prompt_ids holds token {token}; ids run from 0 to {last}")
    if eos_id is not None and not 0 <= eos_id <= last:
        raise ConfigError(f"eos_id = {eos_id}; ids run from 0 to {last}")
    if mask.shape != prompt_ids.shape:
        raise ConfigError(
            f"attention_mask has shape {mask.shape}; it needs that of prompt_ids, "
            f"{prompt_ids.shape}"
        )
    if architecture == "encoder_decoder":
        if not bool((mask != 0).any(axis=1).all()):
            raise ConfigError("attention_mask hides a whole source; leave a token to read")
        return
    if not bool((mask[:, -1] != 0).all()) or bool((jnp.diff(mask.astype(jnp.int32)) < 0).any()):
        raise ConfigError("attention_mask has padding after a token; pad prompts on the left")


def _reader(
    model: Transformer, source: tuple[jax.Array, jax.Array] | None
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The function of tokens and their mask that gives hidden states; a source is read once."""
    if source is None:

        def read(tokens: jax.Array, mask: jax.Array) -> jax.Array:
            positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
            return model.hidden(tokens, attention_mask=mask, positions=positions)

        return read
    assert isinstance(model, EncoderDecoder)
    encoded, _ = model.encode(*source)

    def answer(tokens: jax.Array, mask: jax.Array) -> jax.Array:
        return model.decode(tokens, encoded, source[1])[0]

    return answer


@functools.partial(
    jax.jit,
    static_argnames=("structure", "prompt", "sample", "eos_id"),
    donate_argnames="tokens",
)
def _continue(
    state: nnx.State[Any, Any],
    tokens: jax.Array,
    seen: jax.Array,
    source: tuple[jax.Array, jax.Array] | None,
    temperature: jax.Array,
    key: jax.Array,
    *,
    structure: nnx.GraphDef[Transformer],
    prompt: int,
    sample: bool,
    eos_id: int | None,
) -> jax.Array:
    """The whole token loop as one program, compiled once for models of one structure."""
    model = nnx.merge(structure, state)
    total = tokens.shape[1]
    context = min(total, model.config.sizes().max_length)
    read = _reader(model, source)

    def extend(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        tokens, done = carry
        # The last `context` tokens before `index`; what lies after is never attended to.
        start = jnp.clip(index - context, 0, total - context)
        window = jax.lax.dynamic_slice_in_dim(tokens, start, context, axis=1)
        mask = jax.lax.dynamic_slice_in_dim(seen, start, context, axis=1)
        hidden = read(window, mask)
        last = jax.lax.dynamic_index_in_dim(hidden, index - 1 - start, axis=1, keepdims=False)
        logits = model.logits(last)
        if sample:
            own = jax.random.fold_in(key, index)
            chosen = jax.random.categorical(own, logits / temperature, axis=-1)
        else:
            chosen = jnp.argmax(logits, axis=-1)
        chosen = chosen.astype(jnp.int32)
        if eos_id is not None:
            chosen = jnp.where(done, eos_id, chosen)
            done = done | (chosen == eos_id)
        return tokens.at[:, index].set(chosen), done

    done = jnp.zeros(tokens.shape[0], bool)
    return jax.lax.fori_loop(prompt, total, extend, (tokens, done))[0]
