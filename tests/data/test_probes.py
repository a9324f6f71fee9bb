"""Probes: answers checked by other means, rows by number alone, nothing held out is trained on."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from itertools import islice
from typing import get_args

import numpy as np
import pytest

from zoo.data import DataConfig, open_data
from zoo.data.config import KINDS, PROBE_KINDS, ProbeKind, RowKind, check_kind
from zoo.data.generated import PARTS, VALIDATION_ROWS, ProbeData
from zoo.data.probes import PROBES
from zoo.data.sources import SPLITS
from zoo.errors import ConfigError

Words = list[str]


def opened(kind: ProbeKind, length: int = 40, **fields: object) -> ProbeData:
    config = dataclasses.replace(DataConfig(length=length, prefetch=0), **fields)  # type: ignore[arg-type]
    data = open_data(config, kind=kind)
    assert isinstance(data, ProbeData)
    return data


def problems(data: ProbeData, count: int = 200) -> Iterator[tuple[Words, Words]]:
    """(question, answers) of the first rows of both splits, in words."""
    for split in SPLITS:
        for index in range(count):
            made = data.problem(split, index)
            words = data.tokenizer.decode(made.tokens).split(" ")
            assert len(words) == len(made.tokens) == len(made.answers) <= data.spec.length + 1
            yield (
                [word for word, own in zip(words, made.answers, strict=True) if not own],
                [word for word, own in zip(words, made.answers, strict=True) if own],
            )


def test_every_kind_of_probe_has_an_entry() -> None:
    assert set(PROBES) == set(PROBE_KINDS)
    assert all(probe.name == kind for kind, probe in PROBES.items())
    assert set(KINDS) == {*get_args(RowKind)}


def test_a_copy_is_the_string_once_more() -> None:
    for question, answers in problems(opened("copy")):
        assert question == [*answers, "|"]
        assert len(answers) == 20


@pytest.mark.parametrize("length", [7, 40, 300])
def test_a_word_to_recall_has_stood_behind_one_key_only(length: int) -> None:
    data = opened("induction", length)
    for index in range(50):
        made = data.problem("train", index)
        words = data.tokenizer.decode(made.tokens).split(" ")
        half = len(words) // 2
        shown = dict(zip(words[:half:2], words[1:half:2], strict=True))
        assert len(shown) == half // 2 == (length + 1) // 4  # no key twice
        assert not shown.keys() & set(shown.values())
        # The values of the second half are the answers; each key is asked for once.
        assert np.flatnonzero(made.answers).tolist() == list(range(half + 1, 2 * half, 2))
        assert dict(zip(words[half::2], words[half + 1 :: 2], strict=True)) == shown


def test_parity_is_the_sum_of_the_bits() -> None:
    for question, answers in problems(opened("parity", 12)):
        *bits, equals = question
        assert (equals, len(bits)) == ("=", 11)
        assert answers == [str(sum(map(int, bits)) % 2)]


OPERATORS: dict[str, Callable[[list[int]], int]] = {
    "MIN": min,
    "MAX": max,
    # Of an even number of arguments the mean of the middle two, without its fraction.
    "MED": lambda values: int(statistics.median(values)),
    "SM": lambda values: sum(values) % 10,
}


def python(words: Words) -> str:
    """`[MAX 2 [MIN 4 7 ] ]` as an expression of Python: `MAX([2,MIN([4,7])])`."""
    text = " ".join(words)
    for name in OPERATORS:
        text = text.replace(f"[{name} ", f"{name}([")
    return text.replace(" ]", "])").replace(" ", ",")


def test_a_value_of_listops_is_what_python_makes_of_the_expression() -> None:
    assert python(["[MAX", "2", "[MIN", "4", "7", "]", "]"]) == "MAX([2,MIN([4,7])])"
    seen: set[str] = set()
    for question, answers in problems(opened("listops", 64), count=300):
        assert question[-1] == "="
        value = eval(python(question[:-1]), {"__builtins__": {}} | OPERATORS)
        assert answers == [str(value)]
        seen.update(question, answers)
    assert seen == {*map(str, range(10)), "[MIN", "[MAX", "[MED", "[SM", "]", "="}


def depth(words: Words) -> int:
    deep = np.cumsum([word.startswith("[") - (word == "]") for word in words])
    return int(deep.max())


def test_longer_listops_are_deeper_and_fill_their_length() -> None:
    found = {}
    for length in (32, 128, 512):
        made = [question[:-1] for question, _ in problems(opened("listops", length), count=50)]
        found[length] = np.mean([depth(words) for words in made])
        sizes = [len(words) for words in made]
        assert max(sizes) <= length - 1
        assert np.mean(sizes) > 0.6 * length
    assert found[32] > 3
    assert 1.5 * found[32] < found[128] < found[512] / 1.5


@pytest.mark.parametrize("kind", PROBE_KINDS)
def test_a_row_is_a_function_of_its_number_alone(kind: ProbeKind) -> None:
    rows = np.asarray([5, 0, 123_456_789, 5])
    batch = opened(kind).read_rows("train", rows)
    again = opened(kind).read_rows("train", rows[::-1])
    for name, array in batch.items():
        np.testing.assert_array_equal(array, again[name][::-1])
        np.testing.assert_array_equal(array[0], array[3])
    padded = opened(kind).read_rows("validation", np.asarray([-1, 2]))
    assert not any(array[0].any() for array in padded.values())
    assert opened(kind).fingerprint == opened(kind).fingerprint
    assert opened(kind).fingerprint != opened(kind, 44).fingerprint


def test_a_seed_orders_the_same_rows() -> None:
    config = DataConfig(length=16, prefetch=0)
    one, two = (open_data(config, kind="copy", seed=seed) for seed in (1, 2))
    assert one.fingerprint == two.fingerprint
    assert one.train_rows(3).tolist() != two.train_rows(3).tolist()
    np.testing.assert_array_equal(
        one.train_batch(3)["tokens"], next(one.train_batches(3))["tokens"]
    )
    held = (data.eval_batches(max_batches=2) for data in (one, two))
    for first, second in zip(*held, strict=True):
        np.testing.assert_array_equal(first["tokens"], second["tokens"])


def questions(batches: Iterator[dict[str, np.ndarray]]) -> set[bytes]:
    return {
        tokens[: size - 1].tobytes()
        for batch in batches
        for tokens, size in zip(batch["tokens"], batch["sizes"], strict=True)
        if size
    }


@pytest.mark.parametrize("length", [7, 8, 9, 12])
def test_no_string_of_bits_is_both_trained_on_and_held_out(length: int) -> None:
    """Of short ones every string is seen, so that only a rule can keep some of them apart."""
    data = opened("parity", length, batch_size=256)
    train = questions(islice(data.train_batches(), 40))
    middle = VALIDATION_ROWS // 2
    rows = (np.arange(middle), np.arange(middle, VALIDATION_ROWS))
    assert all(
        opened("parity", length, validation_half=half).held_out_rows().tolist() == own.tolist()
        for half, own in zip(("first", "second"), rows, strict=True)
    )
    first, second = (questions(iter([data.read_rows("validation", own)])) for own in rows)
    strings, held = 2 ** (length - 1), first | second
    assert train
    assert not train & held
    assert not first & second
    if length <= 9:
        assert len(train | held) == strings
    assert len(held) == pytest.approx(strings * 2 / PARTS, rel=0.5)


@pytest.mark.parametrize("kind", ["copy", "induction", "listops"])
def test_no_short_problem_is_both_trained_on_and_held_out(kind: ProbeKind) -> None:
    data = opened(kind, PROBES[kind].shortest, batch_size=128)
    train = questions(islice(data.train_batches(), 16))
    held = questions(data.eval_batches(max_batches=16))
    assert len(train) > 400
    assert len(held) > 80
    assert not train & held
    assert data.rows("validation") == VALIDATION_ROWS


@pytest.mark.parametrize("kind", PROBE_KINDS)
def test_the_shortest_problems_are_those_that_can_be_held_out(kind: ProbeKind) -> None:
    shortest = PROBES[kind].shortest
    for split in SPLITS:
        assert opened(kind, shortest).problem(split, VALIDATION_ROWS - 1).answers.any()
    with pytest.raises(ConfigError, match=f"data.length = {shortest - 1} leaves too few problems"):
        opened(kind, shortest - 1)


@pytest.mark.parametrize(
    "fields",
    [{"path": "a.txt"}, {"dataset": "a/b"}, {"tokenizer": "bpe"}, {"packing": "first_fit"}],
)
def test_a_setting_that_no_probe_reads_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=f"data.{next(iter(fields))} = .* has no effect on strings"
    ):
        check_kind(DataConfig(**fields), "copy")  # type: ignore[arg-type]
