"""Every way a run can end: finished, preempted, diverged, failed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import zoo
from tests.training.test_resume import ROOT, arrays, assert_identical, losses, newest, snapshot
from zoo.checkpoints import Checkpoints
from zoo.errors import CheckpointError, ConfigError
from zoo.layers import weight
from zoo.training import loop
from zoo.training.config import TrainConfig
from zoo.training.evaluate import evaluate, held_out
from zoo.training.loop import EXIT_CODES, train
from zoo.training.setup import Run, prepare
from zoo.training.step import make_evaluator
from zoo.training.summary import read_summary
from zoo.training.trackers import read_metrics

Configure = Callable[..., TrainConfig]


def at_batch(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Call `act` when batch `number` (from 1) is fetched."""
    own, seen = Run.batch, []

    def batch(run: Run, rows: dict[str, np.ndarray]) -> Any:
        seen.append(1)
        if len(seen) == number:
            act()
        return own(run, rows)

    monkeypatch.setattr(Run, "batch", batch)


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_run_leaves_what_it_promises(configure: Configure) -> None:
    config = configure(sample_tokens=8, tensorboard=True)
    summary = train(config)
    workdir = Path(config.workdir)
    assert summary == read_summary(workdir)
    assert summary["status"] == "finished"
    assert summary["steps"] == 12
    assert summary["tokens"] == 12 * 4 * 32
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["step"] for row in rows if "eval_bits_per_byte" in row] == [6, 12]
    assert rows[-1]["loss"] < rows[0]["loss"]
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["config"]["model"]["vocab_size"] == 256
    assert saved["environment"]
    assert (workdir / "loss.png").stat().st_size > 1000
    assert (workdir / "sample.txt").read_text(encoding="utf-8").startswith("def ")
    assert list((workdir / "tensorboard").glob("events*"))
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [4, 8, 12]


def test_logged_loss_is_that_of_its_step_whatever_the_cadence(
    configure: Configure, tmp_path: Path
) -> None:
    each, some = configure(), configure(log_every=5, workdir=str(tmp_path / "some"))
    train(each)
    train(some)
    by_step = {row[0]: row for row in losses(each)}
    assert [row[0] for row in losses(some)] == [1, 5, 6, 10, 12]
    assert all(row == by_step[row[0]] for row in losses(some))


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_at_that_step_and_the_same_command_goes_on(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    config = configure()
    at_batch(monkeypatch, 6, send(number))
    before = signal.getsignal(number)
    summary = train(config)
    assert summary["status"] == "preempted"
    assert EXIT_CODES[summary["status"]] == 75
    assert summary["steps"] == newest(config) == 6
    assert read_summary(config.workdir)["status"] == "preempted"
    assert signal.getsignal(number) is before
    monkeypatch.undo()

    assert train(config)["status"] == "finished"
    whole = configure(workdir=str(tmp_path / "whole"))
    train(whole)
    assert_identical(arrays(config), arrays(whole))
    assert losses(config) == losses(whole)


def test_an_interrupt_that_python_drops_still_ends_a_run_that_has_not_begun(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it comes while garbage is collected: the exception is printed and gone."""

    def drop(config: TrainConfig) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return prepare(config)

    config = configure()
    monkeypatch.setattr("zoo.training.loop.prepare", drop)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(config)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not Path(config.workdir).exists()


def test_signal_during_an_evaluation_is_not_answered_before_a_save(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure({"checkpoint.every": 100})
    own = evaluate

    def interrupted(*args: Any, **named: Any) -> Any:
        send(signal.SIGTERM)()
        return own(*args, **named)

    monkeypatch.setattr(loop, "evaluate", interrupted)
    summary = train(config)
    assert summary["status"] == "preempted"
    assert summary["steps"] == newest(config) > 0


def test_signal_in_the_last_step_ends_a_finished_run(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(steps=4)
    at_batch(monkeypatch, 4, send(signal.SIGTERM))
    assert train(config)["status"] == "finished"
    assert newest(config) == 4


def command_line(config: TrainConfig) -> list[str]:
    words = f"""--workdir {config.workdir} --data.path {config.data.path} --log-every 1
        --data.cache-dir {config.data.cache_dir} --data.length 32 --data.batch-size 4
        --model.variant deep_norm --model.d-model 16 --model.num-layers 2 --model.num-heads 2
        --model.max-length 32 --optim.schedule constant --optim.lr 0.001 --optim.warmup 2"""
    return [sys.executable, str(ROOT / "train.py"), *words.split()]


@pytest.mark.live
def test_command_exits_with_75_on_a_signal(configure: Configure) -> None:
    config = configure()
    process = subprocess.Popen(
        [*command_line(config), "--steps", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = Path(config.workdir) / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert "SIGTERM" in said
    assert "Traceback" not in said
    summary = read_summary(config.workdir)
    assert summary["status"] == "preempted"
    assert summary["steps"] == newest(config) == read_metrics(metrics)[-1]["step"]


def poison(layer: int, role: str, *, from_step: int) -> Callable[[Any], Any]:
    """A compiled step before which, at one step, a weight becomes NaN in one layer."""

    def wrap(run: Run) -> Any:
        _, weights = weight.split(run.model)

        def step(state: Any, batch: Any, inputs: Any) -> Any:
            if int(state["step"]) == from_step:
                state = state | {
                    "params": weight.map_weights(
                        lambda own, value: (
                            value.at[layer].set(np.nan) if own.role == role else value
                        ),
                        weights,
                        state["params"],
                    )
                }
            return run.step(state, batch, inputs)

        return step

    return wrap


def test_run_that_stops_being_finite_names_step_and_layer_and_keeps_the_checkpoint(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure({"model.num_layers": 3}, log_every=4)

    def broken(config: TrainConfig) -> Run:
        run = prepare(config)
        return dataclasses.replace(run, step=poison(1, "w1", from_step=5)(run))

    monkeypatch.setattr(loop, "prepare", broken)
    summary = train(config)
    assert summary["status"] == "diverged"
    assert EXIT_CODES[summary["status"]] == 3
    assert "step 6 is not finite, first in layer 1, mlp" in summary["note"]
    assert "checkpoint 4 is in place" in summary["note"]
    assert summary["note"] in capsys.readouterr().err
    assert read_summary(config.workdir)["status"] == "diverged"
    monkeypatch.undo()
    assert newest(config) == 4
    sound = arrays(config)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sound))
    # The cause is gone, and the same command goes on from the last good step.
    assert train(config)["status"] == "finished"


def test_rate_that_is_far_too_large_diverges(configure: Configure) -> None:
    config = configure({"optim.lr": 1e30, "optim.warmup": 0, "optim.clip_norm": 0.0})
    summary = train(config)
    assert summary["status"] == "diverged"
    assert "is not finite" in summary["note"]
    for step in Path(config.workdir).glob("checkpoints/*"):
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(arrays(config, int(step.name))))


def test_average_is_what_is_evaluated_and_loaded(configure: Configure) -> None:
    config = configure({"optim.ema": 0.9})
    summary, run, state = train(config), prepare(config), arrays(config)
    evaluator = make_evaluator(run.model, run.task)
    figures = {}
    for part in ("ema", "params"):
        batches = held_out(run.data, run.task, config.eval_batches)
        figures[part], _ = evaluate(
            evaluator, state[part], batches, run.task, 1.0, step=state["step"]
        )
    assert summary["eval_loss"] == figures["ema"]["eval_loss"] != figures["params"]["eval_loss"]
    assert_identical(weight.split(zoo.load_pretrained(config.workdir))[0], state["ema"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _mount(*args: str) -> None:
    try:
        done = subprocess.run(["mount", *args], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"mount cannot be run: {error}")
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


@pytest.mark.live
@pytest.mark.parametrize("asynchronous", ["checkpoint.asynchronous", "checkpoint.no-asynchronous"])
def test_full_disk_fails_with_one_message_and_keeps_the_last_good_checkpoint(
    configure: Configure, small_disk: Path, asynchronous: str
) -> None:
    config = configure(workdir=str(small_disk / "run"), steps=300, tensorboard=True)
    command = [
        *command_line(config),
        *("--steps", "300", "--checkpoint.every", "2", "--checkpoint.keep", "300"),
        f"--{asynchronous}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == EXIT_CODES["failed"] == 1, done.stderr
    assert done.stderr.count("No space left on device") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert read_summary(config.workdir)["status"] == "failed"
    last = newest(config)
    assert last > 0
    assert f"the checkpoint of step {last} is still there" in done.stderr
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays(config)))


@pytest.fixture
def read_only(configure: Configure) -> Iterator[TrainConfig]:
    """A finished run whose workdir has become read-only."""
    config = configure(steps=4)
    train(config)
    _mount("--bind", config.workdir, config.workdir)
    try:
        _mount("-o", "remount,ro,bind", config.workdir)
        yield config
    finally:
        subprocess.run(["umount", config.workdir], check=True)


def test_read_only_workdir_is_refused_at_once_and_can_be_read(
    read_only: TrainConfig, configure: Configure
) -> None:
    before = snapshot(read_only.workdir)
    with pytest.raises((CheckpointError, ConfigError), match=r"cannot be written|cannot write"):
        train(configure(steps=8))
    assert snapshot(read_only.workdir) == before
    assert zoo.load_pretrained(read_only.workdir).config.d_model == 16


def test_new_workdir_below_a_read_only_folder_is_refused(
    read_only: TrainConfig, configure: Configure
) -> None:
    with pytest.raises(ConfigError, match=r"workdir = .*below.*Read-only"):
        train(configure(workdir=f"{read_only.workdir}/below"))


# Every eighth: the matrix trains all of them on random tokens, and make test-all the rest.
@pytest.mark.live
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=[] if index % 8 == 0 else [pytest.mark.slow])
        for index, name in enumerate(zoo.list_variants())
    ],
)
def test_every_variant_trains_at_twelve_layers_on_the_default_text(
    configure: Configure, variant: str
) -> None:
    config = configure(
        {
            "model.variant": variant,
            "model.num_layers": 12,
            "model.d_model": 32,
            "data.path": None,
            "data.cache_dir": None,
            "optim.lr": 3e-3,
        },
        steps=16,
        eval_every=16,
    )
    assert train(config)["status"] == "finished"
    first, *_, last = [row[1] for row in losses(config)]
    assert last < first - 0.3, (first, last)
