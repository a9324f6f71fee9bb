"""Intervals for differences of means that hold at few runs a cell, whatever each cell's spread.

A cell is a variant under a condition; its runs differ by seed. With three runs its own variance is
nearly worthless (two degrees of freedom), and one variance for all cells is wrong where it matters:
deep stacks that are close to diverging scatter more, and a pooled variance then raises false alarms
about the noisy ones tenfold and hides differences between the quiet ones. So

1. each cell's variance is **moderated**: the average of its own and of what its condition and its
   variant lead one to expect, the latter counted as `prior` further degrees of freedom (the form
   of Smyth 2004, "Linear models and empirical Bayes methods", eq. for the posterior variance; the
   expectation here is a condition's geometric mean, which one noisy cell hardly moves, times the
   variant's factor over conditions, which may only raise it);
2. differences are measured in Welch's way, each cell with its own variance and degrees of freedom,
   against the **studentised range** of all variants (Tukey; as in Games and Howell 1976);
3. each condition and the mean over conditions are a **family**, and the families share what may go
   wrong equally (Bonferroni);
4. how alike the spreads look (Bartlett's test) decides how far cells lean on each other: `prior`
   goes from 2 to 4, and the share of the permitted error that is spent from a quarter to all. The
   rest is kept in reserve for what three runs cannot show about a cell's spread.

Seeds are no blocks. Variants share the order of the data, and what that does to all of them alike
cancels in their differences; leaving it in the variances makes intervals too wide at worst, while
taking it out costs `seeds - 1` degrees of freedom a condition (half of them for two variants).

The numbers in 1 and 4 were chosen by simulation; `scripts/false_alarms.py` measures what they do,
and docs/statistics.md says it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy import special

from zoo.errors import ConfigError

Array = np.ndarray[Any, Any]

# Degrees of freedom that the expected variance counts for, where spreads differ and where not.
PRIOR = (2.0, 4.0)
# The share of the permitted error that is spent where spreads plainly differ.
SHARE = 0.25
# Likeness is this many times Bartlett's p, at most 1.
GAIN = 2.0
# No variance counts as less than this share of its condition's mean: a coarse metric has ties.
FLOOR = 0.01


@dataclasses.dataclass(frozen=True)
class Spread:
    """What is known of the cells' variances; leading axes of the arrays are sweeps.

    Attributes:
        sample: variance of the cells' own runs [..., conditions, variants]; NaN where unknown.
        own: degrees of freedom of the same [conditions, variants].
        expected: the variance that condition and variant lead one to expect, of the same shape.
        level: the usual variance of a run in each condition [..., conditions].
        alike: Bartlett's p for equal variances within conditions [...].
    """

    sample: Array
    own: Array
    expected: Array
    level: Array
    alike: Array

    @property
    def likeness(self) -> Array:
        """How alike the spreads look, 0 to 1 [...]."""
        return np.minimum(1.0, GAIN * self.alike)

    @property
    def share(self) -> Array:
        """Of the permitted error, what is spent [...]."""
        return np.maximum(SHARE, self.likeness)

    def moderated(self, prior: Array) -> tuple[Array, Array]:
        """(variance of a run, its degrees of freedom), `prior` of them for what is expected."""
        weight = prior[..., None, None]
        df = weight + self.own
        with np.errstate(invalid="ignore"):
            return (weight * self.expected + self.own * self.sample) / df, df

    @property
    def variance(self) -> Array:
        """Moderated, for differences [..., conditions, variants]."""
        return self.moderated(self.prior)[0]

    @property
    def df(self) -> Array:
        """Degrees of freedom of the same."""
        return self.prior[..., None, None] + self.own

    @property
    def prior(self) -> Array:
        """Degrees of freedom that what is expected counts for in differences [...]."""
        return PRIOR[0] + (PRIOR[1] - PRIOR[0]) * self.likeness


def measure(variance: Array, own: Array) -> Spread:
    """What the sample variances say of each cell, and of what to expect of it.

    Args:
        variance: sample variances [..., conditions, variants]; whatever where `own` is 0.
        own: runs less one [conditions, variants]; 0 or less where a variance is unknown.
    """
    known = own > 0
    weight = np.where(known, own, 0.0)
    total = weight.sum(-1)
    filled = np.where(known, variance, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weight * filled).sum(-1) / total  # [..., conditions]
        filled = np.maximum(filled, FLOOR * mean[..., None])
        usable = known & (mean[..., None] > 0)
        log = np.where(usable, np.log(np.where(usable, filled, 1.0)), 0.0)
        # log of a χ² variance lies below the log of what it estimates, and scatters by trigamma
        half = np.maximum(own, 1) / 2
        centred = log + np.where(usable, np.log(half) - special.digamma(half), 0.0)
        precision = np.where(usable, 1 / special.polygamma(1, half), 0.0)
        level = np.exp((precision * centred).sum(-1) / precision.sum(-1))
        ratio = np.where(usable, weight * filled / level[..., None], 0.0)
        factor = ratio.sum(-2) / np.where(usable, weight, 0.0).sum(-2)  # [..., variants]
        expected = level[..., None] * np.fmax(factor, 1.0)[..., None, :]
        alike = _bartlett(np.where(usable, filled, 1.0), np.where(usable, weight, 0.0))
    return Spread(
        sample=np.where(usable, filled, np.nan),
        own=weight,
        expected=expected,
        level=np.where(mean > 0, level, np.nan),
        alike=alike,
    )


def _bartlett(variance: Array, df: Array) -> Array:
    """p of equal variances within each condition (Bartlett 1937), over all conditions [...]."""
    total = df.sum(-1)
    cells = (df > 0).sum(-1)
    pooled = (df * variance).sum(-1) / total
    statistic = total * np.log(pooled) - (df * np.log(variance)).sum(-1)
    inverse = np.where(df > 0, 1 / np.where(df > 0, df, 1), 0).sum(-1)
    correction = 1 + (inverse - 1 / total) / (3 * np.maximum(cells - 1, 1))
    counts = cells > 1
    freedom = np.where(counts, cells - 1, 0).sum(-1)
    value = np.where(counts, statistic / correction, 0.0).sum(-1)
    return np.where(freedom > 0, special.chdtrc(np.maximum(freedom, 1), np.maximum(value, 0)), 1.0)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Differences of variants: standard errors, degrees of freedom, the spread of a run [...]."""

    error: Array
    df: Array
    sigma: Array


def contrast(spread: Spread, runs: Array, a: Array, b: Array, conditions: Array) -> Contrast:
    """Of variants a and b, of the mean over some conditions (Welch and Satterthwaite).

    Args:
        runs: finished runs [conditions, variants].
        a, b: indices of variants [pairs], which become the last axis.
        conditions: indices, in all of which the spreads of these variants are known.
    """
    known, df = (of[..., conditions, :] for of in (spread.variance, spread.df))
    part = known / np.maximum(runs[conditions], 1) / len(conditions) ** 2
    mean, doubt = part.sum(-2), (part**2 / df).sum(-2)
    variance = mean[..., a] + mean[..., b]
    freedom = variance**2 / (doubt[..., a] + doubt[..., b])
    run = known.mean(-2)
    return Contrast(
        error=np.sqrt(variance),
        # what all cells know together is the most that can be known
        df=np.minimum(freedom, spread.own[conditions].sum()),
        sigma=np.sqrt((run[..., a] + run[..., b]) / 2),
    )


def half_width(found: Contrast, share: Array, *, level: float, variants: int) -> Array:
    """Of the simultaneous interval of a family that may be wrong with probability `level`."""
    return found.error * range_quantile(level * share, variants, found.df) / np.sqrt(2)


def p_value(difference: Array, found: Contrast, share: Array, *, variants: int) -> Array:
    """Of a family; below its `level` just where the interval of `half_width` leaves out 0."""
    ratio = np.abs(difference) / found.error * np.sqrt(2)
    return np.minimum(1.0, range_tail(ratio, variants, found.df) / share)


def cell_half_width(spread: Spread, runs: Array, *, confidence: float) -> Array:
    """Of the interval of each cell's mean by itself [..., conditions, variants]; NaN if unknown.

    Where spreads differ, an erratic cell cannot lean on others, and a cell whose few runs happen
    to lie close should not stand alone: the wider of both is taken. Alone means that what is
    expected counts for 4 degrees of freedom where spreads look alike, and goes to none.
    """
    halves = []
    for prior in (spread.prior, PRIOR[1] * spread.likeness):
        variance, df = spread.moderated(prior)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(variance / runs)
        halves.append(-special.stdtrit(df, (1 - confidence) / 2) * error)
    return np.maximum(*halves)


def families(conditions: int, *, failures: bool = False) -> int:
    """Among how many families the permitted error is shared: conditions, their mean, failures."""
    return (conditions + 1 if conditions > 1 else 1) + failures


def detectable(
    sigma: float,
    *,
    seeds: int,
    variants: int,
    conditions: int,
    confidence: float = 0.95,
    power: float = 0.8,
    overall: bool = False,
) -> float:
    """The smallest difference that a sweep shows with probability `power`.

    All cells are taken to scatter alike and no run to fail; a difference between noisy cells must
    be larger by about as much as they are noisier.

    Args:
        sigma: standard deviation of a run, in the metric's unit.
        seeds: runs a cell.
        overall: of the mean over conditions, instead of a difference under one of them.

    Raises:
        ConfigError: where nothing can be shown (one seed, one variant) or a number makes no sense.
    """
    for name, value, least in (("seeds", seeds, 2), ("variants", variants, 2)):
        if value < least:
            raise ConfigError(f"{name} = {value} shows no difference at all; use {least} or more")
    if conditions < 1:
        raise ConfigError(f"conditions = {conditions}; use 1 or more")
    for name, share in (("confidence", confidence), ("power", power)):
        if not 0 < share < 1:
            raise ConfigError(f"{name} = {share} lies outside of 0 to 1")
    level = (1 - confidence) / families(conditions)
    return sigma * _detectable(seeds, variants, conditions, level, power, overall)


@functools.lru_cache(maxsize=64)
def _detectable(
    seeds: int, variants: int, conditions: int, level: float, power: float, overall: bool
) -> float:
    draws, df = 2000, seeds - 1
    variance = np.random.default_rng(0).chisquare(df, (draws, conditions, variants)) / df
    spread = measure(variance, np.full((conditions, variants), df))
    where = np.arange(conditions if overall else 1)
    runs = np.full((conditions, variants), seeds)
    found = contrast(spread, runs, np.array([0]), np.array([1]), where)
    half = half_width(found, spread.share[:, None], level=level, variants=variants)
    error = np.sqrt(2 / seeds / len(where))
    low, high = 0.0, float(half.max()) + 10 * error
    for _ in range(50):
        middle = (low + high) / 2
        shown = special.ndtr((middle - half) / error) + special.ndtr((-middle - half) / error)
        low, high = (middle, high) if shown.mean() < power else (low, middle)
    return high


# -- the studentised range ---------------------------------------------------------------------
# scipy.stats.studentized_range takes tens of milliseconds a number, and an analysis needs hundreds.


def range_tail(q: Array | float, groups: int, df: Array | float) -> Array:
    """P(range of `groups` standard normals / independent root of χ²/df > q), to about 1e-6.

    Args:
        q: 0 or more, of any shape.
        df: 1 or more, of the same shape or one that broadcasts.
    """
    q, df = np.broadcast_arrays(np.asarray(q, float), np.asarray(df, float))
    if not df.size:
        return df
    ratio, weights = _chi(df)
    grid, log_tail = _normal_range(groups)
    tail = np.exp(np.interp(q[..., None] * ratio, grid, log_tail))
    return (tail * weights).sum(-1)


def range_quantile(tail: Array | float, groups: int, df: Array | float) -> Array:
    """The q whose `range_tail` is `tail`."""
    tail, df = np.broadcast_arrays(np.asarray(tail, float), np.asarray(df, float))
    ratio, weights = _chi(df)
    if not df.size:
        return df
    grid, log_tail = _normal_range(groups)

    def log_at(q: Array) -> Array:
        values = np.exp(np.interp(q[..., None] * ratio, grid, log_tail))
        return np.log((values * weights).sum(-1))

    # Bonferroni's bound lies just above; log p is nearly linear in log q there
    pairs = groups * (groups - 1) / 2
    high = -special.stdtrit(df, tail / 2 / pairs) * np.sqrt(2)
    x, target = np.log(high), np.log(tail)
    before, value = x - 0.05, log_at(high) - target
    old = log_at(np.exp(before)) - target
    for _ in range(8):
        slope = np.where(x == before, -1.0, (value - old) / np.where(x == before, 1.0, x - before))
        before, old, x = x, value, x - np.clip(value / np.minimum(slope, -0.1), -0.5, 0.5)
        value = log_at(np.exp(x)) - target
        if np.abs(value).max(initial=0) < 1e-7:
            break
    return np.exp(x)


def _chi(df: Array) -> tuple[Array, Array]:
    """(values, weights) [..., nodes] of the root of χ²/df, for sums over its distribution.

    Equal steps in the logarithm: the density is smooth and falls off at both ends, where such a
    sum converges faster than any power of the step.
    """
    low = -24 / df - 4 / np.sqrt(df)
    high = np.log1p(6 / np.sqrt(df) + 6 / df)
    x = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, 96)
    log_density = df[..., None] * (x - np.exp(2 * x) / 2)
    density = np.exp(log_density - log_density.max(-1, keepdims=True))
    return np.exp(x), density / density.sum(-1, keepdims=True)


@functools.lru_cache(maxsize=32)
def _normal_range(groups: int) -> tuple[Array, Array]:
    """(w, log P(range of `groups` standard normals > w)) on a grid."""
    w = np.concatenate([np.linspace(0, 14, 2801), [1e6]])
    z = np.linspace(-9, 9, 361)  # the smallest of them
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    within = special.ndtr(z + w[:, None]) - special.ndtr(z)
    tail = 1 - groups * (density * within ** (groups - 1)).sum(-1)
    return w, np.log(np.clip(tail, 1e-16, 1.0))
