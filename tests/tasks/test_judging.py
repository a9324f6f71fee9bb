"""Judges: their figures against hand-made counts and against sacrebleu called directly."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
from flax import nnx

from zoo.data import DataConfig, open_data
from zoo.data.examples import ExampleData
from zoo.errors import ConfigError
from zoo.tasks import TASKS, judging
from zoo.tasks.judging import judge_labels
from zoo.tasks.seq2seq import SEQ2SEQ

BEGIN, END = 256, 257


class Given(nnx.Module):
    """A model that says what it is told."""

    origin = None
    generation = ()

    def __call__(self, *, logits: jax.Array) -> jax.Array:
        return logits


def ranked(true: list[int], said: list[int], labels: tuple[str, ...]) -> Any:
    """The judgement of these labels, in two batches with a row of padding."""
    count, middle = len(true), len(true) // 2
    logits = np.eye(len(labels), dtype=np.float32)[[*said, 0]]
    targets, mask = np.asarray([*true, 0]), np.arange(count + 1) < count
    batches = [
        {"logits": logits[part], "targets": targets[part], "mask": mask[part]}
        for part in (slice(middle), slice(middle, None))
    ]
    data = SimpleNamespace(
        eval_batches=lambda max_batches: batches[:max_batches], spec=SimpleNamespace(labels=labels)
    )
    judge = judge_labels(lambda rows, spec: dict(rows), lambda batch: {"logits": batch["logits"]})
    return judge(Given(), data, max_batches=None, num_beams=1)  # type: ignore[arg-type]


def test_two_labels_are_judged_by_their_four_counts() -> None:
    hits, misses, alarms, rest = 5, 2, 3, 7
    true = [1] * (hits + misses) + [0] * (alarms + rest)
    said = [1] * hits + [0] * misses + [1] * alarms + [0] * rest
    figures, protocol = ranked(true, said, ("no", "yes"))
    second = 2 * hits / (2 * hits + misses + alarms)
    first = 2 * rest / (2 * rest + misses + alarms)
    correlation = (hits * rest - misses * alarms) / math.sqrt(
        (hits + misses) * (hits + alarms) * (rest + misses) * (rest + alarms)
    )
    expected = {
        "accuracy": 12 / 17,
        "f1": second,
        "f1_macro": (first + second) / 2,
        "matthews": correlation,
    }
    assert figures == pytest.approx(expected)
    assert protocol["f1_label"] == "yes"


def test_more_labels_have_the_mean_of_their_f1() -> None:
    figures, protocol = ranked([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 0, 2], ("a", "b", "c"))
    # a: 1 of 2 said, 1 of 2 true; b: 2 of 3, 2 of 2; c: 1 of 1, 1 of 2.
    assert figures["f1_macro"] == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert "f1" not in figures
    assert "f1_label" not in protocol


def test_models_of_a_structure_are_compiled_once() -> None:
    ranked([0, 1, 2, 0], [0, 1, 2, 0], ("a", "b", "c"))
    programs = judging._ranked._cache_size()
    ranked([2, 1, 2, 0], [1, 1, 0, 0], ("a", "b", "c"))
    assert judging._ranked._cache_size() == programs


@pytest.mark.filterwarnings("error")
def test_a_model_that_says_one_label_has_figures() -> None:
    assert ranked([0, 0, 0], [0, 0, 0], ("a", "b")).figures["matthews"] == 0.0
    assert ranked([0, 1, 0], [0, 0, 0], ("a", "b")).figures["f1"] == 0.0


PAIRS = [
    ("the cat sat on the mat", "die Katze saß auf der Matte."),
    ("a dog " + "very " * 10 + "old", "ein sehr, sehr alter Hund liegt hier."),
    ("one", "Eins und noch eins und noch mehr!"),
    ("she said “no”", "sie sagte „nein“, und ging weg"),
    ("five words are in here", "hier stehen fünf Wörter drin"),
]
WRITTEN = [
    "die Katze saß auf einer Matte.",
    "ein sehr alter Hund liegt hier.",
    "Eins und noch eins",
    "sie sagte „nein“, und ging dann weg",
    "hier stehen fünf Wörter drin",
]


@pytest.fixture
def data(tmp_path: Path) -> ExampleData:
    path = tmp_path / "held.jsonl"
    rows = [{"text": source, "target": target} for source, target in PAIRS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.with_name("train.jsonl").write_text(path.read_text())
    config = DataConfig(
        path=str(path.with_name("train.jsonl")),
        validation_path=str(path),
        cache_dir=str(tmp_path / "cache"),
        batch_size=2,
        length=48,
        target_length=20,
    )
    made = open_data(config, needs=SEQ2SEQ.needs, kind="pairs")
    assert isinstance(made, ExampleData)
    return made


MODEL = SimpleNamespace(config=SimpleNamespace(sizes=lambda: SimpleNamespace(max_length=64)))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Each call of `generate`, which knows the sources and writes `WRITTEN`."""
    made: list[dict[str, Any]] = []

    def generate(model: Any, prompt: Any, mask: Any, **settings: Any) -> np.ndarray:
        made.append(settings | {"shape": prompt.shape})
        rows = []
        for tokens, seen in zip(np.asarray(prompt), np.asarray(mask), strict=True):
            assert tokens[seen][-1] == END
            source = bytes(tokens[seen][:-1].astype(np.uint8)).decode()
            place = next(i for i, pair in enumerate(PAIRS) if pair[0].startswith(source))
            rows.append([BEGIN, *WRITTEN[place].encode(), END, *b"after the end"])
        width = max(map(len, rows))
        return jnp.asarray([row + [END] * (width - len(row)) for row in rows])

    monkeypatch.setattr(judging, "generate", generate)
    return made


def judge(data: ExampleData, *, max_batches: int | None = None, num_beams: int = 1) -> Any:
    assert SEQ2SEQ.judge is not None
    return SEQ2SEQ.judge(MODEL, data, max_batches=max_batches, num_beams=num_beams)  # type: ignore[arg-type]


def test_translations_are_scored_as_sacrebleu_does(data: ExampleData, calls: list[Any]) -> None:
    figures, protocol = judge(data)
    references = [[target for _, target in PAIRS]]
    assert figures["bleu"] == sacrebleu.corpus_bleu(WRITTEN, references).score
    assert figures["chrf"] == sacrebleu.corpus_chrf(WRITTEN, references).score
    assert 0 < figures["bleu"] < figures["chrf"] < 100
    assert (protocol["sentences"], protocol["num_beams"]) == (5, 1)
    assert protocol["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")
    assert protocol["chrf_signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|")


def test_sources_of_a_length_share_a_shape(data: ExampleData, calls: list[Any]) -> None:
    judge(data, num_beams=3)
    # The longest source first; the last batch is filled up.
    assert [call["shape"] for call in calls] == [(2, 48), (2, 32), (2, 32)]
    assert {call["max_new_tokens"] for call in calls} == {20}
    assert {call["eos_id"] for call in calls} == {(END,)}
    assert {call["sampling"].num_beams for call in calls} == {3}


def test_only_the_rows_of_an_evaluation_are_judged(data: ExampleData, calls: list[Any]) -> None:
    figures, protocol = judge(data, max_batches=1)
    kept = [0, 2]  # evenly spaced
    assert data.eval_rows(max_batches=1).tolist() == kept
    assert protocol["sentences"] == 2
    expected = sacrebleu.corpus_bleu([WRITTEN[i] for i in kept], [[PAIRS[i][1] for i in kept]])
    assert figures["bleu"] == expected.score


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, data: ExampleData) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ConfigError, match="sacrebleu, which is not there: pip install sacrebleu"):
        judge(data)


def test_every_task_says_what_its_runs_are_compared_by() -> None:
    for task in TASKS.values():
        hits = dict.fromkeys(task.hits, 0.5)
        assert task.metric.name in {"bleu", *task.metrics(1.0, 2.0, **hits)}
        assert task.metric.lower_is_better == (task.metric.name in ("loss", "bits_per_byte"))
