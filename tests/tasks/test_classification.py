"""Classes, tags, spans and images: batches, losses and hits against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.data import RowSpec
from zoo.data.tokenizers import ByteTokenizer, Vocabulary, vocabulary
from zoo.tasks import TASKS, Batch
from zoo.tasks.image_classification import IMAGE_CLASSIFICATION
from zoo.tasks.sequence_classification import SEQUENCE_CLASSIFICATION
from zoo.tasks.span import SPAN
from zoo.tasks.token_classification import TOKEN_CLASSIFICATION

B, S = 256, 257


def says(logits: Any) -> Callable[..., jax.Array]:
    return lambda **given: jnp.asarray(logits, jnp.float32)


def nats_of(logits: np.ndarray, target: int) -> float:
    exps = np.exp(np.asarray(logits, np.float64))
    return -math.log(exps[target] / exps.sum())


def test_every_task_is_found_by_its_name() -> None:
    assert all(task.name == name for name, task in TASKS.items())
    assert set(TASKS) == {
        "language_model",
        "masked_lm",
        "seq2seq",
        "sequence_classification",
        "token_classification",
        "span",
        "image_classification",
        "copy",
        "induction",
        "listops",
        "parity",
    }


def classes() -> Batch:
    rows = {
        "first": np.asarray([[7, 8, 0, 0], [1, 2, 3, 4], [0] * 4], np.int32),
        "first_length": np.asarray([2, 6, 0], np.int32),
        "second": np.asarray([[1], [2], [0]], np.int32),
        "second_length": np.asarray([1, 1, 0], np.int32),
    }
    return SEQUENCE_CLASSIFICATION.batch(
        rows,
        RowSpec(
            4, vocabulary(ByteTokenizer(), ("begin",)), frame=((B,), ()), labels=("a", "b", "c")
        ),
    )


def test_a_text_stands_behind_the_begin_token() -> None:
    batch = classes()
    np.testing.assert_array_equal(batch["inputs"], [[B, 7, 8, 0], [B, 1, 2, 3], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch["attention_mask"].sum(1), [3, 4, 0])


def test_labels_are_scored_and_ranked_where_there_are_some() -> None:
    logits = np.asarray([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0], [np.inf] * 3])
    loss = SEQUENCE_CLASSIFICATION.loss(says(logits), classes())
    expected = nats_of(logits[0], 1) + nats_of(logits[1], 2)
    np.testing.assert_allclose(loss.nats, expected, rtol=1e-6)
    assert (loss.tokens, loss.hits["correct"]) == (2, 1)
    figures = SEQUENCE_CLASSIFICATION.metrics(0.7, None, correct=0.5)
    assert figures == {"loss": 0.7, "accuracy": 0.5}


def test_only_the_first_tokens_of_words_count() -> None:
    rows = {
        "first": np.asarray([[7, 8, 9, 0]], np.int32),
        "first_length": np.asarray([3], np.int32),
        "second": np.asarray([[2, 0, 1, 0]], np.int32),
        "second_length": np.asarray([3], np.int32),
    }
    batch = TOKEN_CLASSIFICATION.batch(rows, RowSpec(4, Vocabulary(256), labels=("a", "b")))
    logits = np.asarray([[[0.0, 1.0], [5.0, 0.0], [0.0, 2.0], [9.0, 0.0]]])
    loss = TOKEN_CLASSIFICATION.loss(says(logits), batch)
    expected = nats_of(logits[0, 0], 1) + nats_of(logits[0, 2], 0)
    np.testing.assert_allclose(loss.nats, expected, rtol=1e-6)
    assert (loss.tokens, loss.hits["correct"]) == (2, 1)
    np.testing.assert_array_equal(batch["attention_mask"], [[1, 1, 1, 0]])


@pytest.fixture(scope="module")
def spans() -> Batch:
    """Question 7 8; an answer in the text 1 2 3 4, one that is cut off, none, and padding."""
    rows = {
        "first": np.asarray(
            [
                [7, 8, 1, 2, 3, 4, 0, 0, 0],
                [7, 8, *range(1, 8)],
                [7, 8, 1, 0, 0, 0, 0, 0, 0],
                [0] * 9,
            ],
            np.int32,
        ),
        "first_length": np.asarray([6, 30, 3, 0], np.int32),
        "second": np.asarray([[2, 2, 3], [2, 4, 6], [2, 0, 0], [0, 0, 0]], np.int32),
        "second_length": np.asarray([3, 3, 3, 0], np.int32),
    }
    spec = RowSpec(9, vocabulary(ByteTokenizer(), SPAN.needs))
    return SPAN.batch(rows, spec)


def test_question_and_text_are_told_apart(spans: Batch) -> None:
    np.testing.assert_array_equal(
        spans["inputs"],
        [
            [B, 7, 8, S, 1, 2, 3, 4, S],
            [B, 7, 8, S, 1, 2, 3, 4, S],
            [B, 7, 8, S, 1, S, 0, 0, 0],
            [0] * 9,
        ],
    )
    np.testing.assert_array_equal(spans["token_type_ids"][0], [0] * 4 + [1] * 5)
    np.testing.assert_array_equal(spans["attention_mask"].sum(1), [9, 9, 6, 0])


def test_an_answer_lies_where_its_tokens_are(spans: Batch) -> None:
    np.testing.assert_array_equal(spans["targets"], [[5, 6], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(spans["mask"], [1, 1, 1, 0])


def test_first_and_last_place_are_scored_among_real_tokens(spans: Batch) -> None:
    logits = np.zeros((4, 9, 2), np.float32)
    logits[0, 5, 0] = logits[0, 6, 1] = 2.0  # both right
    logits[1, 0, 0] = logits[1, 3, 1] = 1.0  # the first is right
    logits[2, 6:] = 50.0  # padding, which is no answer
    loss = SPAN.loss(says(logits), spans, label_smoothing=0.2)
    pairs = [(0, 9, (5, 6)), (1, 9, (0, 0)), (2, 6, (0, 0))]
    plain = smooth = 0.0
    for row, size, answer in pairs:
        for side, target in enumerate(answer):
            scores = logits[row, :size, side]
            each = [nats_of(scores, place) for place in range(size)]
            plain += each[target] / 2
            smooth += (0.8 * each[target] + 0.2 * sum(each) / size) / 2
    np.testing.assert_allclose(loss.nats, plain, rtol=1e-5)
    np.testing.assert_allclose(loss.objective, smooth, rtol=1e-5)
    # Of equal scores the first place is taken, which in the third row is right.
    assert (loss.tokens, loss.hits["correct"], loss.hits["exact"]) == (3, 2.5, 2)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_are_given_from_minus_one_to_one(dtype: str) -> None:
    most = 255 if dtype == "uint8" else 1
    images = np.zeros((2, 2, 2, 1), dtype)
    images[0, 0, 0] = most
    rows = {"images": images, "labels": np.asarray([1, -1], np.int32)}
    batch = IMAGE_CLASSIFICATION.batch(rows, RowSpec(0, Vocabulary(0), labels=("a", "b")))
    assert batch["pixel_values"].dtype == np.float32
    assert (batch["pixel_values"].max(), batch["pixel_values"].min()) == (1.0, -1.0)
    logits = np.asarray([[0.0, 1.0], [0.0, 1.0]])
    loss = IMAGE_CLASSIFICATION.loss(says(logits), batch)
    assert (loss.tokens, loss.hits["correct"]) == (1, 1)
    np.testing.assert_allclose(loss.nats, nats_of(logits[0], 1), rtol=1e-6)
