"""`zoo evaluate --lm-eval` on local tasks: figures against the model's own logits."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from lm_eval.utils import get_rolling_token_windows

import zoo
from tests.cli.test_generate import with_words
from tests.hf.test_families import write
from zoo.cli import main
from zoo.data.tokenizers import ByteTokenizer
from zoo.decoding import Sampling
from zoo.environment import library
from zoo.errors import ConfigError, DataError
from zoo.evaluation.lm_eval import ZooLM, evaluate_tasks, generation
from zoo.models.tower import Transformer

CLOSE = {"rel": 1e-5, "abs": 1e-5}
QUESTIONS = {
    "What is it?": ["a cat", "a large dog", "it"],
    "Who goes in": ["I", "no one", "you"],
    "When is it?": ["now", "yesterday evening", "never"],
}
CHOICE = """
task: zoo_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""
WRITING = """
task: zoo_writing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{written}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 6, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
ROLLING = """
task: zoo_rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""


@pytest.fixture(scope="module")
def model() -> Transformer:
    return zoo.create_model("decoder-tiny", num_layers=1, d_model=16, max_length=40, rngs=0)


@pytest.fixture(scope="module")
def folder(model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoint")
    zoo.save_pretrained(model, made)
    ByteTokenizer().save(made)
    return made


@nnx.jit
def forward(model: Any, *ids: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(model(*ids))


def logs(model: Any, ids: list[int]) -> np.ndarray:
    """Log-probabilities [tokens, vocab] of what comes next."""
    # What stands behind a token changes nothing in front of it; one shape, one compilation.
    given = jnp.asarray([ids + [0] * (model.config.sizes().max_length - len(ids))])
    return np.asarray(forward(model, given)[0, : len(ids)], np.float64)


def behind(model: Any, context: list[int], own: list[int]) -> float:
    found = logs(model, [*context, *own[:-1]])[len(context) - 1 :]
    return float(sum(row[token] for row, token in zip(found, own, strict=True)))


@pytest.fixture
def tasks(model: Transformer, tmp_path: Path) -> Path:
    """Three tasks whose answers are the model's own, but for the last document."""
    lines = []
    for number, (question, options) in enumerate(QUESTIONS.items()):
        ids, wrong = list(question.encode()), number == len(QUESTIONS) - 1
        scores = [behind(model, ids, list(f" {option}".encode())) for option in options]
        made = np.asarray(zoo.generate(model, jnp.asarray([ids]), max_new_tokens=6))[0, len(ids) :]
        document = {
            "question": question,
            "options": options,
            "answer": (int(np.argmax(scores)) + wrong) % len(options),
            "written": "something else" if wrong else ByteTokenizer().decode(made),
        }
        lines.append(json.dumps(document) + "\n")
    data = tmp_path / "documents.jsonl"
    data.write_text("".join(lines))
    made = tmp_path / "tasks"
    made.mkdir()
    for name, text in (("choice", CHOICE), ("writing", WRITING), ("rolling", ROLLING)):
        (made / f"{name}.yaml").write_text(text.format(data=data, cache=tmp_path / "cache"))
    return made


def test_figures_of_local_tasks_are_those_of_the_logits(
    model: Transformer, folder: Path, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "zoo_choice,zoo_writing,zoo_rolling"
    command = ["evaluate", "--from", str(folder), "--lm-eval", names, "--lm-eval-path", str(tasks)]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--json"])
    assert stop.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["results"]["zoo_choice"]["acc,none"] == pytest.approx(2 / 3)
    assert found["results"]["zoo_writing"]["exact_match,none"] == pytest.approx(2 / 3)
    nats, size = 0.0, 0
    for question in QUESTIONS:
        text = list(question.encode())
        nats, size = nats - behind(model, text[:1], text[1:]), size + len(text)
    bits = nats / math.log(2) / size
    assert found["results"]["zoo_rolling"]["bits_per_byte,none"] == pytest.approx(bits, **CLOSE)
    assert found["n-samples"]["zoo_choice"] == {"original": 3, "effective": 3}
    assert (found["protocol"]["max_length"], found["protocol"]["opening_tokens"]) == (40, [])
    with pytest.raises(SystemExit):
        main([*command[:4], "zoo_choice", *command[5:], "--lm-eval-limit", "2"])
    shown = capsys.readouterr().out
    assert re.search(r"\|zoo_choice\|.*\|acc +\|↑ +\| +1\|", shown)
    assert re.search(r"limit +2\n", shown)


def requests(*given: Any) -> list[Any]:
    return [SimpleNamespace(args=each) for each in given]


def test_answers_are_scored_behind_their_context(model: Transformer, folder: Path) -> None:
    lm = ZooLM(folder)
    asked = [("What", " is"), ("A longer question, indeed ", "or not"), ("", "word"), ("", "x")]
    found = lm.loglikelihood(requests(*asked), disable_tqdm=True)
    # A space at the end of a context is the continuation's; bytes have no begin token.
    split = [("What", " is"), ("A longer question, indeed", " or not"), ("w", "ord")]
    for (value, _), (context, own) in zip(found[:3], split, strict=True):
        expected = behind(model, list(context.encode()), list(own.encode()))
        assert value == pytest.approx(expected, **CLOSE)
    assert found[3] == (0.0, True)


def test_long_texts_are_scored_in_the_windows_of_lm_eval(model: Transformer, folder: Path) -> None:
    lm = ZooLM(folder)
    texts = ["x" * 3 + "a text that is longer than the model reads" * 3, "short", "", "y"]
    found = lm.loglikelihood_rolling(requests(*((text,) for text in texts)), disable_tqdm=True)
    for value, text in zip(found, texts, strict=True):
        first, *ids = list(text.encode()) or [0]
        expected = 0.0
        windows = get_rolling_token_windows(
            token_list=ids, prefix_token=first, max_seq_len=40, context_len=1
        )
        for read, own in windows:
            rows = logs(model, read)[-len(own) :]
            expected += float(sum(row[token] for row, token in zip(rows, own, strict=True)))
        assert value == pytest.approx(expected, **CLOSE)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A decoder of transformers whose tokenizer puts <s> before a text."""
    write("gpt2", tmp_path / "gpt2")
    return with_words(tmp_path / "gpt2", after="</s>")


def test_a_checkpoint_of_transformers_has_its_begin_token_once(theirs: Path) -> None:
    lm, model = ZooLM(theirs), zoo.load_pretrained(theirs)
    asked = [("w7 w3", " w4"), ("<s> w7", " w3"), ("", "w5 w6")]
    found = lm.loglikelihood(requests(*asked), disable_tqdm=True)
    by_hand = [([1, 10, 6], [7]), ([1, 10], [6]), ([1], [8, 9])]
    for (value, _), (context, own) in zip(found, by_hand, strict=True):
        assert value == pytest.approx(behind(model, context, own), **CLOSE)
    (rolling,) = lm.loglikelihood_rolling(requests(("w5 w6",)), disable_tqdm=True)
    assert rolling == pytest.approx(found[2][0], **CLOSE)
    with pytest.raises(DataError, match="'' behind 'w1' has no token of its own"):
        lm.loglikelihood(requests(("w1", "")))


def test_an_encoder_decoder_answers_its_source(tmp_path: Path) -> None:
    write("marian", tmp_path)
    with_words(tmp_path)
    lm, model = ZooLM(tmp_path), zoo.load_pretrained(tmp_path)
    ((value, _),) = lm.loglikelihood(requests(("w7 w3", "w4 w5")), disable_tqdm=True)
    start = model.config.decoder_start_id
    source = jnp.asarray([[1, 10, 6]])
    found = np.asarray(forward(model, source, jnp.asarray([[start, 7]]))[0], np.float64)
    assert value == pytest.approx(float(found[0, 7] + found[1, 8]), **CLOSE)
    (text,) = lm.generate_until(requests(("w7 w3", {"max_gen_toks": 4})), disable_tqdm=True)
    ids = np.asarray(zoo.generate(model, source, max_new_tokens=4))[0, 1:]
    shown = [token for token in ids.tolist() if token > 2]
    assert text == lm.tokens.decode(shown)
    with pytest.raises(ConfigError, match="use a decoder"):
        lm.loglikelihood_rolling(requests(("w1",)))


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, {}),
        ({"until": "\n"}, {"stops": ["\n"]}),
        ({"until": ["a", "", "b"], "max_gen_toks": 7}, {"stops": ["a", "b"], "max_new_tokens": 7}),
        ({"max_new_tokens": 9, "do_sample": False, "temperature": 0.7}, {"max_new_tokens": 9}),
        ({"do_sample": True}, {"temperature": 1.0}),
        (
            {"temperature": 0.5, "top_p": 0.9},
            {"temperature": 0.5, "sampling": Sampling(top_p=0.9)},
        ),
        ({"top_p": 0.9, "num_beams": 2}, {"sampling": Sampling(num_beams=2)}),
    ],
)
def test_what_a_task_asks_of_writing(given: dict[str, Any], made: dict[str, Any]) -> None:
    plain = {"stops": [], "max_new_tokens": 256, "temperature": 0.0, "sampling": Sampling()}
    assert generation(given, 1024) == plain | made
    assert generation({}, 100)["max_new_tokens"] == 50


def test_an_unknown_way_of_writing_is_refused() -> None:
    with pytest.raises(ConfigError, match="ask for penalty_alpha, which is not supported"):
        generation({"penalty_alpha": 0.6}, 100)


@pytest.fixture
def ran(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The error of a command that is refused."""

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", "--from", str(folder), *words])
        assert stop.value.code == 2
        return capsys.readouterr().err

    return run


def test_what_does_not_go_together_is_refused(
    ran: Callable[..., str], folder: Path, tasks: Path, tmp_path: Path
) -> None:
    own = ("--lm-eval-path", str(tasks))
    assert "--text has no effect with --lm-eval" in ran("--lm-eval", "a", "--text", "b")
    assert "--task has no effect with --lm-eval" in ran("--lm-eval", "a", "--task", "masked_lm")
    assert "lm_eval_limit = 0" in ran("--lm-eval", "a", "--lm-eval-limit", "0")
    assert "names no task" in ran("--lm-eval", "zoo_choice,", *own)
    assert "is no folder" in ran("--lm-eval", "a", "--lm-eval-path", str(tmp_path / "none"))
    assert "--lm-eval TASKS" in ran(*own)
    (tmp_path / "documents.jsonl").unlink()
    with pytest.raises(DataError, match="zoo_choice: the data cannot be read"):
        evaluate_tasks(folder, ["zoo_choice"], folder=tasks)


def test_a_model_that_continues_no_text_is_refused(tmp_path: Path) -> None:
    write("bert", tmp_path)
    ByteTokenizer().save(tmp_path)
    with pytest.raises(ConfigError, match="continues no text"):
        ZooLM(tmp_path)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match="those of lm-eval, which is not there: pip install"):
        library("lm_eval", "lm-eval")
