"""`zoo diagnose`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from zoo.cli.flags import parse, value_of
from zoo.errors import ConfigError
from zoo.files import dumps
from zoo.training.config import TrainConfig, load_config


@dataclasses.dataclass(frozen=True)
class DiagnoseOptions:
    """What flows through every sublayer and what the next step does to its weights: sizes of
    stream and branch, gradient norms, effective learning rates. Of a run's newest checkpoint,
    or of a config's initialisation; every setting of zoo train can be given beside.

        zoo diagnose --from runs/a --out runs/a/diagnosis.png
        zoo diagnose --config configs/deep.py --model.variant post_norm
    """

    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """The workdir of a run: its weights, optimizer state and text."""
    config: str | None = None
    """A Python file with a function config(), as for zoo train: a model at its start."""
    batches: int = 1
    """Training batches that the figures are taken over."""
    attention: bool = False
    """Also the entropy of the attention weights, all of which are then held at once."""
    out: str | None = None
    """Also draw the figures over the depth into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print JSON."""
    run: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=TrainConfig
    )


def run(args: Sequence[str]) -> int:
    folder, file = value_of("from", args), value_of("config", args)
    if folder is not None and file is not None:
        raise ConfigError(f"--from {folder} and --config {file}: give one of them")
    base = TrainConfig() if file is None else load_config(file)
    if folder is not None:
        from zoo.diagnosis.runs import config_of

        base = config_of(folder)
    options = parse(
        DiagnoseOptions, args, command="diagnose", default=DiagnoseOptions(folder, file, run=base)
    )
    if folder is None and file is None:
        raise ConfigError("give --from WORKDIR or --config FILE; see zoo diagnose --help")
    if options.batches < 1:
        raise ConfigError(f"batches = {options.batches}; use 1 or more")
    from zoo.diagnosis.runs import diagnose_config
    from zoo.training.plots import check_picture

    # Before the figures are computed.
    out = None if options.out is None else check_picture(options.out)
    found = diagnose_config(
        options.run, folder, batches=options.batches, attention=options.attention
    )
    print(dumps(found.to_json(), indent=2) if options.json else found)
    if out is not None:
        # Beside the figures, not among them: stdout stays JSON with --json.
        print(f"wrote {found.plot(out)}", file=sys.stderr)
    return 0
