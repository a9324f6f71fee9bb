"""What is shown: plain lines without a terminal, a bar with one, honest speeds in both."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from zoo.training.progress import Progress, Speed, format_duration


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(console: Console, clock: Clock) -> None:
    """100 s of compiling, then 10 steps of 0.5 s and 50 tokens each, twice."""
    with Progress(200, console=console, clock=clock) as progress:
        clock.now += 100
        figures = {"loss": 1.2341, "learning_rate": 2e-3, "grad_norm": 0.509}
        for step in (1, 11, 21):
            progress.update(step, figures | {"tokens": 50 * step})
            clock.now += 5
        progress.evaluation(21, {"eval_loss": 1.5, "eval_bits_per_byte": 2.164, "loss": 9.0})
        progress.message("saved [step 21] to runs/a")


def test_without_a_terminal_each_update_is_one_plain_line() -> None:
    out = io.StringIO()
    run(Console(file=out, width=40), Clock())
    assert out.getvalue().splitlines() == [
        "step 1/200  loss 1.234  lr 2.0e-03  grad 0.51",
        "step 11/200  loss 1.234  lr 2.0e-03  grad 0.51  100 tok/s  ETA 1:34",
        "step 21/200  loss 1.234  lr 2.0e-03  grad 0.51  100 tok/s  ETA 1:30",
        "eval 21/200  loss 1.500  bits per byte 2.164",
        "saved [step 21] to runs/a",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_a_bar_shows_step_loss_speed_and_eta(width: int) -> None:
    out = io.StringIO()
    run(Console(file=out, width=width, force_terminal=True, color_system=None), Clock())
    # Each redraw of the bar starts by erasing its line; text above it goes out with a newline.
    text = out.getvalue()
    last = text.split("\x1b[2K")[-1]
    for part in ("train 21/200", "loss 1.234", "100 tok/s", "ETA 1:30"):
        assert part in last
    assert ("lr 2.0e-03" in last) == (width >= 100)
    assert "saved [step 21] to runs/a" in text
    assert "step 11/200" not in text


def test_a_dumb_terminal_gets_plain_lines() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, _environ={"TERM": "dumb"})
    run(console, Clock())
    assert "step 11/200" in out.getvalue()


def test_a_loss_that_is_not_finite_is_shown_as_it_is() -> None:
    out = io.StringIO()
    with Progress(2, console=Console(file=out)) as progress:
        progress.update(1, {"loss": math.nan, "grad_norm": math.inf})
    assert out.getvalue() == "step 1/2  loss nan  grad inf\n"


def test_speed_is_unknown_until_a_step_after_compilation() -> None:
    clock = Clock()
    speed = Speed(clock=clock)
    assert speed.tokens_per_s is None
    clock.now += 60
    speed.record(1, 100)
    assert speed.tokens_per_s is None
    assert speed.time_left_s(10) is None
    clock.now += 2
    speed.record(2, 200)
    assert speed.tokens_per_s == pytest.approx(50)
    assert speed.time_left_s(10) == pytest.approx(16)


def test_speed_is_that_of_the_recent_window() -> None:
    clock = Clock()
    speed = Speed(clock=clock)
    tokens = 0
    for step in range(1, 201):
        seconds = 1.0 if step <= 100 else 0.5  # twice as fast from step 100 on
        clock.now += seconds
        tokens += 100
        speed.record(step, tokens)
    assert speed.tokens_per_s == pytest.approx(200)


def test_pauses_slow_the_eta_but_not_the_speed() -> None:
    clock = Clock()
    speed = Speed(clock=clock)
    speed.record(1, 100)
    for step in range(2, 12):
        clock.now += 1
        speed.record(step, 100 * step)
    with speed.pause():
        clock.now += 5
    clock.now += 10
    speed.record(21, 2100)
    assert speed.tokens_per_s == pytest.approx(100)
    # 20 steps took 20 s of work and 5 s of pause; 20 more will too.
    assert speed.time_left_s(41) == pytest.approx(25)


def test_a_resumed_run_is_timed_from_where_it_resumed() -> None:
    clock = Clock()
    speed = Speed(clock=clock)
    speed.record(501, 50_100)
    clock.now += 1
    speed.record(502, 50_200)
    assert speed.tokens_per_s == pytest.approx(100)
    assert speed.time_left_s(600) == pytest.approx(98)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (6.6, "0:07"),
        (83, "1:23"),
        (3599.7, "1:00:00"),
        (7384, "2:03:04"),
        (3 * 86400 + 7384, "3d 02:03:04"),
        (math.inf, "?"),
    ],
)
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
