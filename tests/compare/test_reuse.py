"""What is there is used again only where it still tells of the run that is asked for."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _sweep import write_run
from filelock import FileLock

from tests.compare.conftest import Comparing
from tests.training.conftest import write_text
from zoo.compare import ledger
from zoo.compare.compare import comparison
from zoo.compare.config import CompareConfig
from zoo.compare.plan import Spec
from zoo.compare.results import SCORES
from zoo.compare.work import Board, make_run
from zoo.errors import CheckpointError, DataError
from zoo.files import dumps
from zoo.training.setup import open_run_data
from zoo.training.summary import summarise, write_summary

Files = dict[str, Any]


def quiet(_: str) -> None:
    pass


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def made_up(config: CompareConfig, more: Callable[[Spec], Files] = lambda _: {}) -> None:
    """All runs of a comparison with made-up figures.

    Args:
        more: entries for the files of a run, by name of the file.
    """
    board = Board(config)
    while left := [spec for spec in board.specs() if board.row(spec).status == "missing"]:
        for spec in left:
            folder = board.runs / spec.row.run
            value = 2.0 + float(spec.row.lr or 0.0)
            write_run(folder, spec.row, value, lost=False, every=2, layers=False)
            for name, entries in more(spec).items():
                edit(folder / name, **entries)


def statuses(config: CompareConfig) -> dict[str, set[str]]:
    """Of the runs of each phase."""
    rows = comparison(config).rows
    return {phase: {r.status for r in rows if r.phase == phase} for phase in ("tuning", "final")}


def final(config: CompareConfig) -> tuple[Board, Spec]:
    board = Board(config)
    return board, next(spec for spec in board.specs() if spec.row.phase == "final")


# -- data ------------------------------------------------------------------------------------------


def test_runs_on_text_that_has_changed_since_are_made_again(
    comparing: Comparing, tmp_path: Path
) -> None:
    text = write_text(tmp_path / "mine.txt", seed=0)
    config = comparing(run={"data.path": str(text)})
    made_up(config, lambda spec: {"summary.json": _trained_on(spec)})
    assert statuses(config) == {"tuning": {"finished"}, "final": {"finished"}}
    write_text(text, seed=1)
    assert statuses(config)["tuning"] == {"damaged"}
    note = comparison(config).notes[1]
    assert "other data" in note
    assert "summary.json" in note


def _trained_on(spec: Spec) -> Files:
    return {"data_fingerprint": open_run_data(spec.config).fingerprint}


def test_runs_that_do_not_say_what_they_were_trained_on_stand_and_open_nothing(
    comparing: Comparing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_text(tmp_path / "mine.txt", seed=0)
    config = comparing(run={"data.path": str(text)})
    made_up(config)
    write_text(text, seed=1)
    monkeypatch.setattr("zoo.compare.origins.open_run_data", None)
    assert statuses(config) == {"tuning": {"finished"}, "final": {"finished"}}


def test_data_that_runs_share_is_opened_once(
    comparing: Comparing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = write_text(tmp_path / "unseen.txt", seed=1)
    config = comparing(test_path=str(unseen))
    made_up(config, lambda spec: {"summary.json": _trained_on(spec)})
    opened: Counter[Any] = Counter()

    def counting(run: Any) -> Any:
        opened[run.data.validation_path] += 1
        return open_run_data(run)

    monkeypatch.setattr("zoo.compare.origins.open_run_data", counting)
    statuses(config)
    assert opened == {None: 1, str(unseen): 1}


# -- scores ----------------------------------------------------------------------------------------


def test_figures_on_other_unseen_text_are_taken_again(comparing: Comparing, tmp_path: Path) -> None:
    from zoo.compare.origins import Origins

    texts = [str(write_text(tmp_path / f"{seed}.txt", seed=seed)) for seed in (1, 2)]
    configs = [comparing(test_path=text) for text in texts]
    origins = Origins(configs[0])

    def scored(spec: Spec) -> Files:
        wanted = origins.of(spec).scores
        return {SCORES: {"made_with": dict(wanted)} if spec.row.phase == "final" else {}}

    made_up(configs[0], scored)
    assert statuses(configs[0]) == {"tuning": {"finished"}, "final": {"finished"}}
    assert statuses(configs[1]) == {"tuning": {"finished"}, "final": {"unscored"}}
    write_text(Path(texts[0]), seed=3)
    assert statuses(configs[0])["final"] == {"unscored"}


def test_figures_of_other_beams_are_taken_again_where_texts_are_written(
    comparing: Comparing,
) -> None:
    from zoo.compare.origins import made_with

    written = dataclasses.replace(comparing().run, task="seq2seq")
    assert made_with(comparing(num_beams=2), written, "a")["num_beams"] == 2
    assert made_with(comparing(num_beams=2), comparing().run, "a")["num_beams"] == 1


@pytest.mark.parametrize("field", ["metric", "select"])
def test_a_figure_that_was_not_taken_is_no_divergence(comparing: Comparing, field: str) -> None:
    config = comparing()
    made_up(config)
    lacking = dataclasses.replace(config, **{field: "perplexity"})
    found = statuses(lacking)
    assert found["tuning"] == {"unscored"}
    assert statuses(config) == {"tuning": {"finished"}, "final": {"finished"}}


def test_a_test_figure_that_was_not_taken_is_taken(comparing: Comparing) -> None:
    config = comparing()
    made_up(config, lambda spec: {SCORES: {"figures": {}}} if spec.row.phase == "final" else {})
    assert statuses(config) == {"tuning": {"finished"}, "final": {"unscored"}}


def test_a_figure_that_is_no_number_is_a_divergence(comparing: Comparing) -> None:
    config = comparing(variants=("post_norm",), space={})
    made_up(config)
    board, spec = final(config)
    folder = board.runs / spec.row.run
    *curve, last = (folder / "metrics.jsonl").read_text().splitlines()
    worst = json.dumps(json.loads(last) | {"eval_bits_per_byte": "NaN"})
    (folder / "metrics.jsonl").write_text("\n".join([*curve, worst]) + "\n")
    edit(folder / "summary.json", eval_bits_per_byte="NaN")
    row = Board(config).row(spec)
    assert (row.status, row.note) == ("diverged", f"eval_bits_per_byte = {math.nan} at the end")


def test_scoring_again_adds_the_figure_or_ends(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = comparing(variants=("post_norm",), space={})
    made_up(config, lambda _: {SCORES: {"figures": {}}})
    board, spec = final(config)
    folder = board.runs / spec.row.run
    (folder / "checkpoints").mkdir()
    monkeypatch.setattr("zoo.compare.work.train", None)
    monkeypatch.setattr("zoo.compare.work.score", lambda *_: None)
    with pytest.raises(DataError, match="test_bits_per_byte"):
        make_run(board, spec, quiet)

    def score(*_: Any) -> None:
        edit(folder / SCORES, figures={"test_bits_per_byte": 1.5})

    monkeypatch.setattr("zoo.compare.work.score", score)
    make_run(board, spec, quiet)
    assert board.row(spec).test == 1.5


def test_a_run_that_is_to_be_scored_and_has_no_weights_is_made_again(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = comparing(variants=("post_norm",), space={})
    made_up(config, lambda _: {SCORES: {"figures": {}}})
    board, spec = final(config)

    def train(run: Any) -> Files:
        folder = Path(run.workdir)
        assert not (folder / SCORES).exists()
        write_run(folder, spec.row, 1.0, lost=False, every=2, layers=False)
        return {"status": "finished"}

    monkeypatch.setattr("zoo.compare.work.train", train)
    make_run(board, spec, quiet)
    assert board.row(spec).status == "finished"


# -- ledger ----------------------------------------------------------------------------------------


def fails(folder: Path, note: str = "out of memory") -> None:
    """What a run leaves that fails before its first step."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("")
    summary = summarise([], status="failed", steps=0, tokens=0, wall_time_s=0.0, note=note)
    write_summary(folder, summary)


@pytest.fixture
def kept(comparing: Comparing, tmp_path: Path) -> tuple[CompareConfig, Path]:
    """(a comparison of made-up runs, its ledger)."""
    path = tmp_path / "ledger.jsonl"
    config = comparing(variants=("post_norm",), space={}, ledger=str(path))
    made_up(config)
    return config, path


def test_a_run_that_failed_before_its_first_step_has_a_line(
    kept: tuple[CompareConfig, Path],
) -> None:
    config, path = kept
    _, spec = final(config)
    runs = config.workdir / "runs"
    fails(runs / spec.row.run)
    ledger.append(path, Board(config, retry=False).row(spec), runs)
    (line,) = ledger.read(path)
    assert (line["status"], line["metrics"]) == ("failed", [])


def test_the_last_line_of_a_run_counts_and_none_says_the_same_again(
    kept: tuple[CompareConfig, Path],
) -> None:
    config, path = kept
    runs = config.workdir / "runs"
    _, spec = final(config)

    def append() -> list[str]:
        ledger.append(path, Board(config, retry=False).row(spec), runs)
        return [line["status"] for line in ledger.read(path)]

    folder = runs / spec.row.run
    shutil.move(folder, runs / "sound")
    fails(folder)
    assert append() == append() == ["failed"]
    shutil.rmtree(folder)
    shutil.move(runs / "sound", folder)
    assert append() == append() == ["failed", "finished"]
    edit(folder / SCORES, figures={"test_bits_per_byte": 1.25})
    assert append() == ["failed", "finished", "finished"]
    edit(folder / "summary.json", data_fingerprint="another")
    ledger.append(path, spec.row, runs)
    assert len(path.read_text().splitlines()) == 4
    shutil.rmtree(runs)
    edit_last = json.loads(path.read_text().splitlines()[-1])
    assert edit_last["summary"]["data_fingerprint"] == "another"
    assert ledger.unpack(path, config.workdir) == 1
    scores = json.loads((folder / SCORES).read_text())
    assert scores["figures"] == {"test_bits_per_byte": 1.25}
    assert not list(config.workdir.glob(".unpacking*"))


def test_a_ledger_leaves_alone_what_is_claimed_or_begun(
    kept: tuple[CompareConfig, Path],
) -> None:
    config, path = kept
    runs = config.workdir / "runs"
    specs = Board(config).specs()
    for spec in specs:
        ledger.append(path, Board(config).row(spec), runs)
    shutil.rmtree(runs)
    claimed, begun = (spec.row.run for spec in specs)
    (runs / begun).mkdir(parents=True)
    (runs / begun / "config.json").write_text("{}")
    (config.workdir / "locks").mkdir(exist_ok=True)
    with FileLock(config.workdir / "locks" / f"{claimed}.lock"):
        assert ledger.unpack(path, config.workdir) == 0
    assert not (runs / claimed).exists()
    assert [file.name for file in (runs / begun).iterdir()] == ["config.json"]
    assert ledger.unpack(path, config.workdir) == 1
    assert Board(config).row(specs[0]).status == "finished"


# -- failures --------------------------------------------------------------------------------------


def test_a_run_that_failed_before_is_made_once_more_by_all_processes_together(
    comparing: Comparing,
) -> None:
    config = comparing(variants=("post_norm",), space={})
    _, spec = final(config)
    folder = config.workdir / "runs" / spec.row.run
    fails(folder)
    one, other = Board(config), Board(config)
    assert one.row(spec).status == other.row(spec).status == "missing"
    fails(folder)  # made again by one of them
    assert one.row(spec).status == other.row(spec).status == "failed"


def test_a_line_may_hold_what_others_take_for_its_end(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    lines = [{"run": name, "summary": {"note": "x\u2028y\x85z"}, "metrics": []} for name in "ab"]
    file.write_text("".join(dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert list(ledger.read(file)) == lines


def test_a_run_made_again_without_memory_has_failed(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(comparing())
    spec = board.specs()[0]
    folder = board.runs / spec.row.run
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")  # of another run
    ends = iter([CheckpointError("no checkpoint is sound"), MemoryError("too large")])

    def fail(_: Any) -> None:
        raise next(ends)

    monkeypatch.setattr("zoo.compare.work.train", fail)
    make_run(board, spec, quiet)
    row = board.row(spec)
    assert row.status == "failed"
    assert "too large" in str(row.note)
