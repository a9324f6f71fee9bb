"""The training loop: steps, evaluations, checkpoints, and every way a run can end."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints import Checkpoints
from zoo.decoding import generate
from zoo.environment import environment
from zoo.errors import CheckpointError, ConfigError
from zoo.files import write_json
from zoo.layers import weight
from zoo.models.tower import Transformer
from zoo.training.config import TrainConfig
from zoo.training.evaluate import evaluate, held_out, judgement
from zoo.training.init_from import with_checkpoint
from zoo.training.progress import Progress
from zoo.training.resume import Totals, as_begun, refuse_other_run, starting_point
from zoo.training.setup import Run, prepare
from zoo.training.step import State, first_failure
from zoo.training.summary import (
    Status,
    plot_losses,
    print_sample,
    print_summary,
    summarise,
    write_summary,
)
from zoo.training.trackers import (
    JsonlTracker,
    TensorBoardTracker,
    Tracker,
    Trackers,
    cut_back,
    read_metrics,
)

# Exit code of `zoo train` by how the run ended; bad input exits with 2.
EXIT_CODES: dict[str, int] = {"finished": 0, "diverged": 3, "preempted": 75, "failed": 1}


@dataclasses.dataclass(eq=False)
class Loop:
    """The moving parts of one process of a run."""

    run: Run
    state: State
    checkpoints: Checkpoints
    trackers: Trackers
    progress: Progress
    totals: Totals
    stop: list[int]
    status: Status = "finished"
    note: str = ""

    def steps(self, start: int) -> None:
        """Train from `start` to the end, or until something ends it."""
        config = self.run.config
        pending: list[jax.Array] = []
        clock = time.perf_counter()
        batches = self.run.data.train_batches(start)
        with contextlib.closing(batches):  # type: ignore[type-var]
            for step in range(start + 1, config.steps + 1):
                batch = self.run.batch(next(batches))
                self.state, figures = self.run.step(self.state, batch, self.run.inputs)
                pending.append(figures["tokens"])
                ended = step == config.steps
                evaluated = ended or step % (config.eval_every or 1) == 0
                # On a signal the save comes at once: an evaluation may outlast the grace period.
                saved = ended or bool(self.stop) or step % (config.checkpoint.every or 1) == 0
                logged = evaluated or step == 1 or step % config.log_every == 0
                if not (logged or saved or step == start + 1):
                    continue
                self.totals.tokens += round(sum(map(float, jax.device_get(pending))))
                pending = []
                now = time.perf_counter()
                self.totals.seconds, clock = self.totals.seconds + now - clock, now
                if int(self.state["failed_at"]) >= 0:
                    self._diverged(int(self.state["failed_at"]))
                    return
                row = self._show(step, figures, evaluated=evaluated)
                if logged:
                    self.trackers.log(step, row)
                # Asked once more, and once only: a signal may have come since, or come now.
                stopped = bool(self.stop)
                if saved or stopped:
                    self._save(step, row.get("eval_loss"), wait=ended or stopped)
                if stopped and not ended:
                    self.status = "preempted"
                    name = signal.Signals(self.stop[0]).name
                    self.note = f"{name} at step {step}: saved; the same command goes on from here"
                    return

    def _show(self, step: int, figures: Any, *, evaluated: bool) -> dict[str, float]:
        row = {name: float(value) for name, value in jax.device_get(figures).items()}
        row["tokens"] = self.totals.tokens
        self.progress.update(step, row)
        if self.progress.tokens_per_s is not None:
            row["tokens_per_s"] = self.progress.tokens_per_s
        if evaluated:
            with self.progress.pause():
                row |= self._evaluate()
            self.progress.evaluation(step, row)
        return row

    def _evaluate(self) -> dict[str, float]:
        run = self.run
        batches = map(run.spread, held_out(run.data, run.task, run.config.eval_batches))
        ratio = run.data.bytes_per_token("validation")
        params, step = averaged(self.state), self.state["step"]
        figures, _ = evaluate(run.evaluator, params, batches, run.task, ratio, step=step)
        return figures

    def _save(self, step: int, metric: float | None, *, wait: bool) -> None:
        meta = {
            "step": step,
            "next_batch": step,
            "config": dataclasses.asdict(self.run.config),
            "placement": self.run.model.placement.to_json(),
            "data_fingerprint": self.run.data.fingerprint,
            "ema": "ema" in self.state,
            "tokens": self.totals.tokens,
            "seconds": self.totals.seconds,
        }
        with self.progress.pause():
            self.checkpoints.save(step, self.state, meta, metric=metric, wait=wait)

    def _diverged(self, failed_at: int) -> None:
        run = self.run
        rows = run.task.batch(run.data.train_batch(failed_at), run.data.spec)
        inputs = run.task.inputs(rows)
        where = first_failure(run.model, self.state["params"], inputs, failed_at)
        self.checkpoints.wait()
        kept = self.checkpoints.latest()
        self.status = "diverged"
        self.note = f"step {failed_at + 1} is not finite, {where}; " + (
            "no checkpoint had been written" if kept is None else f"checkpoint {kept} is in place"
        )


def averaged(state: State) -> dict[str, Any]:
    """The parameters to evaluate: the moving average where there is one."""
    params: dict[str, Any] = state["ema" if "ema" in state else "params"]
    return params


def train(config: TrainConfig, typed: Collection[str] = ()) -> dict[str, Any]:
    """Run, or resume, a training run to its end.

    Args:
        typed: dotted fields that were given as flags: beside what differs from the defaults, they
            must agree with the checkpoint of `init_from`.

    Returns:
        The summary that is also in `summary.json`; `status` is a key of `EXIT_CODES`.

    Raises:
        ZooError: on bad input, before anything is compiled or written.
    """
    with _interruptible():
        config = as_begun(with_checkpoint(config, typed))
        refuse_other_run(config)
        run = prepare(config)
        workdir = Path(run.config.workdir)
        start, state, totals = starting_point(run, workdir)
    _write_config(run, workdir)
    run.data.save(workdir)
    # Written last: while it is there, the run is over.
    (workdir / "summary.json").unlink(missing_ok=True)
    stop: list[int] = []
    checkpoint = run.config.checkpoint
    loop: Loop | None = None
    try:
        with (
            Checkpoints(
                workdir / "checkpoints",
                keep=checkpoint.keep,
                keep_best=checkpoint.keep_best,
                asynchronous=checkpoint.asynchronous,
            ) as checkpoints,
            Progress(run.config.steps, start=start) as progress,
            _trackers(run, workdir, start) as trackers,
            _signals(stop),
        ):
            for line in (*run.data.notes, run.data.budget(run.config.steps).warning):
                if line:
                    progress.message(line)
            if start == run.config.steps:
                progress.message(f"{workdir} has finished its {start} steps")
            elif start:
                progress.message(f"resuming {workdir} at step {start}")
            loop = Loop(run, state, checkpoints, trackers, progress, totals, stop)
            loop.steps(start)
    except (CheckpointError, OSError) as error:
        if loop is None:
            raise
        # A disk that fills up or goes away in mid-run is no bad input.
        kept = loop.checkpoints.kept() if isinstance(error, OSError) else ""
        loop.status, loop.note = "failed", f"{error}{kept}"
    return _finish(loop, workdir)


# Room that a run keeps for its summary, so that a disk that it fills can still take that.
_RESERVE, _RESERVED = ".reserve", 16 * 1024


def _write_config(run: Run, workdir: Path) -> None:
    content = {"config": dataclasses.asdict(run.config), "environment": environment()}
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", content, indent=2)
        (workdir / _RESERVE).write_bytes(bytes(_RESERVED))
    except OSError as error:
        raise ConfigError(f"workdir = {str(workdir)!r} cannot be written: {error}") from error


def _trackers(run: Run, workdir: Path, start: int) -> Trackers:
    metrics = workdir / "metrics.jsonl"
    cut_back(metrics, start if start else -1)
    trackers: list[Tracker] = [JsonlTracker(metrics)]
    if run.config.tensorboard:
        trackers.append(TensorBoardTracker(workdir / "tensorboard", resume_step=start or None))
    return Trackers(*trackers)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGINT ends what is done here, at the latest when it is done.

    Python drops an exception that is raised while it collects garbage, where jax has a callback.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.default_int_handler(number, frame)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _handled((signal.SIGINT,) if usual else (), note):
        yield
    if came:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _signals(stop: list[int]) -> Iterator[None]:
    """The first SIGTERM or SIGINT asks for a save and an end; a second one is the usual."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, _: FrameType | None) -> None:
        stop.append(number)
        signal.signal(number, before[signal.Signals(number)])

    with _handled(numbers, ask):
        yield


@contextlib.contextmanager
def _handled(
    numbers: Collection[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Some signals are handled so in here; in another thread than the main one none is."""
    before: dict[int, Any] = {}
    # Not in the main thread: whoever runs it handles signals.
    with contextlib.suppress(ValueError):
        for number in numbers:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


def _finish(loop: Loop, workdir: Path) -> dict[str, Any]:
    """Summary, plot and sample; the summary is written last."""
    run = loop.run
    if loop.note:
        print(loop.note, file=sys.stderr)
    metrics = read_metrics(workdir / "metrics.jsonl")
    paths = {"config": workdir / "config.json", "metrics": workdir / "metrics.jsonl"}
    more: dict[str, Any] = {"variant": run.config.model.variant}
    more["data_fingerprint"] = run.data.fingerprint
    if loop.note:
        more["note"] = loop.note
    if metrics and loop.status != "failed":
        title = f"{run.config.model.variant}, {run.config.model.num_layers} layers"
        paths["plot"] = plot_losses(metrics, workdir / "loss.png", title=title)
    if loop.status == "finished" and run.config.judge:
        more |= _judged(run, loop.state)
    if loop.status == "finished" and run.config.sample_tokens and run.task.continues_text:
        text = _sample(run, loop.state)
        paths["sample"] = workdir / "sample.txt"
        paths["sample"].write_text(text, encoding="utf-8")
        print_sample(text)
    if run.config.tensorboard:
        paths["tensorboard"] = workdir / "tensorboard"
    paths["checkpoints"] = workdir / "checkpoints"
    summary = summarise(
        metrics,
        status=loop.status,
        steps=int(loop.state["step"]) if loop.status != "diverged" else _last_step(metrics),
        tokens=loop.totals.tokens,
        wall_time_s=loop.totals.seconds,
        **more,
    )
    try:
        (workdir / _RESERVE).unlink(missing_ok=True)
        paths["summary"] = write_summary(workdir, summary)
    except OSError:
        if loop.status != "failed":
            raise
    print_summary(summary, paths)
    return summary


def _judged(run: Run, state: State) -> dict[str, Any]:
    """Figures of the trained model's own outputs, and under `protocol` how they were made."""
    if run.task.searches:
        print("writing the targets of held-out rows, to score them", flush=True)
    try:
        figures, protocol = judgement(
            trained_model(run, state), run.data, run.task, run.config.eval_batches
        )
    except ConfigError as error:  # a library is missing, which is no reason to lose a run's end
        print(error, file=sys.stderr)
        return {}
    return {**figures, "protocol": protocol} if figures else {}


def trained_model(run: Run, state: State) -> Transformer:
    """The model as it stands after its last step, on one device."""
    model = weight.bind(run.model, jax.device_put(averaged(state), jax.devices()[0]))
    model.placement = model.placement.at(int(state["step"]))
    return model


def _sample(run: Run, state: State) -> str:
    config, tokenizer = run.config, run.data.tokenizer
    ids = tokenizer.encode(config.sample_prompt.encode())
    if not len(ids):
        ids = run.data.train_batch(0)["tokens"][0, :1]
    tokens = generate(
        trained_model(run, state),
        jnp.asarray(ids, jnp.int32)[None],
        max_new_tokens=config.sample_tokens,
        temperature=config.sample_temperature,
        key=jax.random.key(config.seed),
    )
    return tokenizer.decode(jax.device_get(tokens)[0])


def _last_step(metrics: list[dict[str, Any]]) -> int:
    return int(metrics[-1]["step"]) if metrics else 0
