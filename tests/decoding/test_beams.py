"""Beam search against trying every text, and against transformers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.decoding.cases import ENDS, GOLDENS, NEW, PAD, SEARCHES
from tests.hf.cases import all_cases, prompt
from tests.hf.test_families import write
from tests.test_decoding import tiny
from zoo.decoding import Sampling, generate
from zoo.models.tower import Transformer


def best_of_all(
    model: Transformer, begin: list[int], new: int, *, end: int, power: float
) -> list[int]:
    """The text of the greatest log-probability over length^power, of all there are."""
    vocab = model.config.sizes().vocab_size
    texts = np.asarray(list(itertools.product(range(vocab), repeat=new)))
    whole = np.concatenate([np.tile(begin, (len(texts), 1)), texts], axis=1)
    logits = jax.jit(lambda ids: model(ids))(jnp.asarray(whole[:, :-1]))
    logs = np.asarray(jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1))
    found: dict[tuple[int, ...], float] = {}
    for row, text in enumerate(texts.tolist()):
        length = text.index(end) + 1 if end in text else new
        total = sum(
            float(logs[row, len(begin) - 1 + place, text[place]]) for place in range(length)
        )
        found[tuple(text[:length])] = total / length**power
    return list(max(found, key=lambda text: found[text]))


@pytest.mark.parametrize("power", [1.0, 0.0, 2.5, -0.5])
def test_with_room_for_every_text_the_best_of_all_is_found(power: float) -> None:
    model = tiny(vocab_size=4, embedding_std=0.5)
    begin, new, end = [1, 2, 3], 4, 3
    made = generate(
        model,
        jnp.asarray([begin, begin[::-1]]),
        max_new_tokens=new,
        eos_id=end,
        sampling=Sampling(num_beams=4**3, length_penalty=power, early_stopping="never", pad_id=0),
    )
    for row, first in zip(made.tolist(), (begin, begin[::-1]), strict=True):
        best = best_of_all(model, first, new, end=end, power=power)
        assert row == first + best + [0] * (new - len(best))


@pytest.mark.parametrize("name", SEARCHES)
def test_beams_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    search = SEARCHES[name]
    write(search.case, tmp_path)
    given = prompt(all_cases()[search.case])
    made = generate(
        zoo.load_pretrained(tmp_path),
        jnp.asarray(given["input_ids"]),
        jnp.asarray(given["attention_mask"]),
        max_new_tokens=NEW,
        eos_id=ENDS,
        sampling=Sampling(**search.settings, pad_id=PAD),
    )
    with np.load(GOLDENS) as goldens:
        np.testing.assert_array_equal(np.asarray(made), goldens[f"beams/{name}"])


def test_one_row_searches_as_it_does_beside_others() -> None:
    model = tiny()
    texts = [[3, 14, 15, 9, 2], [7, 1, 30]]
    sampling = Sampling(num_beams=3, no_repeat_ngram_size=2)
    padded = jnp.asarray([texts[0], [0, 0, *texts[1]]])
    mask = jnp.asarray([[1] * 5, [0, 0, 1, 1, 1]])
    settings: dict[str, Any] = {"max_new_tokens": 6, "eos_id": 9, "sampling": sampling}
    together = generate(model, padded, mask, **settings)[:, 5:].tolist()
    for row, text in zip(together, texts, strict=True):
        alone = generate(model, jnp.asarray([text]), **settings)
        assert row == alone[0, len(text) :].tolist()


def test_goldens_hold_texts_that_end_early_and_late() -> None:
    with np.load(GOLDENS) as goldens:
        made = [goldens[f"beams/{name}"] for name in SEARCHES]
    ended = [bool((row[-2:] == PAD).all()) for rows in made for row in rows]
    assert any(ended)
    assert not all(ended)
