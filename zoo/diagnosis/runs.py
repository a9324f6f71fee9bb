"""Diagnoses of runs: where weights, optimizer state and batches come from."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from pathlib import Path

from zoo.checkpoints import Checkpoints
from zoo.checkpoints.pretrained import read_config
from zoo.diagnosis.measure import diagnose_run
from zoo.diagnosis.report import Diagnosis
from zoo.errors import CheckpointError, ConfigError
from zoo.settings import flatten
from zoo.training.config import TrainConfig, from_dict
from zoo.training.init_from import with_checkpoint
from zoo.training.resume import fresh_state
from zoo.training.setup import Run, prepare
from zoo.training.step import State


def config_of(folder: str) -> TrainConfig:
    """The resolved config of a workdir, which may have been moved since.

    Raises:
        CheckpointError: when the folder is no workdir, or its config is damaged.
    """
    return dataclasses.replace(from_dict(read_config(folder)), workdir=folder)


def diagnose_config(
    config: TrainConfig, folder: str | None, *, batches: int, attention: bool = False
) -> Diagnosis:
    """The diagnosis of a config's start, or of a workdir's newest checkpoint.

    Args:
        folder: a workdir, of whose run the config has model and optimizer; None: where a run
            of the config begins.
        batches: how many, from the place in the text where the run goes on.
        attention: also the entropy of the attention weights.

    Raises:
        ZooError: on whatever cannot work; CheckpointError where there is nothing to load.
    """
    if folder is not None:
        _refuse_other(config, folder)
    run = prepare(config if folder is not None else with_checkpoint(config))
    state = fresh_state(run) if folder is None else newest_state(run, folder)
    return diagnose_state(run, state, batches=batches, attention=attention)


def diagnose_state(run: Run, state: State, *, batches: int, attention: bool = False) -> Diagnosis:
    """The diagnosis of a run that stands where its state says; arguments as above."""
    rows = itertools.islice(run.data.train_batches(int(state["step"])), batches)
    made = [run.task.batch(each, run.data.spec) for each in rows]
    return diagnose_run(run, state, made, attention=attention)


def _refuse_other(config: TrainConfig, folder: str) -> None:
    saved, asked = flatten(config_of(folder)), flatten(config)
    for field, value in asked.items():
        if field.startswith(("model.", "optim.")) and value != saved[field]:
            raise ConfigError(
                f"{field} = {value!r}: the run in {folder} has {saved[field]!r}; leave it out, or "
                "use --config for a model at its start"
            )


def newest_state(run: Run, folder: str | Path) -> State:
    """The state of the newest sound checkpoint of a workdir, whose run has this structure.

    Raises:
        CheckpointError: when there is none.
    """
    with Checkpoints(Path(folder) / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.newest_sound(logging.getLogger(__name__).warning)
        if step is None:
            raise CheckpointError(f"no sound checkpoint in {folder}")
        state: State = checkpoints.restore(step, run.template)
        return state
