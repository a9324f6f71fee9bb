"""Figures survive kills, resumes and numbers that JSON does not know."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.files import replacing
from zoo.training.trackers import JsonlTracker, TensorBoardTracker, Trackers, cut_back, read_metrics


def write_steps(path: Path, steps: range) -> None:
    tracker = JsonlTracker(path)
    for step in steps:
        tracker.log(step, {"loss": 5.0 - step / 10})
    tracker.close()


def test_one_json_object_a_logged_step(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log(10, {"loss": 2.5, "tokens": 4096})
    tracker.log(20, {"loss": 2.25, "eval_loss": 2.0, "eval_bits_per_byte": 2.885})
    tracker.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 10, "loss": 2.5, "tokens": 4096},
        {"step": 20, "loss": 2.25, "eval_loss": 2.0, "eval_bits_per_byte": 2.885},
    ]


def test_array_scalars_are_written_as_exact_numbers(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "m.jsonl")
    tracker.log(np.int64(3), {"loss": np.float32(0.1), "tokens": np.int32(7)})  # type: ignore[arg-type,dict-item]
    tracker.close()
    [row] = read_metrics(tmp_path / "m.jsonl")
    assert row == {"step": 3, "loss": float(np.float32(0.1)), "tokens": 7}


def test_non_finite_values_are_valid_json_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    tracker = JsonlTracker(path)
    tracker.log(1, {"loss": math.nan, "grad_norm": math.inf, "low": -math.inf})
    tracker.close()

    def refuse(literal: str) -> float:
        raise AssertionError(f"{literal} is not JSON")

    raw = json.loads(path.read_text(), parse_constant=refuse)
    assert raw == {"step": 1, "loss": "NaN", "grad_norm": "Infinity", "low": "-Infinity"}
    [row] = read_metrics(path)
    assert math.isnan(row["loss"])
    assert (row["grad_norm"], row["low"]) == (math.inf, -math.inf)


def test_a_killed_process_leaves_every_line_it_logged(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    script = (
        "import os, signal, sys; from zoo.training.trackers import JsonlTracker\n"
        "t = JsonlTracker(sys.argv[1])\n"
        "for step in range(1, 6): t.log(step, {'loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4, 5]


def test_cut_back_keeps_lines_up_to_the_checkpoint_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_steps(path, range(1, 11))
    before = path.read_bytes().splitlines(keepends=True)
    cut_back(path, 7)
    assert path.read_bytes() == b"".join(before[:7])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("torn_at", [1, 5, 12, -2])
def test_a_torn_last_line_is_left_out_and_cut_away(tmp_path: Path, torn_at: int) -> None:
    path = tmp_path / "m.jsonl"
    write_steps(path, range(1, 4))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 4, "loss": 4.6}\n'[:torn_at])
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    cut_back(path, 3)
    assert path.read_bytes() == whole


def test_appending_after_a_torn_line_does_not_join_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_steps(path, range(1, 3))
    path.write_bytes(path.read_bytes() + b'{"step": 3, "lo')
    write_steps(path, range(3, 5))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_last_line_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 2.0}')
    write_steps(path, range(2, 3))
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_cut_back_to_before_the_start_empties_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_steps(path, range(0, 3))
    cut_back(path, -1)
    assert read_metrics(path) == []


def test_cut_back_without_a_file_does_nothing(tmp_path: Path) -> None:
    cut_back(tmp_path / "m.jsonl", 5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", [b"junk", b'{"loss": 1.0}', b"[1]", b'{"step": "2"}', b"\xff\x00"])
def test_a_damaged_line_inside_is_named_with_file_and_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    for read in (read_metrics, lambda path: cut_back(path, 3), JsonlTracker):
        if read is JsonlTracker:  # opening repairs a torn tail only; make it look at the file
            path.write_bytes(path.read_bytes() + b'{"st')
        with pytest.raises(DataError, match=r"m\.jsonl, line 2"):
            read(path)


def test_missing_metrics_are_a_data_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        read_metrics(tmp_path / "nowhere.jsonl")


def test_a_failed_replacement_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


class Recorder:
    def __init__(self, *, fails: bool = False) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.closed = False
        self.fails = fails

    def log(self, step: int, figures: dict[str, float]) -> None:
        self.logged.append((step, dict(figures)))

    def close(self) -> None:
        self.closed = True
        if self.fails:
            raise OSError("disk full")


def test_trackers_pass_every_figure_to_each_tracker() -> None:
    first, second = Recorder(), Recorder()
    with Trackers(first, second) as trackers:  # type: ignore[arg-type]
        trackers.log(1, {"loss": 2.0})
    assert first.logged == second.logged == [(1, {"loss": 2.0})]
    assert first.closed
    assert second.closed


def test_trackers_close_all_when_one_fails_to_close() -> None:
    first, second = Recorder(fails=True), Recorder()
    with pytest.raises(OSError, match="disk full"):
        Trackers(first, second).close()  # type: ignore[arg-type]
    assert second.closed


def events(folder: Path) -> list[object]:
    """The events of all files, oldest file first, read by the TFRecord layout itself."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += 12 + size + 4  # length, its checksum, the event, its checksum
    return found


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """(step, tag, value) of all events."""
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
    ]


def test_tensorboard_events_hold_train_and_eval_figures(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(tmp_path)
    tracker.log(5, {"loss": 2.5, "eval_loss": 2.0})
    tracker.close()
    tracker.close()
    assert scalars(tmp_path) == [(5, "train/loss", 2.5), (5, "eval/loss", 2.0)]


def test_a_resumed_run_purges_tensorboard_events_after_its_checkpoint(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import SessionLog

    tracker = TensorBoardTracker(tmp_path, resume_step=40)
    tracker.log(50, {"loss": 1.0})
    tracker.close()
    # TensorBoard drops earlier events with a step at or after that of a START event.
    starts = [event.step for event in events(tmp_path) if event.session_log.status]
    assert SessionLog.START == 1
    assert starts == [41]
