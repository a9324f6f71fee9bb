"""Which runs a comparison is made of, each an ordinary training run with a folder of its own."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from zoo.compare.config import CompareConfig, Range
from zoo.compare.results import Phase, Row
from zoo.errors import ConfigError, ZooError
from zoo.settings import is_whole
from zoo.training.config import TrainConfig, from_dict
from zoo.training.identity import identity
from zoo.training.resume import MAY_DIFFER

# Seeds of the two phases never meet, nor those of variants: each draws its own weights.
_TUNING_SEEDS = 500_000
_EVALUATION = ("data.validation_half",)
_NOT_WHAT_IT_COMPUTES = tuple(name for name in MAY_DIFFER if name not in _EVALUATION)

Setting = Mapping[str, Any]
"""Dotted field of a run's config to its value."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One variant where it meets the others: a task, a depth and a width."""

    task: str
    variant: str
    depth: int
    width: int


@dataclasses.dataclass(frozen=True)
class Spec:
    """A run to make: what its row says before it is run, and its config."""

    row: Row
    config: TrainConfig


def cells(config: CompareConfig) -> Iterator[Cell]:
    """Every variant at every task, depth and width; variants next to each other."""
    for label, run in config.labelled().items():
        depths = config.depths or (max(map(run.model.depth, ("encoder", "decoder"))),)
        widths = config.widths or (run.model.d_model,)
        for depth, width, variant in itertools.product(depths, widths, config.variants):
            yield Cell(label, variant, depth, width)


def base_run(config: CompareConfig, cell: Cell) -> TrainConfig:
    """The run of a cell before anything is tuned or matched.

    A depth that is compared is that of both stacks of an encoder-decoder; where none is, each
    keeps its own, and the cell goes by the deeper one.

    Raises:
        ConfigError: naming the cell, when such a run cannot work.
    """
    run = config.labelled()[cell.task]
    model = dataclasses.replace(run.model, variant=cell.variant, d_model=cell.width)
    if config.depths:
        model = dataclasses.replace(
            model, num_layers=cell.depth, num_encoder_layers=None, num_decoder_layers=None
        )
    apart = config.test_path is not None or config.test_split is not None
    data = run.data
    if not apart:
        data = dataclasses.replace(data, validation_half="first")
    made = dataclasses.replace(
        run,
        model=model,
        data=data,
        sample_tokens=0,
        judge=False,  # that is scoring's, where it is needed
        # One is enough to open, resume and diagnose the run.
        checkpoint=dataclasses.replace(run.checkpoint, keep=1, keep_best=False),
    )
    try:
        made.validate()
    except ZooError as error:
        raise ConfigError(
            f"{cell.variant} at {cell.depth} layers, width {cell.width}: {error}"
        ) from error
    return made


def test_data(config: CompareConfig, run: TrainConfig) -> TrainConfig:
    """The same run with what no choice has seen as its held-out part."""
    data = run.data
    if config.test_path is not None:
        data = dataclasses.replace(
            data,
            validation_path=config.test_path,
            validation_target_path=config.test_target_path,
        )
    elif config.test_split is not None:
        data = dataclasses.replace(data, validation_split=config.test_split)
    else:
        data = dataclasses.replace(data, validation_half="second")
    return dataclasses.replace(run, data=data)


def make_spec(
    config: CompareConfig,
    cell: Cell,
    run: TrainConfig,
    *,
    phase: Phase,
    setting: Setting,
    place: int,
    share: float = 1.0,
) -> Spec:
    """The run of a setting on one seed.

    Args:
        run: of the cell, matched to the first variant.
        place: in the list of the phase's seeds. Runs of equal place read the data in the same
            order, whatever their variant; their weights are drawn from the place and the variant.
        share: of the steps.
    """
    first = run.seed + place + (_TUNING_SEEDS if phase == "tuning" else 0)
    own = 1_000_000 * (zlib.crc32(cell.variant.encode()) % 4000)
    made = _settled(shortened(run, share), tuple(setting.items()))
    made = dataclasses.replace(made, seed=(first + own) % 2**32, data_seed=first)
    name = _folder(cell, setting, made, place)
    made = dataclasses.replace(made, workdir=str(config.workdir / "runs" / name))
    row = Row(
        run=name,
        phase=phase,
        task=cell.task,
        variant=cell.variant,
        depth=cell.depth,
        width=cell.width,
        setting=dict(setting),
        seed=first,
        steps=made.steps,
    )
    return Spec(row, made)


def shortened(run: TrainConfig, share: float) -> TrainConfig:
    """The run with a share of its steps, and of a warm-up that it names."""
    optim, warmup = run.optim, run.optim.warmup
    if warmup is not None:
        optim = dataclasses.replace(optim, warmup=round(warmup * share))
    return dataclasses.replace(run, steps=max(1, round(run.steps * share)), optim=optim)


@functools.lru_cache(maxsize=10_000)
def _settled(run: TrainConfig, items: tuple[tuple[str, Any], ...]) -> TrainConfig:
    return with_setting(run, dict(items))


def with_setting(run: TrainConfig, setting: Setting) -> TrainConfig:
    """The run with dotted fields replaced.

    Raises:
        ConfigError: when the result cannot work.
    """
    tree: dict[str, Any] = dataclasses.asdict(run)
    for name, value in setting.items():
        *sections, field = name.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[field] = value
    made = from_dict(tree)
    try:
        made.validate()
    except ZooError as error:
        parts = [f"{name} = {value}" for name, value in setting.items()]
        shown = ", ".join(part for part in parts if part not in str(error))
        raise ConfigError(f"space: {shown and f'{shown}: '}{error}") from error
    return made


def points(config: CompareConfig) -> list[Setting]:
    """The settings to try, the same for every variant.

    Lists are crossed. With a range there are `trials` points of a scrambled Sobol sequence, in
    which a list takes the value whose share of the way it falls into. Where a setting is a whole
    number points may coincide: each is tried once.
    """
    space = config.space
    if not space:
        return [{}]
    if not any(isinstance(values, Range) for values in space.values()):
        made = itertools.product(*(tuple(values) for values in space.values()))  # type: ignore[arg-type]
        return [dict(zip(space, each, strict=True)) for each in made]
    from scipy.stats import qmc

    size = 1 << (config.trials - 1).bit_length()  # the sequence is even in powers of two
    seed = next(iter(config.labelled().values())).seed
    sobol = qmc.Sobol(d=len(space), scramble=True, rng=seed).random(size)[: config.trials]
    crossed = (
        tuple(
            _point(name, values, float(share))
            for (name, values), share in zip(space.items(), each, strict=True)
        )
        for each in sobol
    )
    return [dict(zip(space, each, strict=True)) for each in dict.fromkeys(crossed)]


def _point(name: str, values: Any, share: float) -> Any:
    if isinstance(values, Range):
        value = values.at(share)
        return round(value) if is_whole(TrainConfig, name) else float(f"{value:.4g}")
    return values[min(int(share * len(values)), len(values) - 1)]


def _folder(cell: Cell, setting: Setting, run: TrainConfig, place: int) -> str:
    """A name that says what the run is, and ends in the hash of what it computes."""
    words = [cell.task, cell.variant, f"{cell.depth}L", f"{cell.width}d"]
    words += [f"{name.rpartition('.')[2]}{value}" for name, value in setting.items()]
    words += [f"s{place}", f"{run.steps}steps", _identity(run)]
    return re.sub(r"[^\w.+-]+", "_", "-".join(words))


@functools.lru_cache(maxsize=100_000)
def _identity(run: TrainConfig) -> str:
    return identity(run, ignore=_NOT_WHAT_IT_COMPUTES)
