"""The pictures of a report: what each panel puts on its chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.compare.report.chart import INK, Chart
from zoo.compare.report.document import Panel, Picture
from zoo.compare.report.drawing import looks
from zoo.compare.report.evidence import Curve, Evidence, Rate, median_curve
from zoo.compare.report.words import Place, figure, named, number, place_name
from zoo.compare.results import Row

Draw = Callable[[Chart], None]

_LOST, _FAILED, _UNTRIED = "#D55E00", "#999999", "#f4f4f4"
_LAYERS = (
    ("grad_norm", "gradient norm", "Norm of the gradient of each layer's weights."),
    (
        "stream_rms",
        "RMS of the stream",
        "Root mean square of the residual stream after each layer.",
    ),
    (
        "update_ratio",
        "|step| / |weights|",
        "Size of one optimizer step against that of each layer's weights.",
    ),
)
# Beyond this many runs or points in a panel, single ones are drawn fainter, or without a label.
_MANY = 24
# Up to this many learning rates are ticks by themselves, and layers are dots.
_MOST_NAMED, _FEW = 10, 25
_LOG_FROM = 3.0
_SHADES = ((247, 252, 217), (127, 205, 187), (29, 145, 192), (12, 44, 132))


def of_variant(index: int) -> str:
    """The mark of everything drawn for a variant, by its place in the report's order."""
    return f"variant{index}"


class Figures:
    """Makes the pictures of one comparison, each None where there is nothing to draw."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.looks = looks(evidence.variants)
        self.marks = {name: of_variant(i) for i, name in enumerate(evidence.variants)}

    def name(self, where: Place) -> str:
        return place_name(where, self.evidence.places)

    def by_scale(self) -> list[tuple[str, list[Place]]]:
        """(title, places that differ in depth alone), for each task and width."""
        groups: dict[tuple[str, int], list[Place]] = {}
        for task, depth, width in self.evidence.places:
            groups.setdefault((task, width), []).append((task, depth, width))
        one = len(groups) == 1
        return [
            ("" if one else f"{task}, width {width}", places)
            for (task, width), places in groups.items()
        ]

    def quality(self) -> Picture | None:
        """The test figure of every variant by depth, with intervals."""

        def panel(places: Sequence[Place]) -> Draw:
            return lambda chart: self._quality(chart, places)

        groups = [
            (title, places)
            for title, places in self.by_scale()
            if any(self.evidence.cell(v, where) for v in self.evidence.variants for where in places)
        ]
        return self._picture(
            "quality",
            f"{named(self.evidence.metric)} by depth",
            "Means on data that no choice has seen, with their intervals. × at the upper edge: "
            "so many final runs of that variant did not finish, and no mean is shown.",
            [Panel(title, panel(places)) for title, places in groups],
        )

    def _quality(self, chart: Chart, places: Sequence[Place]) -> None:
        variants = self.evidence.variants
        step = min(0.13, 0.8 / max(1, len(variants)))
        for index, variant in enumerate(variants):
            (colour, dash), css = self.looks[variant], self.marks[variant]
            shift = (index - (len(variants) - 1) / 2) * step
            means = []
            for x, where in enumerate(places):
                cell = self.evidence.cell(variant, where)
                if cell is None:
                    continue
                if cell.failed or cell.mean is None:
                    self._lost(chart, x + shift, variant, str(cell.failed))
                    continue
                means.append((x + shift, cell.mean))
                if cell.low is not None and cell.high is not None:
                    ends = [(x + shift, cell.low), (x + shift, cell.high)]
                    chart.line(ends, colour, width=2.2, opacity=0.55, css=css)
            chart.line(means, colour, width=0.8, dash=dash, css=css)
            chart.dots(means, colour, radius=3, css=css)
        chart.x.ticks = [(x, str(depth)) for x, (_, depth, _) in enumerate(places)]
        chart.x.low, chart.x.high = -0.6, len(places) - 0.4
        chart.x.label, chart.y.label = "layers", named(self.evidence.metric)

    def losses(self) -> list[Picture]:
        """Training loss, and the selection figure where it was followed."""
        metric = self.evidence.select
        followed = f"eval_{metric.name}"
        shown = [
            ("losses", "loss", "training loss", True),
            ("held-out", followed, f"{named(metric)}, selection data", metric.lower_is_better),
        ]
        pictures = [self._curves(file, key, label, lower) for file, key, label, lower in shown]
        return [picture for picture in pictures if picture is not None]

    def _curves(self, file: str, key: str, label: str, lower: bool) -> Picture | None:
        def panel(curves: Sequence[tuple[Row, Curve]]) -> Draw:
            return lambda chart: self._draw_curves(chart, curves, label, lower)

        found = [(where, self.evidence.curves(where, key)) for where in self.evidence.places]
        return self._picture(
            file,
            f"{label} by step",
            "Every final run thin, the median of a variant's finished runs bold; × where a run "
            "diverged.",
            [Panel(self.name(where), panel(curves)) for where, curves in found if curves],
        )

    def _draw_curves(
        self, chart: Chart, curves: Sequence[tuple[Row, Curve]], label: str, lower: bool
    ) -> None:
        firsts: list[float] = []
        values: list[float] = []
        for variant in self.evidence.variants:
            (colour, dash), css = self.looks[variant], self.marks[variant]
            own = [(row, curve) for row, curve in curves if row.variant == variant]
            faint = 0.45 if len(curves) <= _MANY else 0.2
            for row, curve in own:
                chart.line(curve, colour, width=0.8, opacity=faint, css=css)
                finite = [each for each in curve if not math.isnan(each[1])]
                values += [value for _, value in finite]
                if row.status == "finished":
                    firsts += [value for _, value in finite[:1]]
                elif finite:
                    chart.cross(*finite[-1], colour, css=css)
        for variant in self.evidence.variants:
            colour, dash = self.looks[variant]
            finished = [c for row, c in curves if row.variant == variant and row.test is not None]
            middle = median_curve(finished)
            chart.line(middle, colour, width=2, dash=dash, css=self.marks[variant])
        if lower and firsts:
            # A run that blows up is not to squeeze all the others into a line.
            chart.y.seen = min(values), max(firsts)
            chart.y.log = _wide(chart.y.seen)
        chart.x.low = 0
        chart.x.label, chart.y.label = "step", label

    def rates(self) -> Picture | None:
        """The selection figure over the learning rates that were tried."""

        def panel(found: Mapping[str, list[Rate]]) -> Draw:
            return lambda chart: self._rates(chart, found)

        panels = []
        for where in self.evidence.places:
            found = {v: self.evidence.rates(v, where) for v in self.evidence.variants}
            if len({each.rate for rates in found.values() for each in rates}) > 1:
                panels.append(Panel(self.name(where), panel(found)))
        return self._picture(
            "rates",
            f"{named(self.evidence.select)} over the learning rate",
            "Means of the tuning runs on the selection data, at each rate with the best of what "
            "else was tuned; × at the upper edge: a run at that rate, of fresh seeds too, diverged "
            "or failed. Fainter lines had fewer steps.",
            panels,
        )

    def _rates(self, chart: Chart, found: Mapping[str, list[Rate]]) -> None:
        tried = sorted({each.rate for rates in found.values() for each in rates})
        chart.x.log = tried[0] > 0
        for variant, rates in found.items():
            (colour, dash), css = self.looks[variant], self.marks[variant]
            budgets = sorted({each.steps for each in rates})
            for budget in budgets:
                own = [each for each in rates if each.steps == budget]
                points = [(e.rate, math.nan if e.value is None else e.value) for e in own]
                strong = 1.0 if budget == budgets[-1] else 0.35
                chart.line(points, colour, dash=dash, opacity=strong, css=css)
                chart.dots(points, colour, opacity=strong, css=css)
            for each in rates:
                if each.outcome != "finished" and each.steps == budgets[-1]:
                    self._lost(chart, each.rate, variant)
        if len(tried) <= _MOST_NAMED:
            chart.x.ticks = [(rate, number(rate, 3)) for rate in tried]
        chart.y.margin = 0.12
        chart.x.label = "peak learning rate"
        chart.y.label = f"{named(self.evidence.select)}, selection data"

    def stability(self) -> Picture | None:
        """Depth by learning rate for every variant, coloured by what became of it."""
        panels = []
        for title, places in self.by_scale():
            maps = {
                variant: {where: self.evidence.longest(variant, where) for where in places}
                for variant in self.evidence.variants
            }
            all_rates = [
                each for by in maps.values() for found in by.values() for each in found.values()
            ]
            rates = sorted({each.rate for each in all_rates})
            values = [each.value for each in all_rates if each.value is not None]
            if len(rates) < 2:
                continue
            panels += [
                Panel(f"{variant}{title and ': '}{title}", self._map(by, rates, values))
                for variant, by in maps.items()
                if any(by.values())
            ]
        return self._picture(
            "stability",
            "outcome by depth and learning rate",
            f"{named(self.evidence.select).capitalize()} on the selection data, darker is better; "
            "orange ×: a run diverged; grey !: a run failed otherwise; empty: not tried. Each rate "
            "with the most steps it was given.",
            panels,
            legend=False,
        )

    def _map(
        self,
        by: Mapping[Place, Mapping[float, Rate]],
        rates: Sequence[float],
        values: Sequence[float],
    ) -> Draw:
        return lambda chart: _draw_map(
            chart, by, rates, values, self.evidence.select.lower_is_better
        )

    def pareto(self) -> Picture | None:
        """The test figure against what it cost."""

        def panel(points: Sequence[tuple[str, Place, float, float]], label: str) -> Any:
            return lambda chart: self._pareto(chart, points, label)

        panels = []
        tasks = list(dict.fromkeys(task for task, _, _ in self.evidence.places))
        for task in tasks:
            for attribute, label in (
                ("seconds", "seconds of training"),
                ("flops", "FLOPs of training"),
            ):
                points = [
                    (variant, where, getattr(cost, attribute), value)
                    for where in self.evidence.places
                    if where[0] == task
                    for variant in self.evidence.variants
                    if (value := self.evidence.whole(variant, where)) is not None
                    and (cost := self.evidence.cost(variant, where)) is not None
                    and getattr(cost, attribute) > 0
                ]
                if points:
                    title = label if len(tasks) == 1 else f"{task}: {label}"
                    panels.append(Panel(title, panel(points, label)))
        return self._picture(
            "pareto",
            f"{named(self.evidence.metric)} against its cost",
            "Means of the final runs, with the number of layers beside each; the grey line joins "
            "those that nothing cheaper equals. Variants that lost a run are left out.",
            panels,
        )

    def _pareto(
        self, chart: Chart, points: Sequence[tuple[str, Place, float, float]], label: str
    ) -> None:
        chart.x.log = _wide([cost for _, _, cost, _ in points])
        edge = frontier([(c, v) for _, _, c, v in points], self.evidence.metric.lower_is_better)
        chart.line(edge, "#aaaaaa", width=1.2, steps=True)
        for variant, (_, depth, _), cost, value in points:
            (colour, _), css = self.looks[variant], self.marks[variant]
            chart.dots([(cost, value)], colour, radius=3.5, css=css)
            if len(points) <= _MANY or (cost, value) in edge:
                chart.note(cost, value, str(depth), colour, css=css)
        chart.x.margin = chart.y.margin = 0.12
        chart.x.label, chart.y.label = label, named(self.evidence.metric)

    def layers(self) -> list[Picture]:
        """What every layer looks like at the end of training."""

        def panel(found: Mapping[str, list[float]], label: str) -> Draw:
            return lambda chart: self._layers(chart, found, label)

        pictures = []
        by_place = {
            where: {
                variant: self.evidence.layers(variant, where) for variant in self.evidence.variants
            }
            for where in self.evidence.places
        }
        for key, label, caption in _LAYERS:
            panels = []
            for where, by in by_place.items():
                own = {name: layers[key] for name, layers in by.items() if layers.get(key)}
                if own:
                    panels.append(Panel(self.name(where), panel(own, label)))
            pictures.append(
                self._picture(
                    f"layers-{key.replace('_', '-')}", f"{label} by layer", caption, panels
                )
            )
        return [picture for picture in pictures if picture is not None]

    def _layers(self, chart: Chart, found: Mapping[str, list[float]], label: str) -> None:
        values = [value for own in found.values() for value in own if math.isfinite(value)]
        chart.y.log = bool(values) and _wide(values)
        for variant, own in found.items():
            (colour, dash), css = self.looks[variant], self.marks[variant]
            points = [(float(layer), value) for layer, value in enumerate(own, start=1)]
            chart.line(points, colour, dash=dash, css=css)
            if len(points) < _FEW:
                chart.dots(points, colour, radius=2, css=css)
        chart.x.whole = True
        chart.x.label, chart.y.label = "layer, from the bottom", label

    def _picture(
        self, name: str, alt: str, caption: str, panels: Sequence[Panel], *, legend: bool = True
    ) -> Picture | None:
        return Picture(name, alt, caption, panels, legend) if panels else None

    def _lost(self, chart: Chart, x: float, variant: str, note: str = "") -> None:
        """× at the upper edge, each variant's a little lower so that none hides another."""
        y = 0.96 - 0.055 * (self.evidence.variants.index(variant) % 12)
        colour, css = self.looks[variant][0], self.marks[variant]
        chart.cross(x, y, colour, css=css, share=True, note=note)


def frontier(points: Sequence[tuple[float, float]], lower: bool) -> list[tuple[float, float]]:
    """The (cost, value) points that none of at most their cost equals, by cost."""
    best = math.inf
    edge = []
    for cost, value in sorted(points, key=lambda each: (each[0], each[1] if lower else -each[1])):
        if (signed := value if lower else -value) < best:
            best = signed
            edge.append((cost, value))
    return edge


def _draw_map(
    chart: Chart,
    by: Mapping[Place, Mapping[float, Rate]],
    rates: Sequence[float],
    values: Sequence[float],
    lower: bool,
) -> None:
    ordered = sorted(values, reverse=not lower)
    # The worst tenth shares one colour: one useless run would take all shades for itself.
    best, worst = (ordered[0], ordered[(len(ordered) - 1) * 9 // 10]) if ordered else (0.0, 1.0)
    for y, found in enumerate(by.values()):
        for x, rate in enumerate(rates):
            each = found.get(rate)
            if each is None:
                chart.box(x, y, _UNTRIED)
            elif each.value is None:
                diverged = each.outcome == "diverged"
                sign = "×" if diverged else "!"
                text = sign if each.runs == 1 else f"{sign} {each.lost}/{each.runs}"
                chart.box(x, y, _LOST if diverged else _FAILED, text=text, colour="#fff")
            else:
                share = 0.5 if worst == best else (each.value - worst) / (best - worst)
                share = min(1.0, max(0.0, share))
                ink = "#fff" if share > 0.6 else INK
                chart.box(x, y, _shade(share), text=figure(each.value), colour=ink)
    chart.grid = False
    chart.x.margin = chart.y.margin = 1e-9
    chart.x.ticks = [(x, number(rate, 3)) for x, rate in enumerate(rates)]
    chart.y.ticks = [(y, str(depth)) for y, (_, depth, _) in enumerate(by)]
    chart.x.label, chart.y.label = "peak learning rate", "layers"


def _shade(share: float) -> str:
    """From pale yellow to dark blue, even in lightness."""
    place = share * (len(_SHADES) - 1)
    index = min(int(place), len(_SHADES) - 2)
    mixed = [
        round(low + (high - low) * (place - index))
        for low, high in zip(_SHADES[index], _SHADES[index + 1], strict=True)
    ]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows them better."""
    return min(values) > 0 and max(values) > _LOG_FROM * min(values)
