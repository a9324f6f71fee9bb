"""`zoo data`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from zoo.cli.flags import parse_typed, value_of
from zoo.training.config import TrainConfig, load_config


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The data of a run as the model will see it: sizes, what is asked for against the budget,
    and training rows as its task makes them (borders, masks, pairs, labels). Fills the cache.

    Takes every flag of zoo train, so that a train command can be previewed as it stands.
    """

    config: str | None = None
    """A Python file with a function config(); the defaults shown here are then its."""
    examples: int = 3
    """Rows of the first batch to show."""
    run: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=TrainConfig
    )


def run(args: Sequence[str]) -> int:
    path = value_of("config", args)
    base = TrainConfig() if path is None else load_config(path)
    options, typed = parse_typed(DataOptions, args, command="data", default=DataOptions(run=base))
    from zoo.data.preview import preview
    from zoo.tasks import TASKS
    from zoo.training.init_from import with_checkpoint
    from zoo.training.setup import open_run_data

    config = with_checkpoint(options.run, typed)
    config.validate()
    data = open_run_data(config)
    print(preview(data, TASKS[config.task].show, steps=config.steps, examples=options.examples))
    return 0
