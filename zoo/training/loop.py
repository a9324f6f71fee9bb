"""The training loop: steps, evaluations, checkpoints, and every way a run can end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints import Checkpoints, check_identity
from zoo.checkpoints.pretrained import load_pretrained, read_config
from zoo.environment import environment
from zoo.errors import CheckpointError, ConfigError, ZooError
from zoo.generate import generate
from zoo.layers import weight
from zoo.training.config import TrainConfig, flatten
from zoo.training.evaluate import evaluate, held_out
from zoo.training.progress import Progress
from zoo.training.schedules import extendable
from zoo.training.setup import Run, prepare
from zoo.training.step import State, first_failure, make_evaluator
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
    replacing,
)

# Exit code of `zoo train` by how the run ended; bad input exits with 2.
EXIT_CODES: dict[str, int] = {"finished": 0, "diverged": 3, "preempted": 75, "failed": 1}

# Settings that a resumed run may change: how it runs and reports, not what it computes.
_MAY_DIFFER = (
    "workdir",
    "parallel",
    "mesh.fsdp",
    "log_every",
    "eval_every",
    "init_from",
    "tensorboard",
    "sample_tokens",
    "sample_temperature",
    "sample_prompt",
    "data.cache_dir",
    "data.prefetch",
    "checkpoint.every",
    "checkpoint.keep",
    "checkpoint.keep_best",
    "checkpoint.asynchronous",
)


@dataclasses.dataclass
class Totals:
    """What adds up over all processes of a run."""

    tokens: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(eq=False)
class Loop:
    """The moving parts of one process of a run."""

    run: Run
    state: State
    checkpoints: Checkpoints
    trackers: Trackers
    progress: Progress
    totals: Totals
    evaluator: Any
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
                last = ended or bool(self.stop)
                saved = last or step % (config.checkpoint.every or 1) == 0
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
                if saved:
                    self._save(step, row.get("eval_loss"), wait=last)
                if self.stop:
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
        batches = held_out(run.data, run.task, run.config.eval_batches)
        ratio = run.data.bytes_per_token("validation")
        return evaluate(self.evaluator, averaged(self.state), batches, run.task, ratio)

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
        rows = run.task.batch(run.data.train_batch(failed_at), run.config.data.separate_documents)
        where = first_failure(run.model, self.state["params"], rows)
        kept = self.checkpoints.latest()
        self.status = "diverged"
        self.note = f"step {failed_at + 1} is not finite, {where}; " + (
            "no checkpoint had been written" if kept is None else f"checkpoint {kept} is in place"
        )


def averaged(state: State) -> dict[str, Any]:
    """The parameters to evaluate: the moving average where there is one."""
    params: dict[str, Any] = state["ema" if "ema" in state else "params"]
    return params


def train(config: TrainConfig) -> dict[str, Any]:
    """Run, or resume, a training run to its end.

    Returns:
        The summary that is also in `summary.json`; `status` is a key of `EXIT_CODES`.

    Raises:
        ZooError: on bad input, before anything is compiled or written.
    """
    run = prepare(config)
    workdir = Path(run.config.workdir)
    start, state, totals = _start(run, workdir)
    _write_config(run, workdir)
    run.data.tokenizer.save(workdir)
    stop: list[int] = []
    checkpoint = run.config.checkpoint
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
        if start:
            progress.message(f"resuming {workdir} at step {start}")
        evaluator = make_evaluator(run.model, run.task)
        loop = Loop(run, state, checkpoints, trackers, progress, totals, evaluator, stop)
        loop.steps(start)
    return _finish(loop, workdir)


def _start(run: Run, workdir: Path) -> tuple[int, State, Totals]:
    """(step, state, totals) to go on from: a checkpoint of this run, other weights, or none."""
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            found = checkpoints.steps()
            step = checkpoints.newest_sound(print)
            if found and step is None:
                raise CheckpointError(
                    f"no checkpoint in {workdir / 'checkpoints'} is sound; delete {workdir} to "
                    "start over, or choose another --workdir"
                )
            if step is not None:
                meta = checkpoints.read_meta(step)
                _check_resume(run, meta)
                state = checkpoints.restore(step, run.template)
                return step, state, Totals(meta["tokens"], meta["seconds"])
    if (workdir / "config.json").exists():
        _check_resume(run, {"config": read_config(workdir)})
    state = run.initial_state()
    if run.config.init_from is not None:
        state |= _loaded(run, run.config.init_from)
    return 0, state, Totals()


def _check_resume(run: Run, meta: dict[str, Any]) -> None:
    """Refuse a workdir that belongs to another run: identity first, then every setting."""
    if "placement" in meta:
        wanted = run.model.placement.to_json()
        check_identity({"placement": meta["placement"]}, {"placement": wanted})
    saved = _flat(meta["config"])
    asked = flatten(run.config)
    for field in asked:
        if field in _MAY_DIFFER or field not in saved:
            continue
        ours, theirs = _plain(asked[field]), saved[field]
        if field == "steps" and extendable(run.config.optim) and ours > theirs:
            continue
        if ours != theirs:
            raise ConfigError(
                f"{run.config.workdir} holds a run with {field} = {theirs!r}, this one asks for "
                f"{ours!r}; use another --workdir, or the same value"
            )
    known = meta.get("data_fingerprint")
    if known is not None and known != run.data.fingerprint:
        raise ConfigError(
            f"{run.config.workdir} was trained on other text than {run.data.label} is now; "
            "use another --workdir"
        )


def _loaded(run: Run, source: str) -> State:
    """Parameters (and their average) from another run's weights."""
    folder, _, step = source.partition("@")
    if step and not step.isdigit():
        raise ConfigError(f"init_from = {source!r}: after @ stands a step, such as {folder}@100")
    model = load_pretrained(folder, step=int(step) if step else None)
    check_identity(
        {"placement": model.placement.to_json()}, {"placement": run.model.placement.to_json()}
    )
    params, wanted = weight.split(model)[0], weight.split(run.model)[0]
    ours, theirs = jax.tree.map(jnp.shape, params), jax.tree.map(jnp.shape, wanted)
    if ours != theirs:
        raise CheckpointError(
            f"init_from = {source!r} holds {_first_difference(ours, theirs)}; "
            "use the same model settings"
        )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, run.template["params"])
    loaded = {"params": jax.device_put(params, shardings)}
    if "ema" in run.template:
        loaded["ema"] = jax.tree.map(jnp.copy, loaded["params"])
    return loaded


def _first_difference(ours: Any, theirs: Any, path: str = "") -> str:
    for name in sorted({*ours, *theirs}):
        here = f"{path}.{name}" if path else name
        if name not in ours:
            return f"no {here}"
        if name not in theirs:
            return f"{here}, which this model lacks"
        if isinstance(ours[name], dict) and isinstance(theirs[name], dict):
            found = _first_difference(ours[name], theirs[name], here)
            if found:
                return found
        elif ours[name] != theirs[name]:
            return f"{here} of shape {ours[name]}, this model has {theirs[name]}"
    return ""


def _write_config(run: Run, workdir: Path) -> None:
    content = {"config": dataclasses.asdict(run.config), "environment": environment()}
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with replacing(workdir / "config.json") as beside:
            beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
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
def _signals(stop: list[int]) -> Iterator[None]:
    """The first SIGTERM or SIGINT asks for a save and an end; a second one is the usual."""

    def ask(number: int, _: FrameType | None) -> None:
        stop.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not in the main thread: whoever runs it handles signals
        yield
        return
    try:
        yield
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def _finish(loop: Loop, workdir: Path) -> dict[str, Any]:
    """Summary, plot and sample; the summary is written last."""
    run = loop.run
    metrics = read_metrics(workdir / "metrics.jsonl")
    paths = {"config": workdir / "config.json", "metrics": workdir / "metrics.jsonl"}
    more: dict[str, Any] = {"variant": run.config.model.variant}
    if loop.note:
        more["note"] = loop.note
    if metrics:
        title = f"{run.config.model.variant}, {run.config.model.num_layers} layers"
        paths["plot"] = plot_losses(metrics, workdir / "loss.png", title=title)
    if loop.status == "finished" and run.config.sample_tokens:
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
    paths["summary"] = write_summary(workdir, summary)
    print_summary(summary, paths)
    return summary


def _sample(run: Run, state: State) -> str:
    config, tokenizer = run.config, run.data.tokenizer
    ids = tokenizer.encode(config.sample_prompt.encode())
    if not len(ids):
        ids = run.data.train_batch(0)["tokens"][0, :1]
    model = weight.bind(run.model, jax.device_put(averaged(state), jax.devices()[0]))
    tokens = generate(
        model,
        jnp.asarray(ids, jnp.int32)[None],
        max_new_tokens=config.sample_tokens,
        temperature=config.sample_temperature,
        key=jax.random.key(config.seed),
    )
    return tokenizer.decode(jax.device_get(tokens)[0])


def _last_step(metrics: list[dict[str, Any]]) -> int:
    return int(metrics[-1]["step"]) if metrics else 0


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


__all__ = ["EXIT_CODES", "ZooError", "train"]
