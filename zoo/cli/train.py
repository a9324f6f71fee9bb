"""`zoo train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from zoo.cli.flags import parse_typed, value_of
from zoo.errors import ConfigError
from zoo.files import dumps
from zoo.training.config import TrainConfig, load_config


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train a model. The same command again resumes where it stopped.

    Values come from the file of --config, and flags override them. What both leave open comes
    from the variant's recipe, or from the defaults; --dry-run says which. A value of none
    leaves a field open that the file has set.

        zoo train --config configs/default.py --workdir runs/a --model.variant deep_norm
        zoo train --workdir runs/b --data.path texts/ --steps 2000 --model.num-layers 24
    """

    config: str | None = None
    """A Python file with a function config(); the defaults shown here are then its."""
    dry_run: bool = False
    """Show every value with its origin, sizes and the learning-rate curve; leave the workdir
    as it is (the text's token cache is filled)."""
    json: bool = False
    """With --dry-run: print JSON."""
    run: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=TrainConfig
    )


def run(args: Sequence[str]) -> int:
    path = value_of("config", args)
    base = TrainConfig() if path is None else load_config(path)
    default = TrainOptions(run=base)
    options, typed = parse_typed(TrainOptions, args, command="train", default=default)
    if options.json and not options.dry_run:
        raise ConfigError("--json needs --dry-run; a run writes metrics.jsonl and summary.json")
    if options.dry_run:
        from zoo.training.dry_run import dry_run

        plan = dry_run(options.run, typed)
        print(dumps(plan.to_json(), indent=2) if options.json else plan)
        return 0
    from zoo.training.loop import EXIT_CODES, train

    return EXIT_CODES[train(options.run, typed)["status"]]
