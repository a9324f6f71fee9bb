"""The verdict in one plain sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from zoo.compare.comparison import Comparison
from zoo.compare.report.evidence import Evidence
from zoo.compare.report.words import (
    figure,
    interval,
    kind_of,
    listing,
    number,
    place_name,
    several,
    unit,
)
from zoo.compare.results import RESULTS, condition
from zoo.compare.statistics import Analysis, Pair

# More variants than these are counted, not named.
_MANY = 4


@dataclasses.dataclass(frozen=True)
class Against:
    """One variant against another, seen from the first: a gain is positive where it is better.

    Attributes:
        verdict: better, worse, or one of `Pair` that has no side.
        reason: where it is not the scores that decide, or nothing does.
    """

    other: str
    gain: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str


def headline(comparison: Comparison, evidence: Evidence) -> str:
    """Who is better than whom and by how much, or that nothing of the kind is shown."""
    verdict = _verdict(comparison, evidence)
    lost = "" if "failed in" in verdict else _losses(evidence)
    return _interim(comparison) + verdict + lost


def _interim(comparison: Comparison) -> str:
    left = sum(row.status not in (*RESULTS, "damaged") for row in comparison.rows)
    return f"Interim, {several(left, 'run')} still to be made. " if left else ""


def _losses(evidence: Evidence) -> str:
    """Final runs that were lost: results too, which no difference of means can show."""
    said = []
    for variant in evidence.variants:
        rows = [row for where in evidence.places for row in evidence.final(variant, where)]
        lost = sum(row.status != "finished" for row in rows)
        if lost:
            said.append(f"{variant} lost {lost} of {several(len(rows), 'final run')}")
    return f" {listing(said)}." if said else ""


def _verdict(comparison: Comparison, evidence: Evidence) -> str:
    analysis = comparison.analysis
    final = [row.status for row in comparison.rows if row.phase == "final"]
    if not any(status in RESULTS for status in final):
        return "No verdict: no run of the final comparison has ended."
    if "finished" not in final:
        return "No verdict: every final run was lost."
    if len(evidence.variants) < 2:
        return f"No verdict: {evidence.variants[0]} was run alone, with nothing to compare it to."
    if not analysis.ranking:
        return "No verdict: the runs were not analysed."
    leader = analysis.ranking[0].variant
    pairs = [pair for pair in overall(analysis) if leader in (pair.a, pair.b)]
    against = [seen_from(leader, pair, analysis) for pair in pairs]

    def those(verdict: str) -> list[Against]:
        return [each for each in against if each.verdict == verdict]

    def names(found: Sequence[Against]) -> str:
        return listing([leader, *(each.other for each in found)])

    parts = []
    if like := those("equivalent"):
        least = f"{number(analysis.smallest)} {unit(evidence.metric)}"
        parts.append(f"{names(like)} differ by less than {least}")
    if equal := those("no difference shown"):
        parts.append(f"no difference shown between {names(equal)}")
    if beaten := those("better"):
        parts.append(f"{leader} is better than {_beaten(beaten, comparison, leader, evidence)}")
    if open_ := those("no verdict"):
        why = _why_open(leader, open_, comparison)
        parts.append(f"no verdict on {names(open_)}" + (f": {why}" if why else ""))
    if not parts:
        return "No verdict: the variants met nowhere."
    sentence = "; ".join(parts) + "."
    return sentence if sentence.startswith(leader) else sentence[0].upper() + sentence[1:]


def _why_open(leader: str, found: Sequence[Against], comparison: Comparison) -> str:
    """What keeps all these pairs open."""
    names = [leader, *(each.other for each in found)]
    edges = dict.fromkeys(each.variant for each in comparison.choices if each.on_edge)
    at_edge = [name for name in names if name in edges]
    if at_edge:
        what = "setting of {} lies" if len(at_edge) == 1 else "settings of {} lie"
        return f"the best {what.format(listing(at_edge))} on an end of what was tried"
    reasons = {each.reason for each in found}
    return reasons.pop() if len(reasons) == 1 else ""


def _beaten(
    beaten: Sequence[Against], comparison: Comparison, leader: str, evidence: Evidence
) -> str:
    analysis = comparison.analysis
    near = min(beaten, key=lambda each: (bool(each.reason), each.gain or 0.0))
    said = [near.reason] if near.reason else []
    if near.gain is not None and near.low is not None and near.low > 0:
        size = f"{figure(near.gain, 3)} {unit(evidence.metric)}"
        held = f"{confidence(analysis)} interval {interval(near.low, near.high, 3)}"
        said.insert(0, f"{size}, {held}")
    figures = "; ".join(said)
    if len(beaten) == 1:
        return f"{near.other} {_scope(analysis, leader, near.other, evidence)} ({figures})"
    names = listing([each.other for each in beaten])
    if len(beaten) > _MANY and len(beaten) == len(analysis.ranking) - 1:
        names = f"all {len(beaten)} others"
    return f"{names} (of these the nearest is {near.other}: {figures})"


def _scope(analysis: Analysis, leader: str, other: str, evidence: Evidence) -> str:
    """`at all 3 depths`, as far as it was shown at each."""
    places = [where for where in evidence.places if evidence.cell(leader, where)]
    if len(places) == 1:
        _, depth, width = places[0]
        return f"at {several(depth, 'layer')}, width {width}"
    alone = [
        pair.condition
        for pair in analysis.pairs
        if {pair.a, pair.b} == {leader, other}
        and seen_from(leader, pair, analysis).verdict == "better"
    ]
    shown = [where for where in places if condition(*where) in alone]
    kind = kind_of(places)
    if len(shown) == len(places):
        return f"at all {len(places)} {kind}"
    if not shown:
        return f"over {len(places)} {kind} taken together"
    names = listing([place_name(where, places) for where in shown])
    return f"over {len(places)} {kind} taken together, and alone at {names}"


def overall(analysis: Analysis) -> list[Pair]:
    """The pairs over all places."""
    return [pair for pair in analysis.pairs if pair.condition is None]


def seen_from(leader: str, pair: Pair, analysis: Analysis) -> Against:
    """A pair from one side."""
    mine = leader == pair.a
    other = pair.b if mine else pair.a
    verdict: str = pair.verdict
    if verdict in ("a better", "b better"):
        verdict = "better" if (verdict == "a better") == mine else "worse"
    if pair.difference is None or pair.low is None or pair.high is None:
        return Against(other, pair.difference, None, None, verdict, pair.reason)
    sign = 1 if mine != analysis.lower_is_better else -1
    low, high = sorted((sign * pair.low, sign * pair.high))
    return Against(other, sign * pair.difference, low, high, verdict, pair.reason)


def confidence(analysis: Analysis) -> str:
    """Of the intervals, such as `95 %`."""
    return f"{100 * analysis.confidence:g}\u00a0%"


def smallest_shown(comparison: Comparison, evidence: Evidence) -> str:
    """What could have been detected, a sentence; empty where that cannot be said."""
    found = [pair.detectable for pair in overall(comparison.analysis)]
    sizes = sorted({figure(size, 2) for size in found if size is not None}, key=float)
    if not sizes:
        return ""
    span = sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}, by pair"
    return (
        f"The smallest difference that would have been shown four times in five: {span} "
        f"({unit(evidence.metric)})."
    )
