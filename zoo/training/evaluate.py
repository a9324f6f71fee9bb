"""Held-out figures: during a run, and of a finished one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from zoo.checkpoints.pretrained import load_pretrained, read_config
from zoo.data.base import LABELS_FILE, Data
from zoo.data.config import DataConfig, reads
from zoo.data.tokenizers import TOKENIZER_FILE, load_tokenizer
from zoo.errors import ConfigError, choices
from zoo.layers import weight
from zoo.models.tower import Transformer
from zoo.settings import at_least
from zoo.tasks import TASKS, Batch, Task
from zoo.training.config import TrainConfig, from_dict
from zoo.training.fit import check_ends, check_task
from zoo.training.setup import open_run_data
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


def judgement(
    model: Transformer, data: Data, task: Task, max_batches: int | None, *, num_beams: int = 1
) -> tuple[dict[str, float], dict[str, Any]]:
    """(`eval_...` figures, protocol) of what the model itself writes or ranks, by the task's judge;
    empty where it has none.

    Raises:
        ConfigError: when the library that makes the figures is missing.
    """
    if task.judge is None:
        return {}, {}
    made = task.judge(model, data, max_batches=max_batches, num_beams=num_beams)
    return {f"eval_{name}": value for name, value in made.figures.items()}, made.protocol


def read_as_trained(config: TrainConfig, folder: str | Path) -> TrainConfig:
    """The config with its text cut into tokens as the model of a workdir has learnt it.

    That is by the tokenizer which the workdir keeps: `bpe` would be trained anew on whatever text
    the config names, to as many tokens of other meanings, and a path may lead elsewhere by now.
    A config that asks for another tokenizer than the run's is left as it is.

    Raises:
        CheckpointError: when the folder is no workdir, or its config is damaged.
        ZooError: when the tokenizer or the run's own text cannot be opened.
    """
    data, trained = config.data, from_dict(read_config(folder)).data
    as_trained = (data.tokenizer, data.vocab_size) == (trained.tokenizer, trained.vocab_size)
    if not as_trained or trained.tokenizer == "bytes":
        return config
    own_text = dataclasses.replace(data, validation_half=trained.validation_half) == trained
    if own_text and trained.tokenizer == "bpe":
        # In the cache by the setting: by the file, a large text would be stored there twice.
        found = open_run_data(config).tokenizer.fingerprint
        if found == load_tokenizer(folder).fingerprint:
            return config
    kept = str(Path(folder) / TOKENIZER_FILE)
    data = dataclasses.replace(data, tokenizer=kept, vocab_size=DataConfig.vocab_size)
    return dataclasses.replace(config, data=data)


def evaluate_workdir(
    folder: str | Path,
    *,
    config: TrainConfig | None = None,
    max_batches: int | None = None,
    judged: bool = True,
    num_beams: int = 1,
) -> dict[str, Any]:
    """Figures of a workdir's newest checkpoint on held-out text, with their protocol.

    Args:
        folder: a workdir of a run.
        config: task and text to evaluate on, the latter read by the run's own tokenizer; default:
            those of the run.
        max_batches: of held-out text, evenly spaced; None: all of it.
        judged: whether to add figures of what the model itself writes or ranks: BLEU and chrF, or
            F1 and the like; False: sums over tokens only, as while training.
        num_beams: of the search for the texts that are judged; 1: the likeliest token each time.

    Raises:
        CheckpointError: when there is nothing to load.
        ZooError: when the text cannot be opened, or a library is missing.
    """
    config = from_dict(read_config(folder)) if config is None else config
    check_task(config.task, config.model)
    task = TASKS[config.task]
    at_least("num_beams", num_beams, 1)
    if num_beams > 1 and not (judged and task.searches):
        searching = [repr(name) for name, each in TASKS.items() if each.searches]
        raise ConfigError(
            f"num_beams = {num_beams} has no effect on task = {config.task!r}"
            f"{'' if judged else ' when it is not judged'}; it is for {choices(searching)}"
        )
    model = load_pretrained(folder)
    config = read_as_trained(config, folder)
    data = open_run_data(config)
    known = model.config.sizes().vocab_size
    if data.vocab_size > known:
        raise ConfigError(
            f"{data.label} has {data.vocab_size} tokens by data.tokenizer = "
            f"{data.tokens_by!r}, the model of {folder} knows {known}; "
            "use the tokenizer that it was trained with"
        )
    _check_tokenizer(folder, data, task)
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
    held = config.data.validation_path or config.data.validation_split
    if held is not None:
        protocol["held_out"] = held
    if config.data.validation_half != "both":
        protocol["validation_half"] = config.data.validation_half
    if task.rows == "text":
        protocol |= {"window": config.data.length, "stride": config.data.length}
    ratio = data.bytes_per_token("validation")
    if ratio is not None:
        protocol["bytes_per_token"] = ratio
    if judged:
        more, how = judgement(model, data, task, max_batches, num_beams=num_beams)
        figures, protocol = figures | more, protocol | how
    return figures | protocol


def _check_tokenizer(folder: str | Path, data: Data, task: Task) -> None:
    """Refuse tokens that mean something else to the model of a workdir."""
    if not reads(task.rows, "tokenizer"):
        return
    if data.tokenizer.fingerprint != load_tokenizer(folder).fingerprint:
        raise ConfigError(
            f"data.tokenizer = {data.tokens_by!r} gives {data.label} other tokens than those that "
            f"the model of {folder} was trained with; leave it out to use the run's own"
        )


def _check_labels(folder: str | Path, data: Data) -> None:
    """Refuse data whose labels are not those that the model of a workdir has learnt."""
    file = Path(folder) / LABELS_FILE
    learnt = tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()
    if learnt != data.spec.labels:
        raise ConfigError(
            f"{data.label} has the labels {choices(data.spec.labels)}; the model of {folder} "
            f"knows {choices(learnt)}"
        )
