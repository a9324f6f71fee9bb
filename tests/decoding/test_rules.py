"""Which tokens may come, against transformers' processors and closed forms."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.decoding.cases import BEGIN, GOLDENS, INDEX, RULES, STOPS, TOTAL, step
from tests.test_decoding import PROMPT, tiny
from zoo.decoding import Sampling, generate
from zoo.decoding.rules import narrowed, ruled, settle
from zoo.errors import ConfigError


@functools.partial(jax.jit, static_argnames="rules")
def scores_of(numbers: Any, logits: Any, tokens: Any, seen: Any, *, rules: Any) -> jax.Array:
    scores = ruled(rules, numbers, logits, tokens, seen, jnp.int32(INDEX))
    return narrowed(rules, numbers, scores)


@pytest.mark.parametrize("name", RULES)
def test_scores_are_those_of_transformers(name: str) -> None:
    ours = dict(RULES[name][1])
    temperature = ours.pop("temperature", 1.0)
    rules, numbers = settle(
        Sampling(**ours), stop_ids=STOPS, begin=BEGIN, total=TOTAL, temperature=temperature
    )
    found = np.asarray(scores_of(numbers, *step(), rules=rules))
    with np.load(GOLDENS) as goldens:
        wanted = goldens[f"rules/{name}"]
    assert not np.allclose(wanted, step()[0]) or name == "late", "a golden that says nothing"
    if "ngram" in str(RULES[name]):
        # Theirs takes padding for a token that was written.
        found, wanted = found[[0, 2]], wanted[[0, 2]]
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_draws_keep_to_the_likeliest_and_their_shares() -> None:
    model = tiny(vocab_size=8)
    prompt = jnp.tile(jnp.asarray([[1, 2]]), (4000, 1))
    made = generate(
        model,
        prompt,
        max_new_tokens=1,
        temperature=2.0,
        key=jax.random.key(0),
        sampling=Sampling(top_k=3),
    )
    logits = np.asarray(model(prompt[:1])[0, -1], np.float64) / 2.0
    expected = np.where(logits >= np.sort(logits)[-3], np.exp(logits), 0.0)
    expected /= expected.sum()
    found = np.bincount(np.asarray(made[:, 2]), minlength=8) / 4000
    assert (found[expected == 0.0] == 0.0).all()
    # Four standard deviations of a frequency.
    np.testing.assert_array_less(abs(found - expected), 4 * np.sqrt(0.25 / 4000) + 1e-9)


def test_any_of_several_stop_tokens_ends_a_text_and_the_padding_fills_it() -> None:
    model = tiny()
    prompts = jnp.asarray([PROMPT, PROMPT[::-1]])
    free = np.asarray(generate(model, prompts, max_new_tokens=8))
    ends = [int(free[0, 7]), int(free[1, 8])]
    made = generate(
        model, prompts, max_new_tokens=8, eos_id=ends, sampling=Sampling(pad_id=31)
    ).tolist()
    for row, text in zip(made, free.tolist(), strict=True):
        stop = next(place for place in range(5, 13) if text[place] in ends)
        assert row == text[: stop + 1] + [31] * (12 - stop)


def test_tokens_are_handed_out_as_they_come() -> None:
    model, prompts = tiny(), jnp.asarray([PROMPT, PROMPT[::-1]])
    end = int(generate(model, prompts, max_new_tokens=8)[0, 7])
    came: list[list[int]] = []
    settings: dict[str, Any] = {"max_new_tokens": 8, "eos_id": end}
    made = generate(model, prompts, **settings, on_tokens=lambda new: came.append(new.tolist()))
    assert made.tolist() == generate(model, prompts, **settings).tolist()
    assert np.asarray(came).T.tolist() == made[:, 5 : 5 + len(came)].tolist()
    if end in made[1, 5:].tolist():
        assert len(came) < 8


def said(model: Any, **settings: Any) -> Any:
    """The model as if it came from a checkpoint with these generation settings."""
    model.generation = tuple((name, json.dumps(value)) for name, value in settings.items())
    return model


def test_a_checkpoint_says_where_texts_end_unless_the_call_does() -> None:
    prompt = jnp.asarray([PROMPT])
    free = generate(tiny(), prompt, max_new_tokens=8).tolist()[0]
    end = free[7]
    stop = free.index(end, 5)
    model = said(tiny(), eos_token_id=[end, 50256], pad_token_id=30, forced_eos_token_id=9)
    assert generate(model, prompt, max_new_tokens=8).tolist()[0] == (
        free[: stop + 1] + [30] * (12 - stop)
    )
    assert generate(model, prompt, max_new_tokens=8, eos_id=()).tolist()[0] == [*free[:12], 9]
    plain = Sampling(defaults=False)
    assert generate(model, prompt, max_new_tokens=8, sampling=plain).tolist()[0] == free


def test_a_start_token_is_followed_by_the_one_that_is_forced() -> None:
    model = zoo.create_model(
        "encoder-decoder-tiny", rngs=2, d_model=16, num_layers=1, vocab_size=32, max_length=8
    )
    said(model, forced_bos_token_id=17, forced_eos_token_id=4, min_length=3, eos_token_id=4)
    made = generate(model, jnp.asarray([PROMPT]), max_new_tokens=5).tolist()[0]
    assert made[:2] == [0, 17]
    assert made[2] != 4
    assert made[5] == 4


def test_what_a_checkpoint_asks_for_and_is_not_here_is_refused() -> None:
    model = said(tiny(), encoder_no_repeat_ngram_size=3)
    with pytest.raises(ConfigError, match="encoder_no_repeat_ngram_size = 3"):
        generate(model, jnp.asarray([PROMPT]))
    generate(model, jnp.asarray([PROMPT]), max_new_tokens=1, sampling=Sampling(defaults=False))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eos_token_id", "x"),
        ("eos_token_id", [1, None]),
        ("repetition_penalty", "big"),
        ("repetition_penalty", 0.0),
        ("length_penalty", math.nan),
        ("no_repeat_ngram_size", 1.5),
        ("min_length", -1),
        ("early_stopping", "soon"),
        ("bad_words_ids", [[3], []]),
        ("bad_words_ids", [3]),
        ("suppress_tokens", 5),
        ("pad_token_id", [0]),
    ],
)
def test_a_value_of_a_checkpoint_that_is_none_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{name} = {value!r}; use ")):
        generate(said(tiny(), **{name: value}), jnp.asarray([PROMPT]), max_new_tokens=1)


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        ({"top_k": 0}, {"temperature": 1.0}, "top_k = 0"),
        ({"top_p": 1.5}, {"temperature": 1.0}, "top_p = 1.5"),
        ({"min_p": 0.0}, {"temperature": 1.0}, "min_p = 0.0"),
        ({"top_k": 3}, {}, "top_k = 3 with temperature = 0"),
        ({"num_beams": 0}, {}, "num_beams = 0"),
        ({"num_beams": 2}, {"temperature": 1.0}, "beams are not drawn"),
        ({"num_beams": 2}, {"on_tokens": print}, "on_tokens with num_beams = 2"),
        ({"early_stopping": "soon"}, {}, "early_stopping = 'soon'"),
        ({"early_stopping": True}, {}, "early_stopping = True has no effect with num_beams = 1"),
        ({"length_penalty": 3.0}, {}, "length_penalty = 3.0 has no effect with num_beams = 1"),
        ({}, {"temperature": math.nan}, "temperature = nan"),
        ({}, {"temperature": math.inf}, "temperature = inf"),
        ({"repetition_penalty": 0.0}, {}, "repetition_penalty = 0.0"),
        ({"repetition_penalty": math.inf}, {}, "repetition_penalty = inf"),
        ({"length_penalty": math.nan, "num_beams": 2}, {}, "length_penalty = nan"),
        ({"length_penalty": -math.inf, "num_beams": 2}, {}, "length_penalty = -inf"),
        ({"forced_eos_id": 32}, {}, "forced_eos_id = 32; ids run from 0 to 31"),
        ({"suppress_ids": (40,)}, {}, "suppress_ids = 40"),
        ({"bad_words": ((),)}, {}, "bad_words"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    more = {"key": jax.random.key(0)} | more
    with pytest.raises(ConfigError, match=message):
        generate(tiny(), jnp.asarray([PROMPT]), sampling=Sampling(**settings), **more)


def test_every_setting_has_a_line_in_its_docstring() -> None:
    fields = {field.name for field in dataclasses.fields(Sampling)}
    text = Sampling.__doc__ or ""
    assert all(f"{name}" in text for name in fields)
