"""Held-out figures: during a run, and of a finished one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from zoo.checkpoints.pretrained import load_pretrained, read_config
from zoo.data.base import LABELS_FILE, Data
from zoo.data.loader import open_data
from zoo.errors import ConfigError, choices
from zoo.layers import weight
from zoo.tasks import TASKS, Batch, Task
from zoo.training.config import TrainConfig, begin_of, from_dict
from zoo.training.fit import check_ends, check_task
from zoo.training.step import Evaluator, make_evaluator


def evaluate(
    evaluator: Evaluator,
    params: dict[str, Any],
    batches: Iterable[Batch],
    task: Task,
    bytes_per_token: float | None,
    *,
    step: jax.Array | None = None,
) -> tuple[dict[str, float], int]:
    """(`eval_...` figures, real tokens) of some batches: sums of all tokens, divided once."""
    losses = [evaluator(params, batch, step) for batch in batches]
    fetched = jax.device_get(losses)
    tokens = sum(float(loss.tokens) for loss in fetched)

    def mean(sums: Iterable[Any]) -> float:
        return sum(map(float, sums)) / max(tokens, 1.0)

    hits = {name: mean(loss.hits[name] for loss in fetched) for name in task.hits}
    figures = task.metrics(mean(loss.nats for loss in fetched), bytes_per_token, **hits)
    return {f"eval_{name}": value for name, value in figures.items()}, round(tokens)


def held_out(data: Data, task: Task, max_batches: int | None) -> Iterable[Batch]:
    """The batches of an evaluation, on the host."""
    for rows in data.eval_batches(max_batches=max_batches):
        yield task.batch(rows, data.spec)


def evaluate_workdir(
    folder: str | Path, *, config: TrainConfig | None = None, max_batches: int | None = None
) -> dict[str, Any]:
    """Figures of a workdir's newest checkpoint on held-out text, with their protocol.

    Args:
        folder: a workdir of a run.
        config: task and text to evaluate on; default: the run's own.
        max_batches: of held-out text, evenly spaced; None: all of it.

    Raises:
        CheckpointError: when there is nothing to load.
        ZooError: when the text cannot be opened.
    """
    config = from_dict(read_config(folder)) if config is None else config
    check_task(config.task, config.model)
    task = TASKS[config.task]
    model = load_pretrained(folder)
    data = open_data(config.data, needs=task.needs, kind=task.rows, begin=begin_of(config))
    known = model.config.sizes().vocab_size
    if data.vocab_size > known:
        raise ConfigError(
            f"{data.label} has {data.vocab_size} tokens by data.tokenizer = "
            f"{config.data.tokenizer!r}, the model of {folder} knows {known}; "
            "use the tokenizer that it was trained with"
        )
    _check_labels(folder, data)
    check_ends(model.config, image=data.spec.image)
    figures, tokens = evaluate(
        make_evaluator(model, task),
        weight.split(model)[0],
        held_out(data, task, max_batches),
        task,
        data.bytes_per_token("validation"),
    )
    protocol: dict[str, Any] = {"task": config.task, "text": data.label, data.unit: tokens}
    if task.rows == "text":
        protocol |= {"window": config.data.length, "stride": config.data.length}
    ratio = data.bytes_per_token("validation")
    if ratio is not None:
        protocol["bytes_per_token"] = ratio
    return figures | protocol


def _check_labels(folder: str | Path, data: Data) -> None:
    """Refuse data whose labels are not those that the model of a workdir has learnt."""
    file = Path(folder) / LABELS_FILE
    learnt = tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()
    if learnt != data.spec.labels:
        raise ConfigError(
            f"{data.label} has the labels {choices(data.spec.labels)}; the model of {folder} "
            f"knows {choices(learnt)}"
        )
