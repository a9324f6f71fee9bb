"""What a checkpoint promises when something goes wrong: named, refused, the one before it used."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.checkpoints import Checkpoints
from zoo.checkpoints.store import UNFINISHED
from zoo.errors import CheckpointError

ROOT = Path(__file__).parents[2]
STRUCT = {"a": jax.ShapeDtypeStruct((100,), jnp.float32), "b": jax.ShapeDtypeStruct((), jnp.int32)}


def tree_of(step):
    return {"a": jnp.arange(100, dtype=jnp.float32) * step, "b": jnp.int32(step)}


def assert_is(checkpoints, step):
    found = checkpoints.restore(step, STRUCT)
    np.testing.assert_array_equal(found["a"], np.arange(100, dtype=np.float32) * step)
    assert int(found["b"]) == step
    assert checkpoints.read_meta(step)["position"] == 10 * step


def save(folder, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree_of(step), {"position": 10 * step})


def files_of(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_a_flipped_bit_in_any_file_is_named(tmp_path):
    save(tmp_path, 1, 2)
    checkpoints = Checkpoints(tmp_path, read_only=True)
    files = files_of(tmp_path / "2")
    assert len(files) >= 8
    rng = np.random.default_rng(0)
    for path in files:
        sound = path.read_bytes()
        spoiled = bytearray(sound)
        spoiled[rng.integers(len(spoiled))] ^= 1 << rng.integers(8)
        path.write_bytes(spoiled)
        reports = []
        fresh = Checkpoints(tmp_path, read_only=True)
        assert fresh.newest_sound(reports.append) == 1, path
        assert len(reports) == 1
        if path.name != "checksums.json":
            assert str(path.relative_to(tmp_path)) in reports[0]
            assert "checksum differs" in reports[0]
        with pytest.raises(CheckpointError, match="damaged"):
            fresh.restore(2, STRUCT)
        path.write_bytes(sound)
    assert checkpoints.newest_sound(pytest.fail) == 2


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_a_truncated_or_missing_file_is_named(tmp_path, left):
    save(tmp_path, 1, 2)
    for path in files_of(tmp_path / "2"):
        sound = path.read_bytes()
        path.write_bytes(sound[: int(left * len(sound))])
        checkpoints = Checkpoints(tmp_path, read_only=True)
        relative = str(path.relative_to(tmp_path))
        if path.name != "checksums.json":
            (problem,) = checkpoints.verify(2)
            assert problem.startswith(f"{relative}: truncated")
            assert f"instead of {len(sound)}" in problem
        path.unlink()
        (problem,) = checkpoints.verify(2)
        assert problem.startswith(f"{relative}: missing")
        path.write_bytes(sound)
    assert checkpoints.verify(2) == []


def test_a_damaged_step_is_set_aside_and_training_goes_on_from_the_one_before(tmp_path):
    save(tmp_path, 1, 2, 3)
    for step in (2, 3):
        file = max(files_of(tmp_path / str(step)), key=lambda path: path.stat().st_size)
        file.write_bytes(file.read_bytes()[:-1])
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        reports = []
        assert checkpoints.newest_sound(reports.append) == 1
        assert [f"/{step} is damaged" in line for step, line in zip((3, 2), reports, strict=True)]
        assert_is(checkpoints, 1)
        assert checkpoints.steps() == [1]
        for step in (2, 3):
            checkpoints.save(step, tree_of(step), {"position": 10 * step}, wait=True)
            assert_is(checkpoints, step)
        assert checkpoints.steps() == [2, 3]
    assert (tmp_path / "3.damaged").is_dir()


def test_without_a_sound_step_there_is_none(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "1" / "checksums.json").unlink()
    reports = []
    assert Checkpoints(tmp_path).newest_sound(reports.append) is None
    assert "checksums.json: missing" in reports[0]


def test_a_step_copied_under_another_number_is_not_believed(tmp_path):
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert "written for step 1, not 2" in checkpoints.verify(2)[0]


def test_litter_of_a_killed_save_is_ignored_and_removed(tmp_path):
    save(tmp_path, 1)
    for name in (".unfinished/2", ".unfinished/3.orbax-checkpoint-tmp", "4.orbax-checkpoint-tmp-9"):
        (tmp_path / name / "state").mkdir(parents=True)
        (tmp_path / name / "state" / "half").write_bytes(b"x")
    assert Checkpoints(tmp_path, read_only=True).steps() == [1]
    assert (tmp_path / ".unfinished").is_dir()  # a reader touches nothing
    checkpoints = Checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert checkpoints.newest_sound(pytest.fail) == 1


SAVE_FOREVER = """
import sys, itertools, jax.numpy as jnp
from zoo.checkpoints import Checkpoints
from zoo.checkpoints.store import UNFINISHED
folder, first = sys.argv[1], int(sys.argv[2])
checkpoints = Checkpoints(folder, keep=2)
for step in itertools.count(first):
    tree = {"a": jnp.arange(100, dtype=jnp.float32) * step, "b": jnp.int32(step)}
    checkpoints.save(step, tree, {"position": 10 * step}, metric=1 / (1 + step % 7))
    print(step, flush=True)
"""


@pytest.mark.live
def test_after_kill_9_at_any_moment_the_newest_step_is_sound(tmp_path):
    rng = np.random.default_rng(0)
    newest = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(tmp_path), str(newest + 1)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        assert process.stdout is not None
        for _ in range(rng.integers(2, 8)):
            printed = int(process.stdout.readline())
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        checkpoints = Checkpoints(tmp_path, keep=2)
        # A save returns once the one before it is complete, so at most that one is lost.
        found = checkpoints.newest_sound(pytest.fail)
        assert found is not None
        assert found >= printed - 1
        for step in checkpoints.steps():
            assert checkpoints.verify(step) == []
            assert_is(checkpoints, step)
        newest = found


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB; returns its folder and a function that makes it read-only or not."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*arguments):
        try:
            done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("no mount command here")
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")

    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    try:
        yield folder, lambda mode: mount("-o", f"remount,{mode}", str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_is_said_once_and_the_last_step_stays(small_disk, capfd, asynchronous):
    folder, _ = small_disk
    # Random bits, since zeros would be compressed away.
    large = np.random.default_rng(0).integers(0, 2**31, size=500_000).astype(np.int32)
    with Checkpoints(folder, keep=1, asynchronous=asynchronous) as checkpoints:
        checkpoints.save(1, tree_of(1), {"position": 10})
        checkpoints.wait()
        with pytest.raises(CheckpointError) as refused:  # noqa: PT012
            checkpoints.save(2, {"large": large}, {})
            checkpoints.save(3, tree_of(3), {"position": 30})  # the failure surfaces here at last
        expected = (
            f"cannot write checkpoint to {folder}/2: No space left on device; "
            "the checkpoint of step 1 is still there"
        )
        assert str(refused.value) == expected
        assert checkpoints.newest_sound(pytest.fail) == 1
        assert_is(checkpoints, 1)
        assert [path.name for path in folder.iterdir()] == ["1"]  # the space is given back
        checkpoints.save(4, tree_of(4), {"position": 40})
        checkpoints.wait()
        assert checkpoints.steps() == [4]
        assert_is(checkpoints, 4)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("free_pages", [0, 4, 33, 60, 80])
def test_a_disk_that_fills_up_at_any_file_is_said(small_disk, capfd, free_pages):
    folder, _ = small_disk
    large = np.random.default_rng(0).integers(0, 2**31, size=100_000).astype(np.int32)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, tree_of(1), {"position": 10}, wait=True)
        disk = os.statvfs(folder)
        (folder / "filler").write_bytes(b"x" * disk.f_bsize * (disk.f_bavail - free_pages))
        with pytest.raises(CheckpointError, match="/2: No space left on device"):
            checkpoints.save(2, {"large": large}, {}, wait=True)
        assert checkpoints.newest_sound(pytest.fail) == 1
        (folder / "filler").unlink()
        checkpoints.save(2, tree_of(2), {"position": 20}, wait=True)
        assert_is(checkpoints, 2)
    gc.collect()  # asyncio speaks when a failed task is collected
    assert capfd.readouterr().err == ""
    assert not [thread for thread in threading.enumerate() if "checkpoint" in thread.name]


def test_failures_left_in_futures_are_passed_over_and_others_are_not(tmp_path, caplog):
    save(tmp_path, 1)  # Orbax is imported, and its logs are filtered
    loop = asyncio.new_event_loop()
    theirs = (
        f'RESOURCE_EXHAUSTED: Error writing "w/0.0" at local file "{tmp_path}/{UNFINISHED}/2/d"'
    )
    for words in (theirs, "somebody else's"):
        loop.create_future().set_exception(ValueError(words))
    loop.close()
    gc.collect()
    assert [str(record.exc_info[1]) for record in caplog.records] == ["somebody else's"]


def test_a_failed_last_save_is_said_at_close(small_disk):
    folder, _ = small_disk
    large = np.random.default_rng(0).integers(0, 2**31, size=500_000).astype(np.int32)
    checkpoints = Checkpoints(folder)
    checkpoints.save(2, {"large": large}, {})
    with pytest.raises(CheckpointError, match="No space left on device"):
        checkpoints.close()
    checkpoints.close()


def test_a_read_only_mount_is_said_and_can_be_read(small_disk, capfd):
    folder, remount = small_disk
    save(folder / "run", 1)
    with Checkpoints(folder / "run") as checkpoints:
        remount("ro")
        with pytest.raises(CheckpointError, match=r"cannot write .*/run/2: Read-only file system"):
            checkpoints.save(2, tree_of(2), {"position": 20}, wait=True)
        assert checkpoints.newest_sound(pytest.fail) == 1
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint to .*/run: "):
        Checkpoints(folder / "run")
    with pytest.raises(CheckpointError, match=r"cannot write .*/new: Read-only file system"):
        Checkpoints(folder / "new")
    with Checkpoints(folder / "run", read_only=True) as checkpoints:
        assert checkpoints.newest_sound(pytest.fail) == 1
        assert_is(checkpoints, 1)
    assert capfd.readouterr().err == ""


def test_a_mount_that_turns_read_only_during_the_run_is_said(small_disk):
    folder, remount = small_disk
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, tree_of(step), {"position": 10 * step}, wait=True)
        remount("ro")
        with pytest.raises(CheckpointError, match="Read-only file system"):
            checkpoints.save(3, tree_of(3), {"position": 30}, wait=True)
        assert checkpoints.newest_sound(pytest.fail) == 2
        remount("rw")
        checkpoints.save(4, tree_of(4), {"position": 40}, wait=True)
        assert checkpoints.steps() == [1, 2, 4]


def test_a_file_in_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint to .*/file: "):
        Checkpoints(tmp_path / "file")
