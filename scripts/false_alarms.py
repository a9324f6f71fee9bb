"""How often the statistics of a comparison are wrong, where the truth is known.

    python scripts/false_alarms.py           # two minutes: results/false_alarms.jsonl and the page
    python scripts/false_alarms.py --page    # docs/statistics.md from what is there

Sweeps are drawn in which no variant is better than any other, and every verdict is a false alarm;
then sweeps with one difference of the size that is called detectable.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from zoo.compare.intervals import (
    Array,
    cell_half_width,
    contrast,
    detectable,
    families,
    measure,
    p_value,
    range_quantile,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "results" / "false_alarms.jsonl", ROOT / "docs" / "statistics.md"
SWEEPS, BATCH, BOOTSTRAPPED = 4000, 100, 100
LEVEL = 0.05
Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclasses.dataclass(frozen=True)
class World:
    """How runs scatter: `sigma` makes standard deviations [conditions, variants] of ones."""

    name: str
    sigma: Callable[[Array, np.random.Generator], Array]
    noise: str = "normal"
    sizes: tuple[tuple[int, int, int], ...] = ((6, 3, 3),)  # variants, conditions, seeds


NOISE: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy-tailed (t, 3 degrees)": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
}
HEAVY, SKEWED = list(NOISE)[1:]
SIZES = ((6, 3, 3), (2, 1, 3), (2, 3, 3), (6, 1, 3), (10, 4, 3), (6, 3, 5), (6, 3, 2))


def alike(ones: Array, _: np.random.Generator) -> Array:
    return ones


def by_depth(ones: Array, _: np.random.Generator) -> Array:
    return ones * (2.0 ** np.arange(len(ones)))[:, None]


def one_variant(times: float) -> Callable[[Array, np.random.Generator], Array]:
    def sigma(ones: Array, _: np.random.Generator) -> Array:
        ones[:, 0] = times
        return ones

    return sigma


def deep(count: int, times: float) -> Callable[[Array, np.random.Generator], Array]:
    def sigma(ones: Array, _: np.random.Generator) -> Array:
        ones[-1, :count] = times
        return ones

    return sigma


def at_random(scale: float) -> Callable[[Array, np.random.Generator], Array]:
    return lambda ones, rng: ones * np.exp(scale * rng.standard_normal(ones.shape))


WORLDS = (
    World("all cells scatter alike", alike, sizes=SIZES),
    World("twice as much with each depth", by_depth),
    World("one variant 4 times as much", one_variant(4)),
    World("one variant 10 times as much", one_variant(10)),
    World("one variant 3 times as much at the last depth", deep(1, 3)),
    World("one variant 10 times as much at the last depth", deep(1, 10), sizes=SIZES),
    World("two variants 5 times as much at the last depth", deep(2, 5)),
    World("three variants 4 times as much at the last depth", deep(3, 4)),
    World("each cell by its own factor, mostly 0.6 to 1.6", at_random(0.5)),
    World("each cell by its own factor, mostly 0.4 to 2.7", at_random(1.0)),
    World("all cells scatter alike", alike, HEAVY),
    World("one variant 10 times as much at the last depth", deep(1, 10), HEAVY),
    World("all cells scatter alike", alike, SKEWED),
    World("twice as much with each depth", by_depth, SKEWED),
    World("one variant 4 times as much", one_variant(4), SKEWED),
    World("one variant 4 times as much at the last depth", deep(1, 4), SKEWED),
    World("one variant 10 times as much at the last depth", deep(1, 10), SKEWED),
)
POWERED = ((6, 3, 3), (2, 1, 3), (2, 3, 3), (3, 1, 3), (6, 1, 3), (6, 3, 5), (6, 3, 10), (10, 4, 3))


# -- simulation --------------------------------------------------------------------------------


# Of scores [sweeps, conditions, variants, seeds]: whether a difference is shown, by condition and
# over all of them, each [sweeps, pairs].
Judge = Callable[[Array], list[Array]]


def by_family(values: Array) -> Iterator[tuple[Array, Array]]:
    """(conditions, differences of means [sweeps, pairs]) of each condition, then of all."""
    conditions, variants = values.shape[1:3]
    a, b = np.triu_indices(variants, 1)
    places = [np.array([c]) for c in range(conditions)]
    for where in places if conditions == 1 else [*places, np.arange(conditions)]:
        mean = values[:, where].mean((1, 3))
        yield where, mean[:, a] - mean[:, b]


def judge(values: Array) -> list[Array]:
    """What `zoo.compare.statistics.analyse` finds, in many sweeps at once."""
    _, conditions, variants, seeds = values.shape
    runs = np.full((conditions, variants), seeds)
    spread = measure(values.var(-1, ddof=1), runs - 1)
    a, b = np.triu_indices(variants, 1)
    shown = []
    for where, apart in by_family(values):
        found = contrast(spread, runs, a, b, where)
        p = p_value(apart, found, spread.share[:, None], variants=variants)
        shown.append(p < LEVEL / families(conditions))
    return shown


def cells(values: Array) -> Array:
    """Whether the interval of a cell by itself holds 0 [sweeps, conditions, variants]."""
    runs = np.full(values.shape[1:3], values.shape[3])
    spread = measure(values.var(-1, ddof=1), runs - 1)
    return np.abs(values.mean(-1)) <= cell_half_width(spread, runs, confidence=1 - LEVEL)


def pooled(values: Array) -> list[Array]:
    """By Tukey's test with one variance a condition; families have their share of the error."""
    _, conditions, variants, seeds = values.shape
    variance = values.var(-1, ddof=1).mean(-1)
    df = variants * (seeds - 1)
    shown = []
    for where, apart in by_family(values):
        at = variance[:, where] / len(where) ** 2
        total = at.sum(1)
        freedom = total**2 / (at**2 / df).sum(1)
        limit = range_quantile(LEVEL / families(conditions), variants, freedom)
        shown.append(np.abs(apart) > (limit * np.sqrt(total / seeds))[:, None])
    return shown


def welch(values: Array) -> list[Array]:
    """By Welch's test with each pair's own variances, corrected for all pairs (Bonferroni)."""
    _, conditions, variants, seeds = values.shape
    a, b = np.triu_indices(variants, 1)
    part = values.var(-1, ddof=1) / seeds
    count = families(conditions) * len(a)
    shown = []
    for where, apart in by_family(values):
        scaled = part[:, where] / len(where) ** 2
        sums, squares = scaled.sum(1), (scaled**2).sum(1) / (seeds - 1)
        variance = sums[:, a] + sums[:, b]
        df = variance**2 / (squares[:, a] + squares[:, b])
        shown.append(np.abs(apart) > -special.stdtrit(df, LEVEL / 2 / count) * np.sqrt(variance))
    return shown


def bootstrap(values: Array) -> list[Array]:
    """By the percentiles of all resamples of each pair's runs at 95 %, uncorrected."""
    _, conditions, variants, seeds = values.shape
    picks = np.array(list(itertools.product(range(seeds), repeat=seeds)))
    means = values[..., picks].mean(-1)  # [sweeps, conditions, variants, resamples]
    shown = []
    for a, b in itertools.combinations(range(variants), 2):
        apart = means[:, :, a, :, None] - means[:, :, b, None, :]
        low, high = np.quantile(apart.reshape(*apart.shape[:2], -1), [0.025, 0.975], axis=-1)
        shown.append((low > 0) | (high < 0))
    return [np.stack([of[:, c] for of in shown], -1) for c in range(conditions)]


def anything(shown: list[Array]) -> Array:
    """Sweeps [sweeps] in which any difference is shown."""
    return np.any([family.any(1) for family in shown], axis=0)


def draws(
    world: World, size: tuple[int, int, int], rng: np.random.Generator, sweeps: int
) -> Iterator[Array]:
    variants, conditions, seeds = size
    for start in range(0, sweeps, BATCH):
        count = min(BATCH, sweeps - start)
        sigma = np.stack([world.sigma(np.ones((conditions, variants)), rng) for _ in range(count)])
        yield NOISE[world.noise](rng, (count, conditions, variants, seeds)) * sigma[..., None]


def false_alarms(world: World, size: tuple[int, int, int], sweeps: int) -> dict[str, Any]:
    """Shares of sweeps with any false verdict, and of cells whose interval covers the truth."""
    judges: dict[str, Judge] = {"here": judge, "pooled": pooled, "welch": welch}
    wrong: dict[str, list[Array]] = {name: [] for name in judges}
    if size == (6, 3, 3):  # all pairs of all resamples: few runs only
        wrong["bootstrap"] = []
    held = []
    for batch, values in enumerate(draws(world, size, np.random.default_rng(0), sweeps)):
        for name, of in judges.items():
            wrong[name].append(anything(of(values)))
        held.append(cells(values))
        if batch == 0 and "bootstrap" in wrong:
            wrong["bootstrap"].append(anything(bootstrap(values[:BOOTSTRAPPED])))
    covered = np.concatenate(held).mean(0)
    return {
        "kind": "false alarms",
        "world": world.name,
        "noise": world.noise,
        **_sizes(size),
        "sweeps": sweeps,
        **{name: _share(np.concatenate(found)) for name, found in wrong.items()},
        "cells": round(float(covered.mean()), 4),
        "worst_cell": round(float(covered.min()), 4),
    }


def power(size: tuple[int, int, int], sweeps: int) -> Iterator[dict[str, Any]]:
    """How often a planted difference of the size that is called detectable is shown."""
    variants, conditions, seeds = size
    for overall in (False, True) if conditions > 1 else (False,):
        planted = detectable(
            1.0, seeds=seeds, variants=variants, conditions=conditions, overall=overall
        )
        shown: dict[str, list[Array]] = {"shown": [], "welch": []}
        for values in draws(World("", alike), size, np.random.default_rng(1), sweeps):
            values[:, slice(None) if overall else 0, -1] += planted
            for name, of in {"shown": judge, "welch": welch}.items():
                # the pair of the first variant and the last
                shown[name].append(of(values)[-1 if overall else 0][:, variants - 2])
        yield {
            "kind": "power",
            **_sizes(size),
            "overall": overall,
            "sweeps": sweeps,
            "planted": round(float(planted), 3),
            **{name: _share(np.concatenate(found)) for name, found in shown.items()},
        }


def _sizes(size: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("variants", "conditions", "seeds"), size, strict=True))


def _share(found: Array) -> float:
    return round(float(found.mean()), 4)


def rows(sweeps: int = SWEEPS) -> Iterator[dict[str, Any]]:
    for world in WORLDS:
        for size in world.sizes:
            yield false_alarms(world, size, sweeps)
    for size in POWERED:
        yield from power(size, sweeps)


# -- page --------------------------------------------------------------------------------------


VERDICTS = (
    (
        "a better, b better",
        "the interval of the difference leaves out 0. In at most one sweep of twenty is even one "
        "of these false.",
    ),
    (
        "no difference shown",
        'the interval holds 0. This is not "they are equal": `detectable` says how large a '
        "difference would have been shown four times in five, had there been one.",
    ),
    (
        "equivalent",
        "the interval lies within ± the smallest difference that matters, which you set "
        "(`smallest`).",
    ),
    (
        "no verdict",
        "the runs cannot say: one seed, seeds that all gave one score, a variant that failed more "
        "often than the other though not beyond chance, or a best setting at the end of the space "
        "that was searched. `reason` or a note says which.",
    ),
)
TEXT = """# What the verdicts of a comparison mean

Made by `python scripts/false_alarms.py`, which also makes the numbers
(`results/false_alarms.jsonl`).

`zoo compare` gives each variant a few runs that differ by their seed, and asks of every two
variants whether one is better: under each condition (a task, a depth and a width) and over all of
them.

{{verdicts}}

The intervals hold **together**: in at least 95 % of sweeps all of them cover the truth. So you
may pick out the largest difference after the fact. The `p` beside each is corrected for all
comparisons of the sweep; it is below 0.05 just where the interval leaves out 0. `effect` is the
difference in standard deviations of a run, with Hedges' correction for few runs. The interval of
a single cell is for that cell alone.

**The mean over conditions** is the mean of the differences under each, over the conditions that
both variants finished. Where the order of two variants is shown one way at one condition and the
other way at another, a note says so, since the mean then says little. With one condition a note
says "one scale only".

**Runs that fail** (diverged, or crashed) have no score and are never averaged. In the ranking a
variant that failed where another finished stands below it. A verdict needs more: that it failed
more often is tested exactly (Fisher's test, stratified by condition, corrected for all pairs),
and with three seeds under one condition nothing of the kind can be shown. A variant that fails
more often, but scores better where it finishes, gets no verdict.

**Places** in the ranking count how many others failed less or are better; what was not told apart
shares a place, and so does a variant whose verdict is withheld.

## How often they are wrong

{{sweeps}} simulated sweeps of 6 variants x 3 conditions x 3 seeds, in which no variant is better
than any other. "Here" is the share of sweeps with any false verdict, which should be at most 5 %.
Beside it are other ways to judge the same runs, with the same correction for families unless
said: Tukey's test with one variance for all variants of a condition; each pair's own two
variances (Welch, Bonferroni); and a percentile bootstrap of each pair's three runs at 95 %,
uncorrected (first {{bootstrapped}} sweeps), which is still common. The last two columns are how
often the interval of a cell by itself covers its mean (95 % is meant): over all cells, and of the
cell where it does worst.

{{worlds}}

- The rule holds where variants, depths or single cells scatter differently, as deep stacks near
  divergence do. One variance for all does not: one erratic variant makes it wrong in every third
  to sixth sweep, and hides what the others show, since it raises the variance for all.
- It is not free: where all cells scatter alike, one variance would have done, and its intervals
  are narrower by a fifth or so. Three runs cannot show that it would have. Each pair's own
  variances are as seldom wrong, but show next to nothing (below).
- It fails where scores are strongly skewed *and* a cell or two scatter ten times as much: the
  mean of three runs then says little about what it estimates. Such a cell is named in the notes
  ("Variances differ"); give that variant more seeds before believing a verdict on it.

Other sizes of a sweep:

{{sizes}}

With two seeds and one very noisy cell the rule does not hold, and the analysis says so. Use
three.

## What can be shown

Where all cells scatter alike, a difference is shown four times in five if it is this many
standard deviations of a run (`detectable`). "Shown" is how often it was, in {{sweeps}} sweeps,
and the last column how often it would be by each pair's own variances.

{{power}}

Three seeds show large differences under one condition and moderate ones over all. What helps most
is more conditions for the mean and a fourth and fifth seed for each, then fewer variants.

## How it is done

[`zoo/compare/intervals.py`](../zoo/compare/intervals.py) says it in full. In short: each cell's
variance is averaged with what its condition and its variant lead one to expect, as in limma
(Smyth 2004); a difference is judged in Welch's way against the studentised range of all variants;
conditions and their mean share the 5 % equally; and the more the spreads differ, the more of the
5 % is kept in reserve, down to a quarter that is spent. Seeds are not treated as blocks, though
variants share the order of the data by seed: a block effect cancels in differences, and to
estimate it would cost two of twelve degrees of freedom a condition, or half of them with two
variants.
"""


def page(found: list[dict[str, Any]]) -> str:
    alarms = [row for row in found if row["kind"] == "false alarms"]
    default = [row for row in alarms if _size(row) == (6, 3, 3)]
    others = [row for row in alarms if _size(row) != (6, 3, 3)]
    columns = ("here", "pooled", "welch", "bootstrap", "cells", "worst_cell")
    names = ("here", "one variance", "own variances", "bootstrap", "a cell's interval", "worst")
    worlds = _table(
        ("noise", "spread", *names),
        [(row["noise"].split()[0], row["world"], *(_percent(row[c]) for c in columns))
         for row in default],
    )  # fmt: skip
    sizes = _table(
        ("variants", "conditions", "seeds", "spread", "here", "one variance", "own variances"),
        [(*_size(row), row["world"], *(_percent(row[c]) for c in columns[:3])) for row in others],
    )
    powered = _table(
        ("variants", "conditions", "seeds", "difference", "detectable", "shown", "own variances"),
        [(*_size(row), "mean over conditions" if row["overall"] else "under one condition",
          f"{row['planted']:.1f}", _percent(row["shown"]), _percent(row["welch"]))
         for row in found if row["kind"] == "power"],
    )  # fmt: skip
    verdicts = _table(("verdict", "it means"), list(VERDICTS))
    parts = {"verdicts": verdicts, "worlds": worlds, "sizes": sizes, "power": powered}
    counts = {"sweeps": f"{alarms[0]['sweeps']:,}", "bootstrapped": str(BOOTSTRAPPED)}
    text = TEXT
    for name, part in {**parts, **counts}.items():
        text = text.replace(f"{{{{{name}}}}}", part)
    return text


def _size(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["variants"], row["conditions"], row["seeds"]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _table(header: tuple[str, ...], body: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *body]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page alone")
    if not parser.parse_args().page:
        lines = []
        for row in rows():
            lines.append(json.dumps(row))
            print(lines[-1], flush=True)
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
