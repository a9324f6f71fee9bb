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
from zoo.compare.statistics import Score, analyse

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


def test_a_claim_that_has_changed_since_it_was_judged_is_refused(
    command: ModuleType,
    claims: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REGISTERED", "VERDICTS"):
        monkeypatch.setattr(command, name, tmp_path / f"{name}.jsonl")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    claim = claims["dyt"]
    command.register(claim, 1.0)
    command.register(claim, 1.0)
    (line,) = command.lines(command.REGISTERED)
    assert line["hash"] == claim.hash(1.0)
    assert line["rule"] == claim.rule
    command.add(command.VERDICTS, {"claim": "dyt", "scale": 1.0, "hash": line["hash"]})

    class Changed(type(claim)):  # type: ignore[misc]
        def hash(self, scale: float) -> str:
            return "another"

    changed = Changed(**{f.name: getattr(claim, f.name) for f in dataclasses.fields(claim)})
    with pytest.raises(SystemExit, match="dyt has changed"):
        command.register(changed, 1.0)


def test_a_pair_is_turned_as_it_is_asked_for(command: ModuleType, tmp_path: Path) -> None:
    values = {"a": (1.0, 1.1, 1.2), "b": (3.0, 3.1, 3.2)}
    scores = [
        Score(name, "here", seed, value)
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]
    found = Comparison(tmp_path, {}, None, [], [], analyse(scores), [], {})  # type: ignore[arg-type]
    claim = sys.modules["_claim"]
    one, other = claim.pair(found, "a", "b"), claim.pair(found, "b", "a")
    assert one.verdict == "a better"
    assert other.verdict == "b better"
    assert one.difference == pytest.approx(-2.0)
    assert claim.interval(other) == pytest.approx((-one.high, -one.low))
    with pytest.raises(LookupError, match="no pair of a and c"):
        claim.pair(found, "a", "c")
