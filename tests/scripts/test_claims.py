"""Claims are said before they are run, and what is committed is what was said."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from zoo.compare.comparison import Comparison
from zoo.compare.results import Row
from zoo.compare.statistics import Score, analyse
from zoo.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "scripts" / "claims"


@pytest.fixture(scope="module")
def command() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("claims_command", FOLDER / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def claims(command: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = command.claims()
    return made


def test_there_are_eight_claims_and_three_controls(claims: dict[str, Any]) -> None:
    assert sum(claim.control for claim in claims.values()) >= 3
    assert sum(not claim.control for claim in claims.values()) >= 8
    for name, claim in claims.items():
        assert claim.name == name
        for word in ("statement", "source", "expectation", "metric", "rule"):
            assert getattr(claim, word)
        for config in claim.comparisons(1.0).values():
            config.validate()


def test_a_hash_is_of_the_text_and_the_scale(claims: dict[str, Any]) -> None:
    hashes = [claim.hash(1.0) for claim in claims.values()]
    assert len(set(hashes)) == len(hashes)
    one = claims["dyt"]
    assert one.hash(1.0) != one.hash(2.0)
    assert one.hash(1.0) == claims["dyt"].hash(1.0)


def test_what_is_committed_was_said_before_it_was_run(
    command: ModuleType, claims: dict[str, Any]
) -> None:
    said = {line["hash"]: line for line in command.lines(command.REGISTERED)}
    for line in command.lines(command.VERDICTS):
        assert line["hash"] in said
        claim = claims[line["claim"]]
        assert line["hash"] == claim.hash(line["scale"]), f"{claim.name} has changed since"
        for word in ("statement", "expectation", "metric", "rule"):
            assert said[line["hash"]][word] == getattr(claim, word)


def test_the_page_is_what_the_results_say(command: ModuleType, claims: dict[str, Any]) -> None:
    assert command.PAGE.read_text(encoding="utf-8") == command.page(claims)


@pytest.mark.parametrize("made", ["runs", "verdict"])
def test_a_claim_that_has_changed_since_it_was_run_is_refused(
    command: ModuleType,
    claims: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: str,
) -> None:
    for name in ("REGISTERED", "VERDICTS"):
        monkeypatch.setattr(command, name, tmp_path / f"{name}.jsonl")
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    claim = claims["dyt"]

    class Changed(type(claim)):  # type: ignore[misc]
        def hash(self, scale: float) -> str:
            return "another"

    changed = Changed(**{f.name: getattr(claim, f.name) for f in dataclasses.fields(claim)})
    command.register(changed, 1.0)
    command.register(claim, 1.0)  # nothing was run of it yet
    command.register(claim, 1.0)
    first, line = command.lines(command.REGISTERED)
    assert (first["hash"], line["hash"]) == ("another", claim.hash(1.0))
    assert line["rule"] == claim.rule
    if made == "runs":
        command.add(command.ledger(claim, 1.0), {"run": "r"})
    else:
        command.add(command.VERDICTS, {"claim": "dyt", "scale": 1.0, "hash": line["hash"]})
    with pytest.raises(SystemExit, match=r"dyt has changed .* delete dyt.jsonl"):
        command.register(changed, 1.0)
    command.register(changed, 2.0)


def comparison(
    tmp_path: Path, values: dict[str, tuple[float | None, ...]], metric: str
) -> Comparison:
    """Final runs with these figures, of one rate each, which is an end of its list."""
    rows = [
        Row("r", "final", "t", name, 12, 64, {}, seed, 100, "finished", test=value)
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]
    scores = [Score(row.variant, "here", row.seed, row.test) for row in rows]
    found = TASKS["seq2seq" if metric == "bleu" else "language_model"].metric
    withheld = {(name, "here"): "on the edge" for name in values}
    analysis = analyse(scores, withheld=withheld)
    return Comparison(tmp_path, {}, found, rows, [], analysis, [], {})


@pytest.mark.parametrize(
    ("values", "metric", "better"),
    [
        ({"a": (1.0, 1.1, 1.2), "b": (3.0, 3.1, 3.2)}, "loss", "a"),
        ({"a": (3.0, 3.1, 3.2), "b": (1.0, 1.1, 1.2)}, "loss", "b"),
        ({"a": (1.0, 1.1, 1.2), "b": (3.0, 3.1, 3.2)}, "bleu", "b"),
        ({"a": (1.0, 1.9, 1.2), "b": (1.1, 1.8, 1.4)}, "loss", None),
        ({"a": (1.0, 1.1, None), "b": (3.0, 3.1, 3.2)}, "loss", "b"),
        ({"a": (1.0, 1.1, 1.2), "b": (None, None, None)}, "loss", "a"),
        ({"a": (1.0, 1.1, None), "b": (None, 1.0, 1.0)}, "loss", None),
    ],
)
def test_the_better_of_two_is_told_by_the_interval_and_by_lost_runs(
    command: ModuleType,
    tmp_path: Path,
    values: dict[str, tuple[float | None, ...]],
    metric: str,
    better: str | None,
) -> None:
    made = comparison(tmp_path, values, metric)
    judging = sys.modules["_judging"]
    assert judging.favoured(made, "a", "b") == better
    assert judging.favoured(made, "b", "a") == better


@pytest.mark.parametrize(
    ("name", "values", "word"),
    [
        ("control_twin", {"res_post_norm": 1.0, "reordered_norm": 3.0}, "reversed"),
        ("control_twin", {"res_post_norm": 1.0, "reordered_norm": 1.05}, "confirmed"),
        ("control_twin", {"res_post_norm": None, "reordered_norm": None}, "not seen"),
        ("layer_norm_scaling", {"layer_norm_scaling": 1.0, "pre_norm": 3.0}, "confirmed"),
        ("layer_norm_scaling", {"layer_norm_scaling": 3.0, "pre_norm": 1.0}, "reversed"),
        ("layer_norm_scaling", {"layer_norm_scaling": 1.05, "pre_norm": 1.0}, "not seen"),
        (
            "control_misinitialised",
            {"deep_norm": 1.0, "deep_norm_misinitialised": 3.0},
            "confirmed",
        ),
        (
            "control_misinitialised",
            {"deep_norm": None, "deep_norm_misinitialised": None},
            "not seen",
        ),
        ("control_shuffled", dict.fromkeys(("post_norm", "pre_norm", "deep_norm")), "not seen"),
        (
            "translation_shallow",
            {"post_norm": 30.0, "pre_norm": 30.4, "deep_norm": 31.0},
            "confirmed",
        ),
        (
            "translation_shallow",
            {"post_norm": 20.0, "pre_norm": 30.4, "deep_norm": 31.0},
            "reversed",
        ),
        (
            "translation_deep",
            dict.fromkeys(("admin", "b2t", "deep_norm", "pre_norm", "residual_dual"), 30.0)
            | {"post_norm": 2.0},
            "confirmed",
        ),
        (
            "translation_deep",
            dict.fromkeys(("admin", "b2t", "deep_norm", "pre_norm", "residual_dual"), 30.0)
            | {"post_norm": 30.1},
            "not seen",
        ),
    ],
)
def test_a_rule_can_come_out_either_way(
    claims: dict[str, Any],
    tmp_path: Path,
    name: str,
    values: dict[str, float | None],
    word: str,
) -> None:
    claim = claims[name]
    noise = (-0.1, 0.0, 0.1)
    seeds = {
        variant: tuple(None if value is None else value + each for each in noise)
        for variant, value in values.items()
    }
    (label,) = claim.comparisons(1.0)
    metric = "bleu" if name.startswith("translation") else "loss"
    assert claim.judge({label: comparison(tmp_path, seeds, metric)}).word == word


def test_a_pair_is_turned_as_it_is_asked_for(command: ModuleType, tmp_path: Path) -> None:
    values = {"a": (1.0, 1.1, 1.2), "b": (3.0, 3.1, 3.2)}
    scores = [
        Score(name, "here", seed, value)
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]
    found = Comparison(tmp_path, {}, None, [], [], analyse(scores), [], {})  # type: ignore[arg-type]
    claim = sys.modules["_judging"]
    one, other = claim.pair(found, "a", "b"), claim.pair(found, "b", "a")
    assert one.verdict == "a better"
    assert other.verdict == "b better"
    assert one.difference == pytest.approx(-2.0)
    assert claim.interval(other) == pytest.approx((-one.high, -one.low))
    with pytest.raises(LookupError, match="no pair of a and c"):
        claim.pair(found, "a", "c")
