"""What a run shows while it trains: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

_WINDOW_S = 30.0


class Speed:
    """Tokens and steps a second over the last half minute, compile time left out.

    The clock starts at the first `record`, whose step paid for compilation, so the speed is known
    from the second on. `pause` takes evaluations and saves out of the speed; the time left then
    counts them at the rate at which they came so far.

    Args:
        clock: seconds that only go up; replaced in tests.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        # (seconds of work, step, tokens), the oldest first; the window's far end is kept.
        self._marks: deque[tuple[float, int, float]] = deque()
        self._first_step: int | None = None
        self._paused_s = 0.0
        self._paused_at_first_s = 0.0

    def record(self, step: int, tokens: float) -> None:
        """Step `step` is done, with `tokens` seen since the start of the run."""
        now = self._clock() - self._paused_s
        if self._first_step is None:
            self._first_step, self._paused_at_first_s = step, self._paused_s
        self._marks.append((now, step, tokens))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW_S:
            self._marks.popleft()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside the block does not count as work."""
        began = self._clock()
        try:
            yield
        finally:
            self._paused_s += self._clock() - began

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second, or None when not known yet."""
        return self._rate(column=2)

    def time_left_s(self, total_steps: int) -> float | None:
        """Seconds to `total_steps` at the present speed, or None when not known yet."""
        steps_per_s = self._rate(column=1)
        if steps_per_s is None or self._first_step is None:
            return None
        step = self._marks[-1][1]
        paused_per_step = (self._paused_s - self._paused_at_first_s) / (step - self._first_step)
        return max(0, total_steps - step) * (1 / steps_per_s + paused_per_step)

    def _rate(self, *, column: int) -> float | None:
        if len(self._marks) < 2:
            return None
        seconds = self._marks[-1][0] - self._marks[0][0]
        amount = self._marks[-1][column] - self._marks[0][column]
        return amount / seconds if seconds > 0 and amount > 0 else None


class Progress:
    """Shows a run's steps. A context manager; leaving it, also by an error, clears the bar's line.

    `update` is called once a log interval, and at best at the first step too: that one ends
    compilation and starts the clock for tokens/s and ETA.

    Args:
        total: the step at which the run ends.
        start: the step it starts from (the checkpoint's, on resume).
        console: where to write, standard output by default. A bar needs a terminal that can move
            its cursor; pipes, files and dumb terminals get a line for each update.
        clock: seconds that only go up; replaced in tests.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        console: Console | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.total = total
        self.speed = Speed(clock=clock)
        self._console = console or Console()
        self._bar: Bar | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = _make_bar(self._console)
            self._bar.add_task("train", total=total, completed=start, note="compiling")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Show that `step` is done.

        Args:
            step: optimizer steps done, counted from the start of the run.
            figures: `loss`, `learning_rate`, `grad_norm` are shown when present; `tokens` (seen
                since step 0) gives tokens/s.
        """
        self.speed.record(step, figures.get("tokens", 0))
        if self._bar is None:
            self._line(f"step {step}/{self.total}  {self._note(figures, full=True)}")
        else:
            # The note shares its line with the bar: at 80 columns only the main figures fit.
            note = self._note(figures, full=self._console.width >= 100)
            self._bar.update(self._bar.task_ids[0], completed=step, note=escape(note))

    def evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """Show held-out figures: `eval_loss`, `eval_bits_per_byte`, `eval_perplexity`, others."""
        parts = [
            f"{name.removeprefix('eval_').replace('_', ' ')} {_number(value)}"
            for name, value in figures.items()
            if name.startswith("eval_")
        ]
        self._line(f"eval {step}/{self.total}  {'  '.join(parts)}")

    def message(self, text: str) -> None:
        """Show a line of text, above the bar when there is one."""
        self._line(text)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Keep what happens inside (an evaluation, a blocking save) out of tokens/s."""
        with self.speed.pause():
            yield

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second over the last half minute, None before the second update."""
        return self.speed.tokens_per_s

    def _note(self, figures: Mapping[str, float], *, full: bool) -> str:
        parts = []
        if "loss" in figures:
            parts.append(f"loss {_number(figures['loss'])}")
        if full and "learning_rate" in figures:
            parts.append(f"lr {figures['learning_rate']:.1e}")
        if full and "grad_norm" in figures:
            parts.append(f"grad {figures['grad_norm']:.2f}")
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:,.0f} tok/s")
        left = self.speed.time_left_s(self.total)
        if left is not None:
            parts.append(f"ETA {format_duration(left)}")
        return "  ".join(parts)

    def _line(self, text: str) -> None:
        # soft_wrap: a log file has no width. No markup: a message may hold brackets.
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def format_duration(seconds: float) -> str:
    """`0:07`, `1:23`, `2:03:04` or `3d 02:03:04`; `?` when not finite."""
    if not math.isfinite(seconds):
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _make_bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description} {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[note]}"),
        console=console,
        expand=True,
        # Redrawn a few times a second by rich's own thread; more would steal from a 2-core run.
        refresh_per_second=4,
    )


def _number(value: float) -> str:
    """As many digits as one reads: a loss with three decimals, a perplexity of 1,234 with none."""
    if abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.2e}"
