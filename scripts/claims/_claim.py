"""What a claim is: said before it is run, judged by a rule that was fixed before."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.compare.comparison import Comparison
from zoo.compare.config import CompareConfig, load_compare_config
from zoo.compare.results import Row, read_curve
from zoo.compare.statistics import Pair
from zoo.data.config import DataConfig
from zoo.data.loader import open_data
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig

ROOT = Path(__file__).resolve().parents[2]
Word = Literal["confirmed", "not seen", "reversed"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        word: of the claim, at this scale.
        figures: what the rule looked at, by name.
        interval: of the figure that decides, where it has one.
    """

    word: Word
    figures: Mapping[str, float | str | None]
    interval: tuple[float, float] | None = None


Found = Mapping[str, Comparison]
"""The comparisons of a claim by label."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of the literature that can fail.

    Attributes:
        name: of the command: `python scripts/claims NAME`.
        statement: what is said, in a sentence.
        source: by whom, where.
        expectation: what is expected at the scale of this experiment.
        metric: what is looked at.
        rule: when it is confirmed, not seen or reversed, in words.
        comparisons: `comparisons(scale)` by label; scale multiplies the steps.
        judge: the rule as code.
        control: whether it tests the method rather than the literature.
        minutes: on 2 cores, about.
        files: of a folder that the user has; the configs name them relative to it.
    """

    name: str
    statement: str
    source: str
    expectation: str
    metric: str
    rule: str
    comparisons: Callable[[float], dict[str, CompareConfig]]
    judge: Callable[[Found], Verdict]
    control: bool = False
    minutes: int = 5
    files: tuple[str, ...] = ()

    def hash(self, scale: float) -> str:
        """Of the claim's file and the scale: what must not change once it has been run."""
        file = Path(inspect.getfile(self.judge))
        content = file.read_bytes() + f"scale {scale:g}".encode()
        return hashlib.sha256(content).hexdigest()[:16]


def decoder(
    variants: Sequence[str],
    *,
    depth: int,
    steps: int,
    lr: Sequence[float],
    seeds: int = 3,
    d_model: int = 64,
    model: Mapping[str, Any] | None = None,
    optim: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    **more: Any,
) -> CompareConfig:
    """Byte-level decoders on the source of the Python standard library, 4 × 128 bytes a step."""
    return CompareConfig(
        variants=tuple(variants),
        depths=(depth,),
        space={"optim.lr": tuple(lr)},
        seeds=seeds,
        **{"extend": 0, "layers": False, **more},
        run=TrainConfig(
            steps=steps,
            tensorboard=False,
            log_every=5,
            eval_every=steps,
            eval_batches=64,
            model=ModelConfig(d_model=d_model, num_heads=4, **(model or {})),
            data=DataConfig(**{"batch_size": 4, "length": 128, **(data or {})}),
            optim=OptimConfig(**(optim or {})),
        ),
    )


MULTI30K = tuple(
    f"{part}.{language}"
    for part in ("train", "val", "test_2016_flickr")
    for language in ("en", "de")
)


def translation(variants: Sequence[str], *, depth: int, steps: int) -> CompareConfig:
    """configs/compare/translation.py on the English and German sentences of Multi30k."""
    config = load_compare_config(ROOT / "configs" / "compare" / "translation.py")
    train, target, val, val_target, test, test_target = MULTI30K
    data = dataclasses.replace(
        config.run.data,
        path=train,
        target_path=target,
        validation_path=val,
        validation_target_path=val_target,
    )
    return dataclasses.replace(
        config,
        variants=tuple(variants),
        depths=(depth,),
        layers=False,
        workers=2,
        test_path=test,
        test_target_path=test_target,
        run=dataclasses.replace(config.run, steps=steps, eval_every=steps, data=data),
    )


def finals(found: Comparison, variant: str) -> list[Row]:
    """The final runs of a variant, in the order of their seeds."""
    rows = [row for row in found.rows if row.phase == "final" and row.variant == variant]
    return sorted(rows, key=lambda row: row.seed)


def mean(found: Comparison, variant: str) -> float | None:
    """Mean test figure; None where a run did not finish."""
    values = [row.test for row in finals(found, variant)]
    if not values or None in values:
        return None
    return sum(value for value in values if value is not None) / len(values)


def frequencies(config: CompareConfig) -> float:
    """Bits a byte of the text that verdicts rest on under its own byte frequencies."""
    data = dataclasses.replace(config.run.data, validation_half="second")
    batches = open_data(data).eval_batches(max_batches=config.run.eval_batches)
    counts = np.bincount(np.concatenate([rows["tokens"].ravel() for rows in batches]))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def curve(found: Comparison, row: Row) -> list[dict[str, Any]]:
    """The logged steps of a run."""
    return read_curve(row, found.workdir / "runs")


def pair(found: Comparison, a: str, b: str) -> Pair:
    """The statistics of two variants over all places, `a` first: negative where it is lower.

    Raises:
        LookupError: when the comparison has no such pair.
    """
    places = {each.condition for each in found.analysis.pairs}
    for each in found.analysis.pairs:
        if {each.a, each.b} != {a, b} or not (each.condition is None or len(places) == 1):
            continue
        if each.a == a:
            return each
        swapped = {"a better": "b better", "b better": "a better"}
        turned = [None if value is None else -value for value in (each.difference, each.effect)]
        low, high = (None if value is None else -value for value in (each.high, each.low))
        return dataclasses.replace(
            each,
            a=a,
            b=b,
            difference=turned[0],
            effect=turned[1],
            low=low,
            high=high,
            verdict=swapped.get(each.verdict, each.verdict),
        )
    raise LookupError(f"no pair of {a} and {b}")


def interval(pair: Pair) -> tuple[float, float] | None:
    """Of the difference, where there is one."""
    return None if pair.low is None or pair.high is None else (pair.low, pair.high)
