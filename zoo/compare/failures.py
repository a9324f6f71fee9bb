"""Whether one variant's runs fail more often than another's, tested exactly."""

from __future__ import annotations

import functools
import math
from itertools import combinations

import numpy as np

from zoo.compare.intervals import Array

Strata = tuple[tuple[int, int, int, int], ...]


def fails_more(runs: Array, failed: Array, a: int, b: int) -> int:
    """1 where variant `a` failed more often than `b`, -1 where less, 0 where as often.

    Only conditions that both were run on count, each as much as any other.

    Args:
        runs: finished [conditions, variants].
        failed: not finished, of the same shape.
    """
    both = failed[:, [a, b]]
    if not both.any():
        return 0
    total = both + runs[:, [a, b]]
    shared = (total > 0).all(1)
    rate = (both[shared] / total[shared]).sum(0)
    return int(np.sign(round(rate[0] - rate[1], 9)))


def failure_p(runs: Array, failed: Array, a: int, b: int, where: Array, *, tests: int) -> float:
    """p of equal chances to fail under the conditions `where`, corrected for `tests_of_failures`.

    Args:
        runs, failed: [conditions, variants].
    """
    return min(1.0, exact_test(_strata(runs, failed, a, b, where))[0] * tests)


def tests_of_failures(runs: Array, failed: Array, *, level: float) -> int:
    """How many tests share the level: all pairs, under each condition and over all of them.

    One whose least possible p is above the level that it would have to reach cannot be a false
    alarm, and is not counted (Tarone 1990, "A modified Bonferroni method for discrete data"): most
    have no failures, or few runs.

    Args:
        runs, failed: [conditions, variants].
        level: how often any of these tests may be wrong.
    """
    conditions, variants = runs.shape
    places = [np.arange(conditions)]
    if conditions > 1:
        places += [np.array([c]) for c in range(conditions)]
    least = [
        exact_test(_strata(runs, failed, *pair, place))[1]
        for pair in combinations(range(variants), 2)
        for place in places
    ]
    count = 1
    while sum(value <= level / count for value in least) > count:
        count += 1
    return count


@functools.lru_cache(maxsize=4096)
def exact_test(strata: Strata) -> tuple[float, float]:
    """(p, the least p that could come out) of equal chances to fail, two-sided.

    Fisher's test, stratified by condition: given how many of both variants' runs failed in each,
    the failures of the first are hypergeometric there and their sum is a convolution; sums no more
    likely than the one seen count as extreme.

    Args:
        strata: (failed of a, runs of a, failed of b, runs of b) of each condition.
    """
    chances, least, seen = np.ones(1), 0, 0
    for failed_a, runs_a, failed_b, runs_b in strata:
        failed = failed_a + failed_b
        low, high = max(0, failed - runs_b), min(failed, runs_a)
        ways = [math.comb(runs_a, k) * math.comb(runs_b, failed - k) for k in range(low, high + 1)]
        chances = np.convolve(chances, np.array(ways, float) / sum(ways))
        least, seen = least + low, seen + failed_a
    slack = 1 + 1e-9  # equal chances come out of sums in different orders
    p = chances[chances <= chances[seen - least] * slack].sum()
    return min(1.0, float(p)), float(chances[chances <= chances.min() * slack].sum())


def _strata(runs: Array, failed: Array, a: int, b: int, where: Array) -> Strata:
    total = runs + failed
    return tuple(
        (int(failed[c, a]), int(total[c, a]), int(failed[c, b]), int(total[c, b]))
        for c in where
        if total[c, a] and total[c, b]
    )
