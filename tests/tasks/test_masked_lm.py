"""Masked language modelling: what is hidden, and that it is hidden alike on every machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from zoo.data import Data, DataConfig, open_data
from zoo.data.tokenizers import ByteTokenizer, train_bpe, vocabulary
from zoo.tasks.masked_lm import MASKED_LM


@pytest.fixture
def data(tmp_path: Path) -> Data:
    path = tmp_path / "text.txt"
    path.write_bytes(np.random.default_rng(0).integers(32, 127, 60_000).astype(np.uint8).tobytes())
    config = DataConfig(
        path=str(path), cache_dir=str(tmp_path / "cache"), batch_size=64, length=100, prefetch=0
    )
    return open_data(config, seed=3, needs=MASKED_LM.needs)


def test_bytes_get_a_mask_token_past_the_vocabulary(data: Data) -> None:
    assert data.spec.vocabulary.mask == 256
    assert data.vocab_size == 257


def test_a_mask_token_that_the_tokenizer_has_is_used() -> None:
    from tokenizers import AddedToken

    tokenizer = train_bpe([b"some text to merge, some text"], vocab_size=260)
    tokenizer._inner.add_special_tokens([AddedToken("<mask>", special=True)])
    made = vocabulary(type(tokenizer)(tokenizer._inner), ("mask",))
    assert made.mask == made.size - 1 == tokenizer._inner.token_to_id("<mask>")
    assert made.special == (tokenizer.eos_id, made.mask)
    assert not set(made.special) & set(made.text_ids().tolist())


def test_special_tokens_are_numbered_in_a_fixed_order() -> None:
    made = vocabulary(ByteTokenizer(), ("mask", "begin"))
    assert (made.begin, made.mask, made.size) == (256, 257, 258)


def test_hidden_tokens_are_chosen_and_shown_as_in_bert(data: Data) -> None:
    """Oracle: binomial counts within 5 standard deviations (odds of a failure 1 in 10^6)."""
    shown, hidden, total = [0, 0, 0], 0, 0
    for step in range(5):
        batch = MASKED_LM.batch(data.train_batch(step), data.spec)
        inputs, targets, mask = batch["inputs"], batch["targets"], batch["mask"]
        np.testing.assert_array_equal(inputs[~mask], targets[~mask])
        total, hidden = total + mask.size, hidden + int(mask.sum())
        masked, kept = inputs[mask] == 256, inputs[mask] == targets[mask]
        shown[0] += int(masked.sum())
        shown[1] += int((~masked & ~kept).sum())
        shown[2] += int(kept.sum())
    assert total == 5 * 64 * 100
    drawn_itself = 0.1 / 256  # a random token is now and then the token itself
    expected = (0.8, 0.1 - drawn_itself, 0.1 + drawn_itself)
    for count, n, p in [(hidden, total, 0.15), *zip(shown, [hidden] * 3, expected, strict=True)]:
        assert abs(count - n * p) < 5 * (n * p * (1 - p)) ** 0.5


def test_what_is_hidden_is_a_function_of_seed_and_step(data: Data) -> None:
    first, again, later = (
        MASKED_LM.batch(data.train_batch(step), data.spec)["mask"] for step in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != later).any()
    resumed = next(data.train_batches(7))
    np.testing.assert_array_equal(MASKED_LM.batch(resumed, data.spec)["mask"], first)
    other = open_data(data.config, seed=4, needs=MASKED_LM.needs)
    assert (MASKED_LM.batch(other.train_batch(7), data.spec)["mask"] != first).any()


def test_evaluations_hide_the_same_tokens_in_batches_of_any_size(data: Data) -> None:
    other = open_data(data.config, seed=9, needs=MASKED_LM.needs)
    masks = [
        np.concatenate(
            [MASKED_LM.batch(rows, each.spec)["mask"] for rows in each.eval_batches(size)]
        )[: each.rows("validation")]
        for each, size in ((data, 5), (other, 7))
    ]
    np.testing.assert_array_equal(*masks)
    assert masks[0].any()


def test_special_tokens_and_padding_are_never_hidden(data: Data) -> None:
    rows = data.train_batch(0)
    special = dataclasses.replace(data.spec.vocabulary, special=(*range(32, 80), 256))
    spec = dataclasses.replace(data.spec, vocabulary=special)
    rows["segment_ids"][:, 50:] = 0
    batch = MASKED_LM.batch(rows, spec)
    assert not batch["mask"][:, 50:].any()
    np.testing.assert_array_equal(batch["attention_mask"], rows["segment_ids"][:, :-1] > 0)
    assert batch["targets"][batch["mask"]].min() >= 80
    replaced = batch["inputs"] != batch["targets"]
    assert not np.isin(batch["inputs"][replaced], range(32, 80)).any()
