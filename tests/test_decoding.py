"""Generation against a loop over whole forward passes, token by token."""

from __future__ import annotations

import importlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.decoding import generate
from zoo.errors import ConfigError
from zoo.models.transformer import Transformer

# The package's name for it is the function.
loop = importlib.import_module("zoo.decoding.generate")
PROMPT = [3, 14, 15, 9, 2]


def tiny(**changes: Any) -> Transformer:
    """A model whose logits are spread enough for a clear best token."""
    settings: dict[str, Any] = {
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 2,
        "vocab_size": 32,
        "max_length": 24,
        "variant": "deep_norm",
        "embedding_std": 1.0,
    }
    return zoo.create_model("decoder-tiny", rngs=1, **(settings | changes))


def by_hand(model: Transformer, prompt: list[int], new: int) -> list[int]:
    """Greedy continuation by one whole forward pass of the last `max_length` tokens a token."""
    forward, tokens = jax.jit(lambda ids: model(ids)), list(prompt)
    for _ in range(new):
        window = tokens[-(model.config.max_length or 0) :]
        # One shape for all lengths; a decoder does not see what follows.
        padded = window + [0] * ((model.config.max_length or 0) - len(window))
        logits = forward(jnp.asarray([padded]))[0, len(window) - 1]
        tokens.append(int(jnp.argmax(logits)))
    return tokens


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_greedy_takes_the_best_token_of_a_whole_forward_pass(positions: str) -> None:
    model = tiny(positions=positions)
    made = generate(model, jnp.asarray([PROMPT]), max_new_tokens=8)
    assert made.shape == (1, 13)
    assert made.dtype == jnp.int32
    assert made[0].tolist() == by_hand(model, PROMPT, 8)
    assert len(set(made[0, 5:].tolist())) > 1, "one token over and over tests nothing"


def test_padded_batch_equals_each_prompt_alone() -> None:
    model = tiny()
    prompts = [PROMPT, PROMPT[:2], PROMPT[2:]]
    padded = jnp.asarray([[0] * (5 - len(prompt)) + prompt for prompt in prompts])
    mask = jnp.asarray([[0] * (5 - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    together = generate(model, padded, mask, max_new_tokens=6)
    for row, prompt in zip(together, prompts, strict=True):
        alone = generate(model, jnp.asarray([prompt]), max_new_tokens=6)
        assert row[5:].tolist() == alone[0, len(prompt) :].tolist()


def test_what_is_in_the_padding_does_not_matter() -> None:
    mask = jnp.asarray([[0, 0, 1, 1]])
    rows = (jnp.asarray([[left, left, 7, 8]]) for left in (0, 31))
    one, other = (generate(tiny(), row, mask, max_new_tokens=6)[0, 4:].tolist() for row in rows)
    assert one == other


def test_sequence_fills_with_the_end_token_once_it_was_drawn() -> None:
    model = tiny()
    free = generate(model, jnp.asarray([PROMPT, PROMPT[::-1]]), max_new_tokens=8)
    end = int(free[0, 7])
    first = free[0].tolist().index(end, 5)
    made = generate(model, jnp.asarray([PROMPT, PROMPT[::-1]]), max_new_tokens=8, eos_id=end)
    assert made[0, : first + 1].tolist() == free[0, : first + 1].tolist()
    assert set(made[0, first:].tolist()) == {end}
    other = free[1].tolist()
    stop = other.index(end, 5) if end in other[5:] else len(other)
    assert made[1, :stop].tolist() == other[:stop]


def test_end_token_in_the_prompt_does_not_end_it() -> None:
    model = tiny()
    free = generate(model, jnp.asarray([PROMPT]), max_new_tokens=3)
    assert PROMPT[0] not in free[0, 5:].tolist()
    ended = generate(model, jnp.asarray([PROMPT]), max_new_tokens=3, eos_id=PROMPT[0])
    assert ended.tolist() == free.tolist()


def test_sampling_is_a_function_of_the_key() -> None:
    model, prompt = tiny(), jnp.asarray([PROMPT] * 2)

    def draw(seed: int, temperature: float = 1.0) -> list[list[int]]:
        key = jax.random.key(seed)
        made = generate(model, prompt, max_new_tokens=12, temperature=temperature, key=key)
        tokens: list[list[int]] = made.tolist()
        return tokens

    assert draw(0) == draw(0) != draw(1)
    assert draw(0)[0] != draw(0)[1], "rows of a batch drew the same"
    assert draw(0, 1e-4) == generate(model, prompt, max_new_tokens=12).tolist()


def test_sampled_tokens_follow_the_softmax() -> None:
    model, temperature = tiny(vocab_size=4), 2.0
    prompt = jnp.asarray([[1, 2]])
    logits = np.asarray(model(prompt)[0, -1], np.float64) / temperature
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    many = jnp.tile(prompt, (4000, 1))
    made = generate(model, many, max_new_tokens=1, temperature=temperature, key=jax.random.key(0))
    found = np.bincount(np.asarray(made[:, 2]), minlength=4) / 4000
    # Four standard deviations of a frequency.
    np.testing.assert_array_less(abs(found - expected), 4 * np.sqrt(0.25 / 4000))


@pytest.mark.parametrize("length", [20, 24, 40])
def test_sequence_longer_than_the_model_goes_on_from_its_last_tokens(length: int) -> None:
    model = tiny()
    prompt = np.random.default_rng(0).integers(0, 32, size=length).tolist()
    made = generate(model, jnp.asarray([prompt]), max_new_tokens=8)
    assert made[0].tolist() == by_hand(model, prompt, 8)


@pytest.mark.parametrize(
    ("prompt", "more", "said"),
    [
        ([[3, 32]], {}, "holds token 32; ids run from 0 to 31"),
        ([[3, -1]], {}, "holds token -1; ids run from 0 to 31"),
        ([[]], {}, r"shape \(1, 0\)"),
        ([1, 2], {}, r"shape \(2,\)"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens = 0"),
        ([[1]], {"temperature": -1.0}, "temperature = -1.0"),
        ([[1]], {"temperature": 1.0}, "key"),
        ([[1.5]], {}, "float32"),
        ([[1, 2]], {"attention_mask": [[1]]}, r"attention_mask has shape \(1, 1\).*\(1, 2\)"),
        ([[1, 2]], {"attention_mask": [[1, 0]]}, "attention_mask .*left"),
        ([[1, 2]], {"eos_id": 40}, "eos_id = 40"),
    ],
    ids=[
        "large",
        "negative",
        "empty",
        "flat",
        "none",
        "cold",
        "keyless",
        "float",
        "mask",
        "right",
        "eos",
    ],
)
def test_what_cannot_be_continued_is_refused(
    prompt: list[Any], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        generate(tiny(), jnp.asarray(prompt), **more)


def test_the_public_function_can_be_called_again_and_after_training_was_imported() -> None:
    import zoo
    import zoo.training.loop

    model = zoo.create_model("decoder-tiny", num_layers=1, d_model=16)
    first = zoo.generate(model, [[1, 2]], max_new_tokens=1)
    assert zoo.generate(model, [[1, 2]], max_new_tokens=1).tolist() == first.tolist()


def test_no_public_name_is_a_module_of_the_package() -> None:
    import pkgutil

    import zoo

    modules = {module.name for module in pkgutil.iter_modules(zoo.__path__)}
    assert not modules & set(zoo.__all__)


def test_an_encoder_decoder_answers_behind_its_start_token() -> None:
    model = zoo.create_model(
        "encoder-decoder-tiny",
        variant="pre_norm",
        rngs=2,
        d_model=16,
        num_heads=2,
        vocab_size=32,
        max_length=8,
        decoder_start_id=5,
    )
    source = jnp.asarray([PROMPT, [*PROMPT[:2], 0, 0, 0]])
    mask = jnp.asarray([[1] * 5, [1, 1, 0, 0, 0]])
    made = generate(model, source, mask, max_new_tokens=6)
    assert made.shape == (2, 7)
    forward = jax.jit(lambda ids: model(source, decoder_input_ids=ids, attention_mask=mask))
    want = np.full((2, 7), 0)
    want[:, 0] = 5
    for place in range(6):
        # One shape for all lengths; a decoder does not see what follows.
        want[:, place + 1] = jnp.argmax(forward(jnp.asarray(want))[:, place], axis=-1)
    assert made.tolist() == want.tolist()
    assert made[0].tolist() != made[1].tolist()
    assert len(set(made[0].tolist())) > 2, "one token over and over tests nothing"
    with pytest.raises(ConfigError, match="hides a whole source"):
        generate(model, source, mask.at[1].set(0))


@pytest.mark.parametrize("rows", [1, 2])
def test_keys_and_values_are_written_in_place(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    write = loop._write

    def spied(*args: Any, **settings: Any) -> Any:
        compiled.append(write.lower(*args, **settings).compile().as_text())
        return write(*args, **settings)

    monkeypatch.setattr(loop, "_write", spied)
    generate(tiny(), jnp.asarray([PROMPT] * rows), max_new_tokens=6)
    (program,) = compiled
    assert f"f32[{rows * 2},11,8]" in program, "no keys of 2 heads, 11 slots and width 8"
    assert not re.findall(r"= f32\[\S*11,8\]\S* copy\(", program)


def test_a_model_that_writes_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="head = 'masked_lm' on architecture = 'encoder'"):
        generate(zoo.create_model("encoder-tiny"), jnp.asarray([PROMPT]))
