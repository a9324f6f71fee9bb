"""Every variant reads a text token by token as it reads it whole, and writes what it says."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.matrix import BASE, VOCAB
from zoo.decoding import generate
from zoo.decoding.reading import advance, begin
from zoo.decoding.weights import prepared
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, build
from zoo.variants.registry import list_variants

PROMPT, TOTAL = 3, 8
PAIRS = list(itertools.product(list_variants(), ("decoder", "encoder_decoder")))
# What else changes how a text is read: (name, fields).
SETTINGS: dict[str, dict[str, Any]] = {
    "rotary": {"positions": "rotary", "rotary_fraction": 0.5},
    "sinusoidal, offset": {"positions": "sinusoidal", "position_offset": 2},
    "no positions": {"positions": "none"},
    "counted": {"position_offset": 2, "count_positions": "seen"},
    "unpadded": {"position_offset": 2, "count_positions": "unpadded", "pad_id": 0},
    "unpadded sines": {
        "positions": "sinusoidal_fairseq",
        "position_offset": 1,
        "count_positions": "unpadded",
        "pad_id": 0,
    },
    "grouped": {"num_kv_heads": 1, "qk_norm": True, "attention_softcap": 2.0},
    "rings": {"window": 2, "positions": "rotary"},
    "distances": {"relative_buckets": 4, "relative_max_distance": 6, "positions": "none"},
    "distances by layer": {
        "relative_buckets": 4,
        "relative_max_distance": 6,
        "relative_per_layer": True,
    },
    "distances in rings": {"relative_buckets": 4, "relative_max_distance": 6, "window": 3},
    "several turns": {"positions": "rotary", "rotary_pattern": "RLN", "rotary_local_theta": 10.0},
    "rings and all": {"window": 3, "window_pattern": "LG"},
    "ring beyond the prompt": {"window": 5},
    "value residual": {"value_residual": True},
    "parallel": {"layout": "parallel"},
}

# And how a target is, which has a past and a source.
OF_PAIRS = {
    name: SETTINGS[name] for name in ("unpadded", "grouped", "rings", "value residual", "distances")
} | {"normed tokens": {"embedding_norm": True, "norm_target_tokens": True}}


def shaken(config: ModelConfig) -> Transformer:
    """A model with no weight at its start, where many multipliers are 0 or 1."""
    model = build(config, jax.random.key(0))
    params, _ = weight.split(model)
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return weight.bind(model, jax.tree.unflatten(treedef, moved))


def texts() -> tuple[jax.Array, jax.Array]:
    """Two rows, the second with a place of padding on the left."""
    tokens = jax.random.randint(jax.random.key(2), (2, TOTAL), 1, VOCAB, jnp.int32)
    seen = jnp.ones_like(tokens, bool).at[1, 0].set(False)
    return tokens.at[1, 0].set(0), seen


def by_token(model: Transformer) -> jax.Array:
    """Logits behind the prompt and every later token, [2, TOTAL - PROMPT + 1, vocab]."""
    structure, leaves = prepared(model)

    @jax.jit
    def read(leaves: list[jax.Array]) -> jax.Array:
        model = structure.with_arrays(leaves)
        tokens, seen = texts()
        source = None
        if model.config.architecture == "encoder_decoder":
            source, seen = (model.encode(tokens, seen)[0], seen), jnp.ones_like(seen)
        first, memory = begin(model, tokens, seen, source, prompt=PROMPT)

        def step(memory: Any, index: jax.Array) -> tuple[Any, jax.Array]:
            logits, memory = advance(model, memory, tokens, index)
            return memory, logits

        _, rest = jax.lax.scan(step, memory, jnp.arange(PROMPT, TOTAL))
        return jnp.concatenate([first[:, None], rest.swapaxes(0, 1)], axis=1)

    return read(leaves)


def at_once(model: Transformer) -> jax.Array:
    """The same from one forward pass."""
    tokens, seen = texts()
    if model.config.architecture == "encoder_decoder":
        return jax.jit(lambda: model(tokens, tokens, attention_mask=seen))()[:, PROMPT - 1 :]
    offset = model.config.position_offset
    positions = jnp.maximum(jnp.cumsum(seen, axis=1) - 1 + offset, 0)
    logits = jax.jit(lambda: model(tokens, attention_mask=seen, positions=positions))()
    return logits[:, PROMPT - 1 :]


def check(model: Transformer, longer: Transformer | None = None) -> None:
    """Products are summed in another order, over values of order 1."""
    whole = at_once(longer or model)
    assert float(jnp.std(whole)) > 0.05, "logits that say nothing"
    np.testing.assert_allclose(by_token(model), whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_reading_token_by_token_is_reading_at_once(settings: dict[str, Any]) -> None:
    check(shaken(dataclasses.replace(BASE, **settings)))


@pytest.mark.parametrize("settings", OF_PAIRS.values(), ids=OF_PAIRS)
def test_so_is_a_target_beside_its_source(settings: dict[str, Any]) -> None:
    config = dataclasses.replace(BASE, architecture="encoder_decoder", **settings)
    check(shaken(config))


def test_a_text_goes_on_beyond_the_longest_of_training() -> None:
    longer = dataclasses.replace(
        BASE, positions="rotary", max_length=TOTAL, window=2, window_pattern="LG"
    )
    model = shaken(longer)
    short = build(dataclasses.replace(longer, max_length=4), jax.random.key(0))
    check(weight.bind(short, weight.split(model)[0]), longer=model)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "architecture"), PAIRS)
def test_every_variant_reads_token_by_token_as_at_once(variant: str, architecture: Any) -> None:
    check(shaken(dataclasses.replace(BASE, variant=variant, architecture=architecture)))


def test_a_deep_stack_is_scanned_with_its_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.decoding.weights._MOST_UNROLLED", 2)
    settings = {"window": 2, "window_pattern": "LG", "variant": "mix_norm", "num_layers": 6}
    check(shaken(dataclasses.replace(BASE, **settings)))


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "architecture"), PAIRS)
def test_a_pair_decodes_what_its_logits_say(variant: str, architecture: Any) -> None:
    config = dataclasses.replace(BASE, variant=variant, architecture=architecture)
    model = build(config, jax.random.key(0))
    prompt = jax.random.randint(jax.random.key(1), (2, PROMPT), 0, VOCAB, jnp.int32)
    made = generate(model, prompt, max_new_tokens=3)
    if architecture == "decoder":
        np.testing.assert_array_equal(made[:, :PROMPT], prompt)
        logits = model(made[:, :-1])
    else:
        logits = model(prompt, decoder_input_ids=made[:, :-1])
    best = np.asarray(logits.argmax(-1))[:, -3:]
    np.testing.assert_array_equal(np.asarray(made)[:, -3:], best)


def test_models_share_a_program_only_when_all_but_their_arrays_is_equal() -> None:
    def model(**settings: Any) -> Transformer:
        return build(dataclasses.replace(BASE, **settings), jax.random.key(0))

    one, loaded, other = prepared(model())[0], model(), model()
    assert prepared(model())[0] == one
    loaded.generation, other.generation = (("top_k", "5"),), (("top_k", "6"),)
    assert prepared(loaded)[0] == prepared(other)[0]
    assert hash(prepared(loaded)[0]) == hash(prepared(other)[0])
    assert loaded.generation == (("top_k", "5"),)
    for settings in ({"attention_softcap": 2.0}, {"window": 2}, {"num_heads": 1}):
        assert prepared(model(**settings))[0] != one, settings
