"""Verdicts on simulated sweeps whose truth is known, and on small cases counted by hand."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from zoo.compare.failures import exact_test
from zoo.compare.intervals import range_quantile, range_tail
from zoo.compare.statistics import Analysis, Score, analyse, detectable, hedges
from zoo.errors import ConfigError, DataError

VARIANTS, DEPTHS, SEEDS, SWEEPS = 6, 3, 3, 200
# At most this many of SWEEPS may be wrong: 5 %.
MOST = SWEEPS // 20
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.exponential(size=shape) - 1


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_t(3, shape) / math.sqrt(3)


def spread_of(kind: str) -> np.ndarray:
    """Standard deviations [depths, variants]."""
    sigma = np.ones((DEPTHS, VARIANTS))
    if kind == "grows with depth":
        sigma *= np.array([[1.0], [2.0], [4.0]])
    elif kind == "one variant is noisy":
        sigma[:, 0] = 4
    elif kind == "one deep variant is erratic":
        sigma[-1, 0] = 10
    elif kind == "two deep variants are noisy":
        sigma[-1, :2] = 5
    return sigma


WORLDS = {
    "alike": (normal, "alike"),
    "grows with depth": (normal, "grows with depth"),
    "one variant is noisy": (normal, "one variant is noisy"),
    "one deep variant is erratic": (normal, "one deep variant is erratic"),
    "two deep variants are noisy": (normal, "two deep variants are noisy"),
    "skewed": (skewed, "grows with depth"),
    "heavy tails": (heavy, "one deep variant is erratic"),
}


def scores_of(values: np.ndarray) -> list[Score]:
    """[depths, variants, seeds] as scores."""
    return [
        Score(f"v{v}", f"depth {d}", s, float(values[d, v, s]))
        for d, v, s in itertools.product(*map(range, values.shape))
    ]


def sweeps(noise: Noise, sigma: np.ndarray, truth: np.ndarray, seed: int) -> list[Analysis]:
    """SWEEPS analyses; `truth` and `sigma` are [depths, variants]."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(SWEEPS):
        values = noise(rng, (*truth.shape, SEEDS)) * sigma[..., None] + truth[..., None]
        # seeds share the order of the data: what it does to all variants alike
        values += rng.standard_normal((len(truth), 1, SEEDS)) * 0.5
        found.append(analyse(scores_of(values)))
    return found


def true_difference(truth: np.ndarray, a: str, b: str, condition: str | None) -> float:
    difference = truth[:, int(a[1:])] - truth[:, int(b[1:])]
    return float(difference.mean() if condition is None else difference[int(condition[6:])])


def missed(found: list[Analysis], truth: np.ndarray) -> int:
    """Sweeps with an interval that leaves the truth out."""
    return sum(
        any(
            pair.low is None
            or pair.high is None
            or not pair.low <= true_difference(truth, pair.a, pair.b, pair.condition) <= pair.high
            for pair in analysis.pairs
        )
        for analysis in found
    )


@functools.lru_cache
def null_world(name: str) -> list[Analysis]:
    """Sweeps in which no variant is better than any other."""
    noise, kind = WORLDS[name]
    return sweeps(noise, spread_of(kind), np.zeros((DEPTHS, VARIANTS)), seed=7)


@functools.lru_cache
def planted_world() -> tuple[list[Analysis], np.ndarray]:
    """Variants that differ, but v1 is v0 under another name."""
    truth = np.random.default_rng(3).normal(0, 3, (DEPTHS, VARIANTS))
    truth[:, 1] = truth[:, 0]
    return sweeps(normal, spread_of("grows with depth"), truth, seed=8), truth


@pytest.mark.parametrize("world", WORLDS)
def test_a_sweep_without_differences_shows_one_in_at_most_one_of_twenty(world: str) -> None:
    found = null_world(world)
    wrong = [
        any("better" in pair.verdict for pair in analysis.pairs)
        or len({rank.place for rank in analysis.ranking}) > 1
        for analysis in found
    ]
    assert sum(wrong) <= MOST


def test_all_intervals_of_a_sweep_cover_the_truth_together() -> None:
    found, truth = planted_world()
    assert missed(found, truth) <= MOST


def test_a_verdict_says_what_its_interval_and_p_say() -> None:
    for analysis in planted_world()[0][:50]:
        for pair in analysis.pairs:
            assert pair.low is not None
            assert pair.high is not None
            assert pair.p is not None
            shown = pair.low > 0 or pair.high < 0
            assert (pair.p < 0.05) == shown
            assert ("better" in pair.verdict) == shown
            if shown:  # lower is better
                assert pair.verdict == ("a better" if pair.high < 0 else "b better")


def test_a_twin_is_not_told_apart_though_others_differ() -> None:
    found, _ = planted_world()
    told = sum(
        any({p.a, p.b} == {"v0", "v1"} and "better" in p.verdict for p in analysis.pairs)
        for analysis in found
    )
    assert told <= MOST
    others = [p for a in found for p in a.pairs if p.condition is None and p.a == "v0"]
    assert any("better" in p.verdict for p in others)


@pytest.mark.parametrize("world", ["alike", "grows with depth", "one variant is noisy", "skewed"])
def test_the_interval_of_a_cell_covers_its_mean(world: str) -> None:
    """The shared order of the data is part of what a cell's runs scatter by."""
    cells = [cell for analysis in null_world(world) for cell in analysis.cells.values()]
    inside = [cell.low <= 0 <= cell.high for cell in cells]  # type: ignore[operator]
    assert np.mean(inside) >= 0.95


@pytest.mark.parametrize("overall", [False, True])
def test_a_difference_that_is_called_detectable_is_detected_four_times_in_five(
    overall: bool,
) -> None:
    size = detectable(2.0, seeds=SEEDS, variants=4, conditions=2, overall=overall)
    truth = np.zeros((2, 4))
    truth[:, 3] = size * np.array([1, 1 if overall else 0])
    rng = np.random.default_rng(1)
    shown = 0
    for _ in range(SWEEPS):
        values = truth[..., None] + 2.0 * rng.standard_normal((2, 4, SEEDS))
        wanted = ("v0", "v3", None if overall else "depth 0")
        analysis = analyse(scores_of(values))
        shown += any((p.a, p.b, p.condition) == wanted and p.verdict == "a better"
                     for p in analysis.pairs)  # fmt: skip
    # three standard errors of a share of 200
    assert shown / SWEEPS == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / SWEEPS))


def test_a_noisy_variant_does_not_hide_what_the_others_show() -> None:
    """One pooled variance would: 100 times the variance in one of six cells."""
    rng = np.random.default_rng(2)
    sigma, truth = spread_of("one deep variant is erratic"), np.zeros((DEPTHS, VARIANTS))
    truth[-1, 5] = 10
    shown = []
    for _ in range(40):
        values = rng.standard_normal((*truth.shape, SEEDS)) * sigma[..., None] + truth[..., None]
        pairs = analyse(scores_of(values)).pairs
        shown.append(next(p for p in pairs if (p.a, p.b, p.condition) == ("v4", "v5", "depth 2")))
    assert np.mean([p.verdict == "a better" for p in shown]) > 0.7
    pooled = math.sqrt((100 + 5) / 6)  # and its Tukey interval, at 12 degrees of freedom
    assert stats.studentized_range.isf(0.0125, 6, 12) * pooled / math.sqrt(3) > 10


@pytest.mark.parametrize("groups", [2, 3, 6, 12])
@pytest.mark.parametrize("df", [1.0, 2.0, 4.0, 7.3, 36.0, 300.0])
def test_the_studentised_range_is_scipys(groups: int, df: float) -> None:
    for tail in (0.3, 0.05, 0.0125, 0.001):
        exact = stats.studentized_range.isf(tail, groups, df)
        # scipy's own isf is a search with a tolerance of about 1e-5
        assert float(range_quantile(tail, groups, df)) == pytest.approx(exact, rel=1e-4)
        assert float(range_tail(exact, groups, df)) == pytest.approx(tail, rel=2e-4)


def test_with_many_seeds_the_intervals_are_tukeys() -> None:
    """What is known of each cell then outweighs what others lead one to expect."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 400))
    noise = (noise - noise.mean(1, keepdims=True)) / noise.std(1, ddof=1, keepdims=True)
    values = noise + np.array([[0.0], [0.1], [1.0]])
    known = stats.tukey_hsd(*values)
    bounds = known.confidence_interval()
    for pair in analyse(scores_of(values[None])).pairs:
        a, b = int(pair.a[1:]), int(pair.b[1:])
        assert pair.low == pytest.approx(bounds.low[a, b], abs=0.002)
        assert pair.high == pytest.approx(bounds.high[a, b], abs=0.002)
        assert pair.p == pytest.approx(known.pvalue[a, b], abs=0.01)
        assert pair.effect == pytest.approx(known.statistic[a, b], rel=0.01)


def test_conditions_may_have_any_scale_and_any_offset() -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 3))
    other = values * np.array([1.0, 1e4])[:, None, None] + np.array([0.0, 1e6])[:, None, None]
    for one, two in zip(
        analyse(scores_of(values)).pairs, analyse(scores_of(other)).pairs, strict=True
    ):
        if one.condition is not None:
            assert one.p == pytest.approx(two.p, rel=1e-6)
            assert one.effect == pytest.approx(two.effect, rel=1e-6)


def test_where_higher_is_better_everything_is_mirrored() -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 3)) + 9 * np.arange(3)[:, None]
    low, high = (
        analyse(scores_of(sign * values), lower_is_better=sign > 0) for sign in (1.0, -1.0)
    )
    assert [p.verdict for p in low.pairs] == [p.verdict for p in high.pairs]
    assert "a better" in {p.verdict for p in low.pairs}
    assert (
        [r.variant for r in low.ranking] == [r.variant for r in high.ranking] == ["v0", "v1", "v2"]
    )
    assert [r.place for r in low.ranking] == [r.place for r in high.ranking]


def test_hedges_correction_is_near_its_short_form() -> None:
    for df in (4, 10, 30):
        assert float(hedges(np.array(df))) == pytest.approx(1 - 3 / (4 * df - 1), rel=0.01)


# -- failures ----------------------------------------------------------------------------------


def runs(variant: str, condition: str, *values: float | None) -> list[Score]:
    return [Score(variant, condition, seed, value) for seed, value in enumerate(values)]


def test_one_condition_of_failures_is_fishers_test() -> None:
    for a, b in itertools.product(range(4), range(5)):
        exact = stats.fisher_exact([[a, 3 - a], [b, 4 - b]]).pvalue
        assert exact_test(((a, 3, b, 4),))[0] == pytest.approx(exact, rel=1e-9)


def test_failures_over_conditions_are_tested_by_every_relabelling() -> None:
    """All ways to deal the failures of each condition out to the runs, counted one by one."""
    strata = ((3, 3, 1, 3), (2, 3, 0, 2))
    ways = []
    for failed_a, runs_a, failed_b, runs_b in strata:
        labels = itertools.combinations(range(runs_a + runs_b), failed_a + failed_b)
        ways.append([sum(place < runs_a for place in chosen) for chosen in labels])
    sums = [sum(parts) for parts in itertools.product(*ways)]
    chance = {total: sums.count(total) / len(sums) for total in set(sums)}
    seen = sum(stratum[0] for stratum in strata)
    p = sum(value for value in chance.values() if value <= chance[seen] + 1e-12)
    assert exact_test(strata) == (pytest.approx(p), pytest.approx(min(chance.values())))


def test_failed_runs_are_never_averaged_and_rank_last() -> None:
    scores = runs("steady", "deep", 3.0, 3.1, 2.9) + runs("wild", "deep", 1.0, None, math.nan)
    analysis = analyse(scores)
    cell = analysis.cells["wild", "deep"]
    assert (cell.n, cell.failed, cell.mean, cell.low) == (1, 2, 1.0, None)
    assert [(r.variant, r.place, r.failed) for r in analysis.ranking] == [
        ("steady", 1, 0.0),
        ("wild", 2, 2 / 3),
    ]
    # three seeds cannot tell two failures from chance
    assert {p.verdict for p in analysis.pairs} == {"no verdict"}
    assert "2 of 3 against 0 of 3" in analysis.pairs[0].reason
    assert any("wild failed in 2 of 3 at deep" in note for note in analysis.notes)


def test_a_variant_that_fails_everywhere_is_worse() -> None:
    rng = np.random.default_rng(0)
    scores = []
    for depth in ("6", "24", "96"):
        scores += runs("fails", depth, None, None, None)
        for name in ("a", "b", "c", "d", "e"):
            scores += runs(name, depth, *rng.standard_normal(3))
    analysis = analyse(scores)
    overall = [p for p in analysis.pairs if p.condition is None and "fails" in (p.a, p.b)]
    assert {p.verdict for p in overall} == {"b better"}
    assert all(p.p is not None and p.p < 0.05 for p in overall)
    assert analysis.ranking[-1] == dataclasses.replace(
        analysis.ranking[-1], variant="fails", place=6, mean=None, failed=1.0, runs=9
    )
    single = [p for p in analysis.pairs if p.condition == "96" and p.a == "fails"]
    assert {p.verdict for p in single} == {"no verdict"}


def test_runs_that_fail_by_chance_are_seldom_called_worse() -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(SWEEPS):
        values = rng.standard_normal((DEPTHS, VARIANTS, SEEDS))
        values[rng.random(values.shape) < 0.3] = math.nan
        wrong += any("better" in p.verdict for p in analyse(scores_of(values)).pairs)
    assert wrong <= MOST


def test_better_where_it_finishes_but_failing_more_is_no_verdict() -> None:
    scores = runs("bold", "deep", 1.0, 1.1, None, None) + runs("safe", "deep", 9.0, 9.1, 9.05, 9.0)
    pair = analyse(scores).pairs[0]
    assert pair.high is not None
    assert pair.high < 0
    assert pair.verdict == "no verdict"
    assert "scores better where it finishes" in pair.reason


# -- what cannot be said -----------------------------------------------------------------------


def test_one_seed_gives_no_verdict() -> None:
    analysis = analyse(runs("a", "6", 1.0) + runs("b", "6", 2.0) + runs("a", "24", 1.0))
    assert {p.verdict for p in analysis.pairs} == {"no verdict"}
    assert analysis.pairs[0].difference == -1.0
    assert analysis.sigma is None
    assert any(note.startswith("One seed") for note in analysis.notes)


def test_one_condition_is_noted_and_is_its_own_mean() -> None:
    analysis = analyse(runs("a", "6", 1.0, 1.2, 0.9) + runs("b", "6", 2.0, 2.3, 2.1))
    assert any(note.startswith("One scale only") for note in analysis.notes)
    here, overall = analysis.pairs
    assert dataclasses.replace(here, condition=None) == overall


def test_equal_scores_of_all_seeds_give_no_verdict() -> None:
    """A coarse metric: no spread was seen, which is not to say that there is none."""
    analysis = analyse(runs("a", "6", 1.0, 1.0, 1.0) + runs("b", "6", 0.9, 0.9, 0.9))
    assert {p.verdict for p in analysis.pairs} == {"no verdict"}
    assert "same score" in analysis.pairs[0].reason
    assert any("same scores at 6" in note for note in analysis.notes)


def test_ties_in_one_cell_do_not_make_it_certain() -> None:
    rng = np.random.default_rng(0)
    scores = runs("tied", "6", 0.0, 0.0, 0.0)
    for name in ("b", "c", "d"):
        scores += runs(name, "6", *rng.standard_normal(3))
    pair = analyse(scores).pairs[0]
    assert pair.high is not None
    assert pair.low is not None
    assert pair.high - pair.low > 2


def test_no_difference_comes_with_what_could_have_been_seen() -> None:
    rng = np.random.default_rng(0)
    analysis = analyse(scores_of(rng.standard_normal((1, 3, 3))))
    for pair in analysis.pairs:
        assert pair.verdict == "no difference shown"
        assert pair.detectable is not None
        assert pair.high is not None
        assert pair.difference is not None
        assert pair.detectable > pair.high - pair.difference


def test_a_difference_too_small_to_matter_is_equivalence() -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 5)) * 0.01
    values[:, 2] += 1
    analysis = analyse(scores_of(values), smallest=0.2)
    verdicts = {(p.a, p.b): p.verdict for p in analysis.pairs if p.condition is None}
    assert verdicts["v0", "v1"] == "equivalent"
    assert verdicts["v0", "v2"] == "a better"
    assert "equivalent" not in {p.verdict for p in analyse(scores_of(values)).pairs}


def test_an_order_that_reverses_is_noted() -> None:
    scores = runs("a", "6", 1.0, 1.1, 1.05) + runs("b", "6", 5.0, 5.1, 5.05)
    scores += runs("a", "96", 5.0, 5.1, 5.04) + runs("b", "96", 1.0, 1.1, 1.05)
    notes = analyse(scores).notes
    assert any("a is better than b at 6, worse at 96" in note for note in notes)


def test_what_is_withheld_gives_no_place_and_no_note() -> None:
    scores = runs("a", "x", 1.0, 1.01, 1.02) + runs("b", "x", 2.0, 2.01, 2.02)
    scores += runs("a", "y", 3.0, 3.01, 3.02) + runs("b", "y", 2.0, 2.01, 2.02)
    scores += runs("c", "x", 5.0, 5.01, 5.02) + runs("c", "y", 5.0, 5.01, 5.02)
    assert any("reverses" in note for note in analyse(scores).notes)
    found = analyse(scores, withheld={("a", "y"): "why not"})
    withheld = [(pair.a, pair.b, pair.condition) for pair in found.pairs if pair.reason]
    assert withheld == [("a", "b", "y"), ("a", "c", "y"), ("a", "b", None), ("a", "c", None)]
    assert {pair.verdict for pair in found.pairs if pair.reason} == {"no verdict"}
    assert not any("reverses" in note for note in found.notes)
    # c is still shown to be worse than b, and than nobody else.
    assert {rank.variant: rank.place for rank in found.ranking} == {"a": 1, "b": 1, "c": 2}
    plain = analyse(scores)
    assert [pair.low for pair in found.pairs] == [pair.low for pair in plain.pairs]


def test_a_noisy_cell_is_named() -> None:
    values = np.random.default_rng(0).standard_normal((2, 4, 3))
    values[1, 2] = [0.0, 40.0, -35.0]
    analysis = analyse(scores_of(values))
    assert not analysis.pooled
    assert any("v2 at depth 1" in note for note in analysis.notes)


def test_a_cell_that_was_never_run_is_left_out() -> None:
    rng = np.random.default_rng(0)
    scores = [s for s in scores_of(rng.standard_normal((2, 3, 3)))
              if (s.variant, s.condition) != ("v1", "depth 1")]  # fmt: skip
    analysis = analyse(scores)
    assert ("v1", "depth 1") not in analysis.cells
    assert sum(p.condition == "depth 1" for p in analysis.pairs) == 1
    overall = next(p for p in analysis.pairs if p.condition is None and p.a == "v0")
    here = next(p for p in analysis.pairs if p.condition == "depth 0" and p.a == "v0")
    assert overall.difference == pytest.approx(here.difference)


def test_the_analysis_is_plain_json() -> None:
    rng = np.random.default_rng(0)
    scores = scores_of(rng.standard_normal((2, 2, 3))) + runs("fails", "depth 0", None, None)
    analysis = analyse(scores)
    made = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    assert len(made["cells"]) == 5
    assert made["cells"][0]["variant"] == "v0"
    assert made["pairs"][0]["verdict"] == analysis.pairs[0].verdict
    assert made["ranking"][-1]["variant"] == "fails"


def test_nothing_is_an_analysis_too() -> None:
    analysis = analyse([])
    assert (list(analysis.pairs), list(analysis.ranking), analysis.sigma) == ([], [], None)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match="two scores of 'a' under '6' with seed 0"):
        analyse(runs("a", "6", 1.0) + runs("a", "6", 2.0))
    with pytest.raises(ConfigError, match="confidence = 95"):
        analyse([], confidence=95)
    with pytest.raises(ConfigError, match="smallest = -1"):
        analyse([], smallest=-1)
    with pytest.raises(ConfigError, match="seeds = 1 shows no difference"):
        detectable(1.0, seeds=1, variants=2, conditions=1)
