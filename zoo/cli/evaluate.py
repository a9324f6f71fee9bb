"""`zoo evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from zoo.cli.flags import parse, value_of
from zoo.data.config import DataConfig
from zoo.errors import ConfigError, choices, near_matches
from zoo.tables import pairs
from zoo.training.trackers import dumps


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Figures of a run's newest checkpoint on held-out text: the run's own, or another text
    given by the flags under data, whose defaults are the run's."""

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """The workdir of the run."""
    task: str = "language_model"
    """What to measure; see `zoo list tasks`."""
    max_batches: int | None = None
    """Batches of held-out text, evenly spaced; default: all of it."""
    json: bool = False
    """Print JSON."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)


def run(args: Sequence[str]) -> int:
    folder = value_of("from", args)
    if folder is None:
        # Nothing to take defaults from; this says so, or shows the help.
        parse(EvaluateOptions, args, command="evaluate")
        raise ConfigError("--from DIR is missing; see zoo evaluate --help")
    from zoo.checkpoints.pretrained import read_config
    from zoo.tasks import TASKS
    from zoo.training.config import from_dict
    from zoo.training.evaluate import evaluate_workdir

    base = from_dict(read_config(folder))
    defaults = EvaluateOptions(folder, task=base.task, data=base.data)
    options = parse(EvaluateOptions, args, command="evaluate", default=defaults)
    if options.task not in TASKS:
        hint = near_matches(options.task, TASKS)
        raise ConfigError(f"task = {options.task!r} is not known{hint}; tasks: {choices(TASKS)}")
    if options.max_batches is not None and options.max_batches < 1:
        raise ConfigError(f"max_batches = {options.max_batches}; use 1 or more")
    options.data.validate()
    config = dataclasses.replace(base, task=options.task, data=options.data)
    figures = evaluate_workdir(folder, config=config, max_batches=options.max_batches)
    print(dumps(figures, indent=2) if options.json else pairs(figures))
    return 0
