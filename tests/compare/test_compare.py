"""Comparisons of tiny runs, whole and interrupted."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.compare.conftest import Comparing
from zoo.compare.again import again
from zoo.compare.compare import check, check_metric, compare, comparison
from zoo.compare.config import CompareConfig, from_json, load_compare_config
from zoo.compare.dry_run import dry_run
from zoo.compare.executors import InProcess
from zoo.compare.origins import Origins
from zoo.compare.plan import Spec, cells
from zoo.compare.results import SCORES, Row, read_row
from zoo.compare.work import Board, log_of, parse_shard
from zoo.errors import ConfigError, DataError
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig
from zoo.training.loop import train
from zoo.training.trackers import read_metrics
from zoo.variants import registry
from zoo.variants.registry import get_variant

ROOT = Path(__file__).resolve().parents[2]


def quiet(_: str) -> None:
    pass


def curves(workdir: Path) -> dict[str, list[dict[str, Any]]]:
    """Losses by run and step; speeds left out."""
    return {
        path.parent.name: [
            {key: value for key, value in row.items() if key != "tokens_per_s"}
            for row in read_metrics(path)
        ]
        for path in sorted((workdir / "runs").glob("*/metrics.jsonl"))
    }


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, text: Path
) -> Iterator[tuple[CompareConfig, Path]]:
    """(a comparison that is done, its folder)."""
    from tests.compare.conftest import comparing

    folder = tmp_path_factory.mktemp("whole")
    make = comparing.__wrapped__(text, folder)  # type: ignore[attr-defined]
    config = make()
    compare(config, say=quiet)
    return config, config.workdir


@pytest.fixture
def copied(whole: tuple[CompareConfig, Path], tmp_path: Path) -> tuple[CompareConfig, Path]:
    """The same in a folder of its own."""
    config, folder = whole
    mine = tmp_path / "copy"
    shutil.copytree(folder, mine)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, workdir=str(mine))), mine


def test_it_tunes_then_compares_on_fresh_seeds(whole: tuple[CompareConfig, Path]) -> None:
    config, folder = whole
    rows = comparison(config).rows
    phases = Counter((row.variant, row.phase) for row in rows)
    assert phases == {(name, phase): 2 for name in config.variants for phase in ("tuning", "final")}
    assert {row.status for row in rows} == {"finished"}
    tuned = {row.seed for row in rows if row.phase == "tuning"}
    compared = {row.seed for row in rows if row.phase == "final"}
    assert not tuned & compared
    assert len(compared) == 2
    for row in rows:
        assert (row.test is None) == (row.phase == "tuning")
        assert row.parameters > 0
        assert row.flops > 0
        assert row.memory > 0
    for choice in comparison(config).choices:
        own = [r for r in rows if r.variant == choice.variant and r.phase == "tuning"]
        best = min(own, key=lambda row: row.metric or 0.0)
        assert choice.setting == best.setting
    table = list(csv.DictReader((folder / "results.csv").open()))
    assert len(table) == 8
    assert {"phase", "task", "variant", "depth", "width", "lr", "seed", "steps", "status"} <= set(
        table[0]
    )


def test_variants_read_the_same_data_and_draw_their_own_weights(
    whole: tuple[CompareConfig, Path],
) -> None:
    config, folder = whole
    saved = {}
    for row in comparison(config).rows:
        if row.phase == "final":
            content = json.loads((folder / "runs" / row.run / "config.json").read_text())
            saved[row.variant, row.seed] = content["config"]
    for seed in {seed for _, seed in saved}:
        one, other = (saved[name, seed] for name in config.variants)
        assert one["data_seed"] == other["data_seed"]
        assert one["seed"] != other["seed"]
    assert len({run["data_seed"] for run in saved.values()}) == 2


def test_choices_and_verdicts_see_different_halves(whole: tuple[CompareConfig, Path]) -> None:
    config, folder = whole
    for row in comparison(config).rows:
        if row.phase == "final":
            assert row.figures["test_loss"] != row.figures["eval_loss"]
            content = json.loads((folder / "runs" / row.run / "config.json").read_text())
            assert content["config"]["data"]["validation_half"] == "first"


def test_a_run_says_what_it_was_made_of(whole: tuple[CompareConfig, Path]) -> None:
    config, folder = whole
    for spec in Board(config).specs():
        origin = Origins(config).of(spec)
        summary = json.loads((folder / "runs" / spec.row.run / "summary.json").read_text())
        assert summary["data_fingerprint"] == origin.data
        scores = json.loads((folder / "runs" / spec.row.run / SCORES).read_text())
        assert scores.get("made_with", {}) == origin.scores
        assert bool(origin.scores) == (spec.row.phase == "final")


def test_the_same_command_makes_nothing_again_and_reports_the_same(
    copied: tuple[CompareConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = copied
    before = (folder / "results.csv").read_bytes()
    monkeypatch.setattr("zoo.compare.work.train", None)
    compare(config, say=quiet)
    assert (folder / "results.csv").read_bytes() == before


def test_another_variant_reuses_what_is_there(copied: tuple[CompareConfig, Path]) -> None:
    config, folder = copied
    entries = len(log_of(folder))
    more = dataclasses.replace(config, variants=(*config.variants, "deep_norm"))
    made, _ = compare(more, say=quiet)
    started = {entry["run"] for entry in log_of(folder)[entries:]}
    assert len(started) == 4
    assert all("deep_norm" in name for name in started)
    assert len(made.rows) == 12


def test_a_rerun_elsewhere_gives_the_same_curves(
    whole: tuple[CompareConfig, Path], tmp_path: Path
) -> None:
    config, folder = whole
    elsewhere = dataclasses.replace(config.run, workdir=str(tmp_path / "again"))
    again = dataclasses.replace(config, run=elsewhere, variants=("pre_norm",))
    compare(again, say=quiet)
    ours, theirs = curves(again.workdir), curves(folder)
    assert len(ours) == 4
    for name, curve in ours.items():
        assert curve == theirs[name]


def test_a_run_is_an_ordinary_one(copied: tuple[CompareConfig, Path]) -> None:
    config, _ = copied
    spec = Board(config).specs()[0]
    summary = train(spec.config)  # resumes at its end
    assert summary["status"] == "finished"


DAMAGES: dict[str, Callable[[Path], object]] = {
    "summary is no JSON": lambda run: (run / "summary.json").write_text('{"status": "fin'),
    "summary without a status": lambda run: (run / "summary.json").write_text("{}"),
    "summary of a shorter run": lambda run: _edit(run / "summary.json", steps=2),
    "summary with text for a number": lambda run: _edit(run / "summary.json", tokens="many"),
    "summary that disagrees": lambda run: _edit(run / "summary.json", eval_loss=0.1),
    "metrics are gone": lambda run: (run / "metrics.jsonl").unlink(),
    "metrics are cut short": lambda run: (run / "metrics.jsonl").write_text(
        (run / "metrics.jsonl").read_text().splitlines()[0] + "\n"
    ),
    "metrics have a broken line": lambda run: (run / "metrics.jsonl").write_text(
        "{\n" + (run / "metrics.jsonl").read_text()
    ),
    "scores are no JSON": lambda run: (run / SCORES).write_text("{"),
    "scores hold text": lambda run: _edit(run / SCORES, figures={"test_loss": "low"}),
}


def _edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_ten_damaged_runs_are_named_set_aside_and_made_again(
    copied: tuple[CompareConfig, Path],
) -> None:
    config, folder = copied
    before = {row.run: row for row in comparison(config).rows}
    board = Board(config)
    runs = [spec for spec in board.specs() if spec.row.phase == "final"]
    for name, damage in DAMAGES.items():
        spec = runs[0]
        kept = folder / "kept"
        shutil.copytree(board.runs / spec.row.run, kept)
        damage(board.runs / spec.row.run)
        row = read_row(spec.row, board.runs, board.metric)
        assert row.status == "damaged", name
        assert row.metric is None
        assert row.test is None
        assert str(folder) in row.note, name
        made = comparison(config)
        assert any(spec.row.run in note for note in made.notes), name
        shutil.rmtree(board.runs / spec.row.run)
        shutil.move(kept, board.runs / spec.row.run)
    # One of them, to its end: set aside, made again, the same figures.
    damage = DAMAGES["summary that disagrees"]
    damage(board.runs / runs[0].row.run)
    news: list[str] = []
    compare(config, say=news.append)
    assert any("set aside" in line and runs[0].row.run in line for line in news)
    assert (folder / "damaged" / f"{runs[0].row.run}.1").is_dir()
    after = {row.run: row for row in comparison(config).rows}
    assert {name: row.test for name, row in after.items()} == {
        name: row.test for name, row in before.items()
    }


def test_a_diverged_run_is_a_result(comparing: Comparing) -> None:
    config = comparing(
        variants=("post_norm",), space={"optim.lr": (1e-3, 1e30)}, run={"optim.clip_norm": 0.0}
    )
    made, _ = compare(config, say=quiet)
    by_rate = {row.lr: row for row in made.rows if row.phase == "tuning"}
    assert by_rate[1e30].status == "diverged"
    assert by_rate[1e30].metric is None
    assert made.choices[0].setting == {"optim.lr": 1e-3}


def _start(workdir: Path, shard: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "zoo.compare.worker", str(workdir), shard],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.live
def test_two_shards_one_killed_and_restarted_make_every_run_once(comparing: Comparing) -> None:
    config = comparing(seeds=1, run={"steps": 60, "checkpoint.every": 10, "eval_every": 60})
    check(config)
    config.workdir.mkdir()
    (config.workdir / "compare.json").write_text(json.dumps({"config": config.to_json()}))
    first, second = _start(config.workdir, "1/2"), _start(config.workdir, "2/2")
    deadline = time.monotonic() + 120
    while not list(config.workdir.glob("runs/*/checkpoints/[0-9]*")):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = _start(config.workdir, "1/2")
    assert again.wait(timeout=240) == 0
    assert second.wait(timeout=240) == 0
    made = comparison(config)
    assert {row.status for row in made.rows} == {"finished"}
    assert len(made.rows) == 6
    ends = Counter(entry["run"] for entry in log_of(config.workdir) if entry["event"] == "end")
    assert ends == {row.run: 1 for row in made.rows}


def _workers(workdir: Path) -> list[str]:
    """Processes of a comparison that work in its folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if "zoo.compare.worker" in words and str(workdir) in words:
                found.append(path.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes in /proc")
def test_a_killed_comparison_leaves_no_worker_behind_and_goes_on(comparing: Comparing) -> None:
    config = comparing(
        variants=("pre_norm",),
        space={},
        workers=2,
        run={"steps": 400, "checkpoint.every": 10, "eval_every": 400},
    )
    script = "import sys, json; from zoo.compare.compare import compare; "
    script += (
        "from zoo.compare.config import from_json; compare(from_json(json.loads(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, json.dumps(config.to_json())]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(config.workdir.glob("runs/*/checkpoints/[0-9]*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    assert _workers(config.workdir)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _workers(config.workdir):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [row.status for row in comparison(config).rows] == ["finished"] * 2


def test_matching_gives_equal_flops_or_parameters(comparing: Comparing) -> None:
    names = ("pre_norm", "hyper_connections")
    by_flops = comparing(variants=names, match="flops", run={"steps": 400})
    board = Board(by_flops)
    spent = [board.spec(cell, "final", {}, 0) for cell in cells(by_flops)]
    from zoo.training.dry_run import cost

    one, other = (cost(spec.config).flops_per_step * spec.config.steps for spec in spent)
    assert other == pytest.approx(one, rel=5e-3)
    by_size = comparing(variants=names, match="params")
    board = Board(by_size)
    runs = [board.spec(cell, "final", {}, 0).config for cell in cells(by_size)]
    sizes = [cost(run).parameters for run in runs]
    assert runs[0].model.d_ff != runs[1].model.d_ff
    assert abs(sizes[0] - sizes[1]) <= 2 * 2 * 16  # half a column of d_ff in two layers


def test_the_folder_of_a_comparison_has_its_config(whole: tuple[CompareConfig, Path]) -> None:
    config, folder = whole
    assert load_compare_config(folder / "compare.json") == config
    for name, word in (("results.csv.json", "No such file"), ("broken.json", "not the compare")):
        (folder / "broken.json").write_text("[]")
        with pytest.raises(ConfigError, match=word):
            load_compare_config(folder / name)


def test_matching_time_gives_steps_by_what_was_timed_once(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = comparing(match="time", variants=("pre_norm", "mhc"), run={"steps": 300})
    timed: list[str] = []

    def seconds(run: TrainConfig) -> float:
        timed.append(run.model.variant)
        return {"pre_norm": 0.1, "mhc": 0.3}[run.model.variant]

    monkeypatch.setattr("zoo.compare.matching.seconds_per_step", seconds)

    def steps() -> list[int]:
        board = Board(config)
        return [board.spec(cell, "final", {}, 0).config.steps for cell in board.cells]

    assert steps() == [300, 100]
    assert not config.workdir.exists()
    config.workdir.mkdir()
    assert steps() == [300, 100]
    timed.clear()
    assert steps() == [300, 100]
    assert timed == []
    (config.workdir / "timings.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"timings\.json"):
        steps()


def test_settings_survive_json(comparing: Comparing) -> None:
    from zoo.compare.config import Range

    config = comparing(space={"optim.lr": Range(1e-4, 1e-2), "model.dropout": (0.0, 0.1)})
    assert from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"variants": ()}, "variants is empty"),
        ({"variants": ("post_norm", "post_norm")}, "twice"),
        ({"variants": ("post_nrom",)}, "post_norm"),
        ({"depths": (0,)}, "depths"),
        ({"seeds": 0}, "seeds"),
        ({"metric": "los"}, "did you mean loss"),
        ({"select": "bleu"}, "gives no such figure"),
        ({"metric": "f1"}, "gives no such figure"),
        ({"test_path": "/nowhere"}, "/nowhere"),
        ({"test_path": "/a", "run": {"data.path": None}}, "test_path = '/a' needs data.path"),
        ({"run": {"data_seed": 3}}, "data_seed"),
        ({"run": {"data.path": "/nowhere"}}, "/nowhere"),
        ({"variants": ("post_norm",), "depths": (2,), "widths": (15,)}, "width 15"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_run(
    comparing: Comparing, values: dict[str, Any], word: str
) -> None:
    config = comparing(**values)
    with pytest.raises(ValueError, match=word):
        compare(config, say=quiet)
    assert not config.workdir.exists()


@pytest.mark.parametrize(
    ("task", "labels", "given"),
    [
        ("sequence_classification", ("no", "yes"), {"f1", "f1_macro", "accuracy", "matthews"}),
        ("sequence_classification", ("a", "b", "c"), {"f1_macro", "accuracy", "matthews"}),
        ("seq2seq", (), {"bleu", "chrf"}),
        ("language_model", (), set()),
    ],
)
def test_a_metric_is_one_that_the_task_gives_on_its_data(
    task: str, labels: tuple[str, ...], given: set[str]
) -> None:
    data: Any = SimpleNamespace(
        label="the text", bytes_per_token=lambda _: 1.0, spec=SimpleNamespace(labels=labels)
    )
    for name in ("bleu", "chrf", "accuracy", "f1", "f1_macro", "matthews"):
        accepted = contextlib.nullcontext()
        refused = pytest.raises(ConfigError, match=f"metric = '{name}': {task} gives no such")
        with accepted if name in given else refused:
            check_metric("metric", name, TASKS[task], data)
    check_metric("metric", "loss", TASKS[task], data)


def test_workers_are_refused_a_variant_that_they_do_not_know(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = dataclasses.replace(get_variant("pre_norm"), name="my_norm", aliases=())
    monkeypatch.setattr(registry, "_registered", {})
    registry.register_variant(own)
    check(comparing(variants=("my_norm",)))
    with pytest.raises(ConfigError, match="workers = 2: 'my_norm' is registered"):
        check(comparing(variants=("pre_norm", "my_norm"), workers=2))
    check(comparing(workers=2))


def test_a_dry_run_takes_as_long_with_more_workers_and_says_what_it_did(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.compare.dry_run.seconds_per_step", lambda _: 36.0)
    plans = [dry_run(comparing(workers=count)) for count in (1, 2)]
    assert plans[0].hours == plans[1].hours == pytest.approx(8 * 4 * 36 / 3600)
    assert str(plans[0]).splitlines()[-1] == "no run was made"


def test_shards_are_read_and_refused() -> None:
    assert parse_shard("2/4") == (2, 4)
    for text in ("0/4", "5/4", "1", "a/b", "1/2/3"):
        with pytest.raises(ConfigError, match="shard"):
            parse_shard(text)


@pytest.mark.live
def test_a_ledger_stands_for_the_runs_it_has(
    comparing: Comparing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "results" / "runs.jsonl"
    config = comparing(variants=("pre_norm",), ledger=str(ledger))
    first, _ = compare(config, say=quiet)
    assert len(ledger.read_text().splitlines()) == 4
    shutil.rmtree(config.workdir)
    monkeypatch.setattr("zoo.compare.work.train", None)
    monkeypatch.setattr("zoo.compare.dry_run.seconds_per_step", lambda _: 36.0)
    plan = dry_run(config)
    assert (plan.done, plan.hours) == ({"finished": 4}, 0.0)
    assert not config.workdir.exists()
    second, _ = compare(config, say=quiet)
    assert second.rows == first.rows
    assert len(ledger.read_text().splitlines()) == 4
    ledger.write_text(ledger.read_text() + "{\n")
    with pytest.raises(DataError, match="line 5"):
        compare(config, say=quiet)


def test_runs_made_again_come_out_equal(
    copied: tuple[CompareConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def final(specs: list[Spec], count: int) -> list[Spec]:
        return [spec for spec in specs if spec.row.phase == "final"][:count]

    monkeypatch.setattr("random.sample", final)
    config, folder = copied
    news: list[str] = []
    assert again(config, 1, news.append) == 0
    assert news[0].startswith("equal")
    (spec,) = final(Board(config).specs(), 1)
    scores = folder / "runs" / spec.row.run / SCORES
    _edit(scores, figures={**json.loads(scores.read_text())["figures"], "test_loss": 1.0})
    metrics = folder / "runs" / spec.row.run / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"loss": 9.0})
    metrics.write_text("\n".join(lines) + "\n")
    news.clear()
    assert again(config, 1, news.append) == 1
    assert news[0].startswith("differs")
    assert "test_loss: 1.0, now" in news[1]
    step = json.loads(lines[1])["step"]
    assert news[-1] == f"  loss: another from step {step} on"
    for count in (99, 0, -1):
        with pytest.raises(ConfigError, match=f"again = {count}"):
            again(config, count, quiet)


def test_runs_that_others_have_claimed_are_left_to_them(comparing: Comparing) -> None:
    from filelock import FileLock

    config = comparing(variants=("post_norm",), space={}, seeds=2)
    config.workdir.mkdir()
    board = Board(config)
    locks = config.workdir / "locks"
    locks.mkdir()
    taken, free = (spec.row.run for spec in board.specs())
    seen: list[str] = []
    with FileLock(locks / f"{taken}.lock"):

        def say(line: str) -> None:
            seen.append(line)
            raise InterruptedError  # it would wait for the other one now

        with pytest.raises(InterruptedError):
            InProcess()(board, say)
    assert len(seen) == 1
    assert free in seen[0]


def test_a_row_without_a_folder_is_missing(tmp_path: Path) -> None:
    row = Row("none", "final", "lm", "post_norm", 2, 16, {}, 0, 4)
    from zoo.tasks.base import Metric

    assert read_row(row, tmp_path, Metric("loss", True)).status == "missing"
