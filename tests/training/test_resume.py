"""A run that was interrupted ends as one that was not; anything else is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.training.conftest import TINY, write_text
from zoo.checkpoints import Checkpoints
from zoo.errors import CheckpointError, ConfigError, ZooError
from zoo.training.config import TrainConfig
from zoo.training.dry_run import dry_run
from zoo.training.loop import train
from zoo.training.resume import starting_point
from zoo.training.setup import prepare
from zoo.training.trackers import read_metrics

Configure = Callable[..., TrainConfig]
ROOT = Path(__file__).resolve().parents[2]


def arrays(config: TrainConfig, step: int | None = None) -> Any:
    """Everything in a checkpoint, the newest by default, as host arrays."""
    with Checkpoints(Path(config.workdir) / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.latest() if step is None else step
        assert step is not None
        assert checkpoints.verify(step) == []
        return jax.device_get(checkpoints.restore(step, prepare(config).template))


def assert_identical(ours: Any, theirs: Any) -> None:
    def same(path: Any, a: np.ndarray, b: np.ndarray) -> None:
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(same, ours, theirs)


def losses(config: TrainConfig) -> list[tuple[Any, ...]]:
    """What a run logged, without its timings."""
    rows = read_metrics(Path(config.workdir) / "metrics.jsonl")
    names = ("step", "loss", "grad_norm", "learning_rate", "tokens", "eval_loss")
    return [tuple(row.get(name) for name in names) for row in rows]


def snapshot(workdir: str | Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its time of change and content."""
    files = sorted(path for path in Path(workdir).rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def life(config: TrainConfig, notes: Path, *, when: str) -> tuple[int, list[str]]:
    """(exit code, batches) of one process of a run."""
    settings = _dotted(dataclasses.asdict(config))
    script = str(ROOT / "tests" / "training" / "killed_run.py")
    notes.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, script, json.dumps(settings), str(notes), when],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, notes.read_text().split()


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= _dotted(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def newest(config: TrainConfig) -> int:
    folder = Path(config.workdir) / "checkpoints"
    if not folder.is_dir():
        return 0
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.latest() or 0


@pytest.mark.live
@pytest.mark.parametrize(
    "noise",
    [
        pytest.param({}, id="plain", marks=pytest.mark.slow),
        pytest.param({"model.dropout": 0.1, "model.stochastic_depth": 0.2}, id="dropout"),
    ],
)
def test_run_killed_five_times_ends_bit_identical(
    configure: Configure, tmp_path: Path, noise: dict[str, Any]
) -> None:
    settings = noise | {"checkpoint.every": 2, "data.prefetch": 2, "optim.ema": 0.9}
    whole = configure(settings, steps=48, workdir=str(tmp_path / "whole"))
    broken = configure(settings, steps=48, workdir=str(tmp_path / "broken"))
    code, expected = life(whole, tmp_path / "notes", when="never")
    assert code == 0
    assert len(expected) == 48

    draw = random.Random(0)
    moments = [f"{draw.randint(1, 7)}:{draw.uniform(0.0, 0.05):.4f}" for _ in range(3)]
    moments[1:1] = [f"{draw.randint(1, 4)}:save", f"{draw.randint(1, 4)}:save"]
    left_behind = 0
    for moment in moments:
        start = newest(broken)
        code, batches = life(broken, tmp_path / "notes", when=moment)
        assert code == -signal.SIGKILL, "the run was over before it was killed"
        assert batches == expected[start : start + len(batches)]
        left_behind += (Path(broken.workdir) / "checkpoints" / ".unfinished").exists()
    assert left_behind >= 2, "no kill fell into a save"

    start = newest(broken)
    code, batches = life(broken, tmp_path / "notes", when="never")
    assert code == 0
    assert batches == expected[start:]
    assert_identical(arrays(broken), arrays(whole))
    assert losses(broken) == losses(whole)
    assert len(losses(broken)) == 48


@pytest.fixture(scope="module")
def original(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a finished run of 12 steps, with checkpoints 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("original") / "run"
    train(_on(text, folder))
    return folder


def _on(text: Path, folder: Path, **values: Any) -> TrainConfig:
    from tests.training.conftest import with_values

    places = {
        "workdir": str(folder),
        "data.path": str(text),
        "data.cache_dir": str(text.parent / "cache"),
    }
    config: TrainConfig = with_values(TrainConfig(), TINY | places | values)
    return config


@pytest.fixture
def finished(original: Path, configure: Configure) -> TrainConfig:
    """The config of a finished run in a workdir of its own."""
    config = configure()
    shutil.copytree(original, config.workdir)
    return config


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model.variant": "post_norm"}, ["variant", "deep_norm", "post_norm"]),
        ({"model.num_layers": 3}, ["layers", "2", "3"]),
        ({"model.d_model": 32}, ["model.d_model", "16", "32"]),
        ({"model.dropout": 0.1}, ["model.dropout", "0.0", "0.1"]),
        ({"optim.lr": 2e-3}, ["optim.lr", "0.001", "0.002"]),
        ({"optim.name": "lion"}, ["optim.name", "adamw", "lion"]),
        ({"seed": 1}, ["seed", "0", "1"]),
        ({"data_seed": 1}, ["data_seed", "0", "1"]),
        ({"data.batch_size": 8}, ["data.batch_size", "4", "8"]),
        ({"steps": 8}, ["steps", "12", "8"]),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else None,
)
def test_other_settings_are_refused_and_nothing_is_written(
    finished: TrainConfig, configure: Configure, changed: dict[str, Any], named: list[str]
) -> None:
    before = snapshot(finished.workdir)
    with pytest.raises(ZooError) as refused:
        train(configure(changed))
    message = str(refused.value)
    assert all(word in message for word in named), message
    assert len(message) < 300, message
    assert snapshot(finished.workdir) == before


def test_twelve_layers_are_refused_under_sixteen(configure: Configure) -> None:
    train(configure({"model.num_layers": 12, "steps": 2}))
    with pytest.raises(ZooError, match=r"model.num_layers = 12\D+16") as refused:
        train(configure({"model.num_layers": 16, "steps": 2}))
    assert len(str(refused.value)) < 300


def test_changed_text_is_refused(finished: TrainConfig, configure: Configure, text: Path) -> None:
    kept = text.read_bytes()
    before = snapshot(finished.workdir)
    try:
        write_text(text, seed=5)
        with pytest.raises(ConfigError, match="other text"):
            train(configure())
    finally:
        text.write_bytes(kept)
    assert snapshot(finished.workdir) == before


def test_longer_run_is_refused_where_its_schedule_would_change(configure: Configure) -> None:
    train(configure({"optim.schedule": "cosine"}, steps=4))
    with pytest.raises(ConfigError, match=r"steps = 4.*8"):
        train(configure({"optim.schedule": "cosine"}, steps=8))


@pytest.mark.live
@pytest.mark.parametrize("warmup", [2, None])
def test_longer_run_goes_on_as_if_it_had_been_asked_for_at_once(
    configure: Configure, tmp_path: Path, warmup: int | None
) -> None:
    """With an open warm-up too, which follows the length of the run: it stays as it began."""
    train(configure({"optim.warmup": warmup}, steps=8))
    more = configure({"optim.warmup": warmup, "checkpoint.keep": 1}, steps=16, log_every=2)
    assert train(more)["status"] == "finished"
    whole = configure({"optim.warmup": 2}, steps=16, workdir=str(tmp_path / "whole"))
    train(whole)
    assert_identical(arrays(configure({"optim.warmup": 2}, steps=16)), arrays(whole))
    # And the same command once more, as after an interruption.
    assert train(more)["status"] == "finished"
    assert dry_run(more).settings["optim.warmup"][0] == 2


def test_how_a_run_reports_and_where_it_runs_may_change(
    finished: TrainConfig, configure: Configure, tmp_path: Path
) -> None:
    changes = {
        "checkpoint.every": 3,
        "checkpoint.asynchronous": False,
        "data.prefetch": 3,
        "data.validation_half": "second",
    }
    config = configure(changes, steps=16, log_every=4, eval_every=8, parallel="pmap")
    assert train(config)["status"] == "finished"
    whole = configure(steps=16, workdir=str(tmp_path / "whole"))
    train(whole)
    assert [row[0] for row in losses(config)] == [*range(1, 13), 16]
    np.testing.assert_allclose(losses(config)[-1][1], losses(whole)[-1][1], rtol=1e-4)


def test_finished_run_says_so_and_keeps_its_checkpoints(
    finished: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, logged = Path(finished.workdir) / "checkpoints", losses(finished)
    before = snapshot(folder)
    summary = train(finished)
    assert summary["status"] == "finished"
    assert summary["steps"] == 12
    assert snapshot(folder) == before
    assert losses(finished) == logged
    said = "".join(capsys.readouterr())
    assert "has finished its 12 steps" in said
    assert "resuming" not in said


@pytest.mark.parametrize("damage", ["truncated", "flipped", "half"])
def test_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
    finished: TrainConfig,
    original: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    newest_folder = Path(finished.workdir) / "checkpoints" / "12"
    largest = max(newest_folder.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    if damage == "truncated":
        largest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    else:
        (newest_folder / "checksums.json").unlink()
    assert train(finished)["status"] == "finished"
    said = capsys.readouterr().out
    assert f"{newest_folder} is damaged" in said
    assert "step 8" in said
    assert_identical(arrays(finished), arrays(_at(finished, original)))
    assert losses(finished) == losses(_at(finished, original))


def _at(config: TrainConfig, folder: Path) -> TrainConfig:
    return dataclasses.replace(config, workdir=str(folder))


def test_workdir_without_a_sound_checkpoint_is_refused(finished: TrainConfig) -> None:
    for path in (Path(finished.workdir) / "checkpoints").glob("*/checksums.json"):
        path.unlink()
    logged = losses(finished)
    # A second time too, when all that is damaged has been set aside.
    for _ in range(2):
        with pytest.raises(CheckpointError, match="is sound"):
            train(finished)
    assert losses(finished) == logged


def test_run_killed_before_its_first_checkpoint_starts_over(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure(steps=6)
    train(config)
    shutil.rmtree(Path(config.workdir) / "checkpoints")
    with pytest.raises(ConfigError, match=r"optim.lr = 0.001.*0.5"):
        train(configure({"optim.lr": 0.5}, steps=6))
    before = losses(config)
    train(config)
    assert losses(config) == before


def test_other_run_starts_from_the_weights(
    finished: TrainConfig, configure: Configure, tmp_path: Path
) -> None:
    def first_state(source: str, **values: Any) -> Any:
        config = configure(values, init_from=source, workdir=str(tmp_path / "other"))
        run = prepare(config)
        step, state, _ = starting_point(run, Path(config.workdir))
        assert step == int(state["step"]) == 0
        return jax.device_get(state)

    newest_state, fourth = arrays(finished), arrays(finished, step=4)
    state = first_state(finished.workdir, **{"optim.lr": 0.5, "seed": 3, "optim.ema": 0.9})
    assert_identical(state["params"], newest_state["params"])
    assert_identical(state["ema"], newest_state["params"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state["opt_state"]))
    assert_identical(first_state(f"{finished.workdir}@4")["params"], fourth["params"])
    assert not (tmp_path / "other").exists()


def test_weights_in_a_folder_with_an_at_sign_are_found(
    finished: TrainConfig, configure: Configure, tmp_path: Path
) -> None:
    odd = tmp_path / "me@home"
    shutil.copytree(finished.workdir, odd)
    for source, step in ((str(odd), 12), (f"{odd}@4", 4)):
        config = configure(init_from=source, workdir=str(tmp_path / "other"))
        _, state, _ = starting_point(prepare(config), Path(config.workdir))
        assert_identical(jax.device_get(state["params"]), arrays(finished, step=step)["params"])


@pytest.mark.parametrize(
    ("source", "changed", "named"),
    [
        ("{run}", {"model.variant": "pre_norm"}, ["variant", "deep_norm", "pre_norm"]),
        ("{run}", {"model.num_layers": 3}, ["layers", "2", "3"]),
        ("{run}", {"model.d_ff": 32}, ["d_ff", "64", "32"]),
        ("{run}", {"model.num_heads": 8}, ["num_heads", "2", "8"]),
        ("{run}", {"model.activation": "relu"}, ["activation", "gelu", "relu"]),
        ("{run}@5", {}, ["step 5", "4, 8 or 12"]),
        ("{run}@best", {}, ["@", "best"]),
        ("{run}/nowhere", {}, ["nowhere", "no such folder"]),
    ],
    ids=["variant", "layers", "d_ff", "heads", "activation", "step", "best", "folder"],
)
def test_weights_of_another_model_are_refused_before_anything_is_written(
    finished: TrainConfig,
    configure: Configure,
    tmp_path: Path,
    source: str,
    changed: dict[str, Any],
    named: list[str],
) -> None:
    other = tmp_path / "other"
    with pytest.raises(ZooError) as refused:
        train(configure(changed, init_from=source.format(run=finished.workdir), workdir=str(other)))
    message = str(refused.value)
    assert all(word in message for word in named), message
    assert len(message) < 400, message
    assert not other.exists()
