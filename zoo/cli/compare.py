"""`zoo compare`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import tyro

from zoo.cli.flags import parse_typed, value_of
from zoo.compare.config import CompareConfig, Match, Search, load_compare_config
from zoo.errors import ConfigError
from zoo.files import dumps
from zoo.settings import may_be_none
from zoo.training.config import TrainConfig

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compare norm placements on equal terms: each tuned, on fresh seeds, with intervals.

    Values come from the file of --config, whose config() returns a CompareConfig, and flags
    override them. Every run is an ordinary training run below WORKDIR/runs. The same command
    again goes on where it stopped, and more variants, depths or seeds reuse what is there.

        zoo compare --variants post_norm,pre_norm,deep_norm --depths 6,24 --lrs 3e-4,1e-3,3e-3
            --seeds 3 --steps 200 --workdir runs/compare
        zoo compare --config configs/compare/default.py --dry-run

    Lists are separated by commas; a comma within brackets belongs to its entry, as in
    layer_scale(init=1e-4).
    """

    config: str | None = None
    """A Python file whose config() returns a CompareConfig, or a comparison's compare.json."""
    variants: str | None = None
    """Placements to compare; the first is the one that --match matches."""
    depths: str | None = None
    """Numbers of layers."""
    widths: str | None = None
    """Widths d_model."""
    lrs: str | None = None
    """Peak learning rates that each variant is tuned over."""
    search: Search | None = None
    """grid: every point for all steps; halving: successive halving."""
    trials: int | None = None
    """Quasi-random points, where a config's space has ranges."""
    tuning_seeds: int | None = None
    """Seeds that a point is judged on while tuning."""
    extend: int | None = None
    """Points that may be added beyond the end of a list."""
    seeds: int | None = None
    """Fresh seeds of the final comparison."""
    match: Match | None = None
    """What all variants get equally."""
    metric: str | None = None
    """The figure to compare by, such as loss."""
    select: str | None = None
    """The figure to choose settings by, where that is another."""
    smallest: float | None = None
    """The smallest difference that matters."""
    test_path: str | None = None
    """Text that no choice sees."""
    test_target_path: str | None = None
    """Its targets, of pairs of texts."""
    test_split: str | None = None
    """The dataset's split that no choice sees."""
    num_beams: int | None = None
    """Beams of the final figures where a task writes text."""
    layers: bool | None = None
    """Measure every layer at the end of the first final run of each variant."""
    ledger: str | None = None
    """A .jsonl file that gets a line for each run that is over; what has one is not made again."""
    workers: int | None = None
    """Processes on this machine."""
    shard: str = "1/1"
    """i/n: this is the i-th of n processes that share the workdir (a Slurm array)."""
    dry_run: bool = False
    """Show how many runs, how long, what is there already and what could be told apart."""
    report: bool = False
    """Only write the report, from the runs that are there."""
    again: int | None = None
    """Make this many finished runs once more, elsewhere, and say whether they come out equal."""
    json: bool = False
    """Print JSON."""
    run: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=TrainConfig
    )


def run(args: Sequence[str]) -> int:
    path = value_of("config", args)
    base = CompareConfig(run=_plain_run()) if path is None else load_compare_config(path)
    options, typed = parse_typed(
        CompareOptions, args, command="compare", default=CompareOptions(run=base.run)
    )
    config = settings(base, options, typed)
    from zoo.compare.compare import check, comparison
    from zoo.compare.work import Preempted, parse_shard

    shard = parse_shard(options.shard)
    check(config)
    if options.dry_run:
        from zoo.compare.dry_run import dry_run

        plan = dry_run(config)
        print(dumps(plan.to_json(), indent=2) if options.json else plan)
        return 0
    if options.again is not None:
        from zoo.compare.again import again

        return int(again(config, options.again, print) > 0)
    from zoo.compare.progress import summary, watching
    from zoo.compare.report import write_report

    if options.report:
        if not (config.workdir / "runs").is_dir():
            raise ConfigError(f"workdir = {str(config.workdir)!r} holds no comparison to report")
        made = comparison(config)
        files = write_report(made)
    else:
        from zoo.compare.compare import compare
        from zoo.training.loop import EXIT_CODES

        try:
            with watching(config, quiet=options.json) as say:
                made, files = compare(config, say=say, shard=shard)
        except Preempted as stop:
            print(stop)
            return EXIT_CODES["preempted"]
    if options.json:
        print(dumps(made.analysis.to_json(), indent=2))
    else:
        print(summary(made, files))
    return 0


def settings(base: CompareConfig, options: CompareOptions, typed: frozenset[str]) -> CompareConfig:
    """The config of a file with what was typed put over it.

    Raises:
        ConfigError: on a list that cannot be read, a `none` where there must be a value, or a flag
            that a config with tasks cannot take.
    """
    ours = [field.name for field in dataclasses.fields(CompareConfig) if field.name in typed]
    values = {name: getattr(options, name) for name in ours}
    for name, kind in (("variants", str), ("depths", int), ("widths", int)):
        if name in values:
            values[name] = () if values[name] is None else listed(name, values[name], kind)
    for name, value in values.items():
        if value is None and not may_be_none(CompareConfig, name):
            raise ConfigError(f"--{name.replace('_', '-')} = none: it needs a value")
    if "lrs" in typed:
        space = {name: tried for name, tried in base.space.items() if name != "optim.lr"}
        if options.lrs is not None:
            space["optim.lr"] = listed("lrs", options.lrs, float)
        values["space"] = space
    own = {"workdir", *(field.name for field in dataclasses.fields(CompareOptions))}
    of_run = typed - own
    if base.tasks and of_run:
        flag = min(of_run).replace("_", "-")
        raise ConfigError(f"--{flag}: the config compares on several tasks; set it in the file")
    return dataclasses.replace(base, run=options.run, **values)


def listed(name: str, text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    """`a,b(c,d)` as (a, b(c,d)).

    Raises:
        ConfigError: on an empty entry, or one that is no such value.
    """
    parts = _apart(text)
    words = {int: "whole numbers", float: "numbers"}
    try:
        if "" in parts:
            raise ValueError
        return tuple(kind(part) for part in parts)
    except ValueError:
        flag = name.replace("_", "-")
        accepted = words.get(kind, "names")  # type: ignore[call-overload]
        raise ConfigError(f"--{flag} = {text!r}: use {accepted} with commas between") from None


def _apart(text: str) -> list[str]:
    """What stands between commas that no bracket encloses."""
    parts, open_ = [""], 0
    for sign in text:
        open_ += (sign in "([") - (sign in ")]")
        if sign == "," and open_ == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _plain_run() -> TrainConfig:
    return TrainConfig(workdir="runs/compare", tensorboard=False)
