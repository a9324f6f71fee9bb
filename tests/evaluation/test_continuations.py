"""Texts that go on: scores against the model's own logits, written ones against `generate`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import zoo
from zoo.data.tokenizers import ByteTokenizer
from zoo.errors import ConfigError, DataError
from zoo.evaluation import continuations
from zoo.evaluation.continuations import score, write
from zoo.models.tower import Transformer
from zoo.training.prompts import Prompts

# Sums of some ten terms of order 5 in float32, whose products are summed in another order.
CLOSE = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(scope="module")
def model() -> Transformer:
    return zoo.create_model("decoder-tiny", num_layers=1, d_model=16, max_length=48, rngs=0)


@pytest.fixture(scope="module")
def pairs() -> Transformer:
    return zoo.create_model("encoder-decoder-tiny", num_layers=1, d_model=16, max_length=48, rngs=0)


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 200, count).tolist()


@nnx.jit
def forward(model: Any, *ids: jax.Array) -> jax.Array:
    return model(*ids)


def by_hand(model: Any, context: list[int], own: list[int]) -> tuple[float, bool]:
    """From the whole logits of one text without padding."""
    if model.config.architecture == "encoder_decoder":
        read = [model.config.decoder_start_id or 0, *own[:-1]]
        logits = forward(model, jnp.asarray([context]), jnp.asarray([read]))[0]
    else:
        logits = forward(model, jnp.asarray([[*context, *own[:-1]]]))[0, len(context) - 1 :]
    logs = np.asarray(jax.nn.log_softmax(logits), np.float64)
    likeliest = logs.argmax(axis=1).tolist()
    return sum(row[token] for row, token in zip(logs, own, strict=True)), likeliest == own


@pytest.mark.parametrize("name", ["model", "pairs"])
def test_a_score_is_the_sum_of_the_log_probabilities(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Of texts of unequal length, which are padded and stand in one batch."""
    used = request.getfixturevalue(name)
    asked = [(tokens(5), tokens(1, 1)), (tokens(20, 2), tokens(9, 3))]
    for found, (context, own) in zip(score(used, asked), asked, strict=True):
        expected, greedy = by_hand(used, context, own)
        assert found.loglikelihood == pytest.approx(expected, **CLOSE)
        assert found.greedy == greedy


@pytest.mark.parametrize("name", ["model", "pairs"])
def test_company_and_padding_change_no_score(name: str, request: pytest.FixtureRequest) -> None:
    used = request.getfixturevalue(name)
    asked = [(tokens(3 + 5 * i, i), tokens(1 + i, 50 + i)) for i in range(7)]
    told: list[int] = []
    together = score(used, asked, done=told.append)
    assert sum(told) == len(asked)
    small = score(used, asked, rows=2)
    for index, pair in enumerate(asked[::3]):
        (alone,) = score(used, [pair])
        for found in (together[3 * index], small[3 * index]):
            assert found.loglikelihood == pytest.approx(alone.loglikelihood, **CLOSE)


def test_the_likeliest_text_is_greedy_and_no_other(model: Transformer) -> None:
    context = tokens(6)
    own = zoo.generate(model, jnp.asarray([context]), max_new_tokens=5)[0, 6:].tolist()
    other = [*own[:-1], (own[-1] + 1) % 256]
    assert [found.greedy for found in score(model, [(context, own), (context, other)])] == [1, 0]


def test_a_context_that_is_too_long_loses_its_beginning(model: Transformer) -> None:
    context, own = tokens(90), tokens(4, 1)
    (long,), (short,) = score(model, [(context, own)]), score(model, [(context[-45:], own)])
    assert long.loglikelihood == pytest.approx(short.loglikelihood, **CLOSE)
    assert by_hand(model, context[-45:], own)[0] == pytest.approx(long.loglikelihood, **CLOSE)


@pytest.mark.parametrize(
    ("context", "own", "message"),
    [
        ([], [1], "a context has 0 tokens"),
        ([1], [], "a continuation has 0 tokens"),
        ([1], [1] * 49, "a continuation of 49 tokens is longer than the model's max_length = 48"),
        ([1], [300], "text has token 300, the model knows 256"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    model: Transformer, context: list[int], own: list[int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score(model, [(context, own)])


TEXTS = ["def ", "some longer text", "x"]


def written(
    model: Transformer, texts: list[str], *, ends: tuple[int, ...] = (), **settings: Any
) -> list[str]:
    prompts = [list(text.encode()) for text in texts]
    return write(model, prompts, Prompts(ByteTokenizer(), (), (), ends), **settings)


def alone(model: Any, text: str, count: int) -> str:
    ids = jnp.asarray([list(text.encode())])
    made = zoo.generate(model, ids, max_new_tokens=count)
    skipped = 1 if model.config.architecture == "encoder_decoder" else ids.shape[1]
    return ByteTokenizer().decode(np.asarray(made)[0, skipped:])


@pytest.mark.parametrize("name", ["model", "pairs"])
def test_texts_are_written_as_each_by_itself(name: str, request: pytest.FixtureRequest) -> None:
    used = request.getfixturevalue(name)
    found = written(used, TEXTS, max_new_tokens=12)
    assert found == [alone(used, text, 12) for text in TEXTS]


def test_a_text_ends_before_the_first_string_that_ends_it(model: Transformer) -> None:
    whole = written(model, TEXTS, max_new_tokens=12)
    stops = [whole[0][4:6], whole[0][2:4]]
    for found, text in zip(
        written(model, TEXTS, stops=stops, max_new_tokens=12), whole, strict=True
    ):
        assert found == min(text.split(stops[0])[0], text.split(stops[1])[0], key=len)
    assert len(written(model, TEXTS[:1], stops=stops, max_new_tokens=12)[0]) == 2


def test_nothing_is_written_behind_the_end_of_all_texts(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    real = continuations._generated

    def generated(*given: Any, **settings: Any) -> np.ndarray:
        made = real(*given, **settings)
        shapes.append(made.shape)
        return made

    monkeypatch.setattr(continuations, "_generated", generated)
    first = written(model, TEXTS[:1], max_new_tokens=24)[0][:2]
    written(model, TEXTS[:1], stops=[first], max_new_tokens=24)
    assert shapes == [(1, 24), (1, 8)]


def test_a_token_that_ends_a_text_is_not_shown(model: Transformer) -> None:
    ids = jnp.asarray([list(b"def ")])
    made = np.asarray(zoo.generate(model, ids, max_new_tokens=6))[0, 4:].tolist()
    end = next(token for token in made[1:] if token != made[0])
    shown = written(model, ["def "], ends=(end,), max_new_tokens=6)
    assert shown == [ByteTokenizer().decode(made[: made.index(end)])]


def test_draws_are_those_of_the_seed(model: Transformer) -> None:
    def drawn(seed: int) -> list[str]:
        return written(model, TEXTS, max_new_tokens=8, temperature=1.0, seed=seed)

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_model_without_room_is_refused(model: Transformer) -> None:
    with pytest.raises(ConfigError, match="max_new_tokens = 48 is more than"):
        written(model, TEXTS, max_new_tokens=48)
    with pytest.raises(DataError, match="a prompt has 0 tokens"):
        written(model, [""], max_new_tokens=4)
