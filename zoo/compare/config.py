"""The settings of a comparison."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.errors import ConfigError, choices, near_matches
from zoo.settings import at_least, check_types, flatten
from zoo.training.config import TrainConfig, from_dict, run_config_file

Match = Literal["tokens", "flops", "params", "time"]
Search = Literal["grid", "halving"]
Value = int | float | str | bool | None


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of a numeric setting, from which quasi-random points are taken.

    Attributes:
        low, high: ends, both included.
        log: whether points are even in the logarithm.
    """

    low: float
    high: float
    log: bool = True

    def at(self, share: float) -> float:
        """The point this share, 0 to 1, of the way up."""
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low and 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


Space = Mapping[str, Sequence[Value] | Range]
"""Dotted field of a run's config to the values to try: all of some, or points in a range."""


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Variants against each other on equal terms."""

    variants: tuple[str, ...] = ()
    """Placements to compare, as `model.variant` takes them; the first is the one to match."""
    depths: tuple[int, ...] = ()
    """Numbers of layers, of each stack where there are two (none: that of the run)."""
    widths: tuple[int, ...] = ()
    """Widths d_model (none: that of the run)."""
    space: Space = dataclasses.field(default_factory=dict)
    """What is tuned for each variant at each depth and width, by dotted field of the run."""
    search: Search = "grid"
    """`grid`: every point for all steps; `halving`: every point for a few steps, the better half
    for twice as many, and so on (successive halving, 1502.07943)."""
    trials: int = 8
    """Quasi-random points of a space with ranges."""
    tuning_seeds: int = 1
    """Seeds that a point of the space is judged on."""
    extend: int = 1
    """Points that may be added beyond the end of a list where the best point lies on it."""
    seeds: int = 3
    """Fresh seeds of the final comparison."""
    match: Match = "tokens"
    """What all variants get equally: tokens (the run's steps), FLOPs or time of training as the
    first variant needs them at the same depth and width, or parameters (through d_ff)."""
    metric: str | None = None
    """The figure to compare by (None: that of the task), such as `loss`."""
    select: str | None = None
    """The figure to choose settings by (None: the metric), such as `loss` where texts of short
    runs are all equally bad."""
    smallest: float = 0.0
    """The smallest difference of the metric that matters; 0: any."""
    test_path: str | None = None
    """Text, read like `data.path`, that no choice sees (None: the second half of what is held
    out, and the first half is chosen by)."""
    test_target_path: str | None = None
    """Its targets, of pairs of texts."""
    test_split: str | None = None
    """The split of `data.dataset` that no choice sees."""
    num_beams: int = 1
    """Beams of the final figures where a task writes text; choices are made without."""
    layers: bool = True
    """Measure stream, gradient and update of every layer at the end of the first final run of
    each variant."""
    ledger: str | None = None
    """A .jsonl file that gets a line for each run that is over; runs that have a line there are
    not made again, wherever it came from."""
    workers: int = 1
    """Processes on this machine, each with its share of the processors; 1: this one."""
    run: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    """The training run that all are made from; its workdir is the comparison's."""
    tasks: Mapping[str, TrainConfig] = dataclasses.field(default_factory=dict)
    """More than one task: a label and a run for each, instead of `run`."""

    def __post_init__(self) -> None:
        # As a run's workdir; anything but text is refused with the other fields.
        if isinstance(self.ledger, str):
            object.__setattr__(self, "ledger", os.path.expanduser(self.ledger))

    def validate(self) -> None:
        """Raise ConfigError for what no data could make right."""
        check_types(self)
        if not self.variants:
            raise ConfigError("variants is empty; name some, such as post_norm,pre_norm,deep_norm")
        for name in ("variants", "depths", "widths"):
            values = getattr(self, name)
            twice = sorted({str(each) for each in values if values.count(each) > 1})
            if twice:
                raise ConfigError(f"{name} names {choices(twice)} twice")
        for name in ("depths", "widths"):
            for value in getattr(self, name):
                at_least(name, value, 1)
        for name in ("trials", "tuning_seeds", "seeds", "workers", "num_beams"):
            at_least(name, getattr(self, name), 1)
        at_least("extend", self.extend, 0)
        if not 0 <= self.smallest < math.inf:
            raise ConfigError(f"smallest = {self.smallest}; use 0 or more")
        for label, run in self.tasks.items():
            if not isinstance(run, TrainConfig):
                raise ConfigError(f"tasks[{label!r}] is a {type(run).__name__}, not a TrainConfig")
        self._check_space()

    def _check_space(self) -> None:
        fields = flatten(TrainConfig())
        fixed = ["workdir", "seed", "data_seed", "task", "steps"]
        fixed += ["model.variant", "model.num_layers", "model.d_model"]
        for name, values in self.space.items():
            if name not in fields:
                raise ConfigError(f"space: no setting {name!r}{near_matches(name, fields)}")
            if name in fixed:
                raise ConfigError(f"space: {name} is not tuned; it is what the comparison sets")
            if isinstance(values, Range):
                if not values.low < values.high or (values.log and values.low <= 0):
                    raise ConfigError(f"space: {name} = {values}: low must be below high")
            elif not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise ConfigError(f"space: {name} = {values!r}: give a list of values or a Range")
            elif len(set(values)) < len(values):
                raise ConfigError(f"space: {name} = {list(values)} has a value twice")

    def labelled(self) -> dict[str, TrainConfig]:
        """The run of each task by its label."""
        return dict(self.tasks) or {self.run.task: self.run}

    @property
    def workdir(self) -> Path:
        """The folder of the comparison."""
        return Path(self.run.workdir)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("run", "tasks", "space")
        }
        space = {
            name: dataclasses.asdict(values) if isinstance(values, Range) else list(values)
            for name, values in self.space.items()
        }
        return fields | {
            "space": space,
            "run": dataclasses.asdict(self.run),
            "tasks": {label: dataclasses.asdict(run) for label, run in self.tasks.items()},
        }


def from_json(saved: Mapping[str, Any]) -> CompareConfig:
    """The config that `CompareConfig.to_json` gave; ConfigError on an unknown field."""
    names = [field.name for field in dataclasses.fields(CompareConfig)]
    for name in saved:
        if name not in names:
            raise ConfigError(f"unknown setting {name}{near_matches(name, names)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    values["space"] = {
        name: Range(**each) if isinstance(each, Mapping) else tuple(each)
        for name, each in saved.get("space", {}).items()
    }
    if "run" in saved:
        values["run"] = from_dict(saved["run"])
    values["tasks"] = {label: from_dict(run) for label, run in saved.get("tasks", {}).items()}
    return CompareConfig(**values)


def load_compare_config(path: str | Path) -> CompareConfig:
    """The `config()` of a Python file, or the `compare.json` of a comparison's folder.

    Raises:
        ConfigError: when the file is missing, does not run, or holds something else.
    """
    if Path(path).suffix != ".json":
        return run_config_file(path, CompareConfig)
    try:
        saved = json.loads(Path(path).read_bytes())["config"]
    except OSError as error:
        raise ConfigError(f"config {path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"config {path}: not the compare.json of a comparison") from error
    return from_json(saved)
