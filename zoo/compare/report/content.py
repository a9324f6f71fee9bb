"""What a report says, in the order of reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.compare.comparison import Choice, Comparison
from zoo.compare.report.document import Block, Code, Document, Items, Section, Table, Text
from zoo.compare.report.evidence import Evidence, Stable
from zoo.compare.report.figures import Figures
from zoo.compare.report.headline import confidence, headline, overall, smallest_shown
from zoo.compare.report.words import (
    Place,
    amount,
    figure,
    interval,
    listing,
    named,
    number,
    place,
    place_name,
    setting,
    several,
    unit,
)
from zoo.compare.results import condition
from zoo.compare.statistics import Pair
from zoo.files import dumps
from zoo.training.progress import format_duration

# Longer tables are folded.
_LONG = 30
_MATCHES = {
    "tokens": "the same number of tokens",
    "flops": "the same number of FLOPs",
    "time": "the same time of training",
    "params": "the same number of parameters, through d_ff",
}


def document(comparison: Comparison) -> Document:
    """The report of a comparison, finished or not."""
    page = _Page(comparison)
    sections = [
        Section("Verdict", page.verdict()),
        Section("Ranking", page.ranking()),
        Section("Differences", page.differences()),
        Section("What was tuned", page.tuned()),
        Section("Runs that did not finish", page.lost()),
        Section("Curves", page.figures.losses()),
        Section("Learning rate", page.learning_rate()),
        Section("Cost", page.cost()),
        Section("Layers at the end of training", page.layers()),
        Section("Methods", page.methods()),
        Section("Notes", page.notes()),
        Section("To make it again", page.remake()),
    ]
    variants = page.evidence.variants
    return Document(
        title=f"Comparison of {listing(variants)}"
        if len(variants) < 4
        else f"Comparison of {len(variants)} variants",
        headline=headline(comparison, page.evidence),
        variants=variants,
        sections=[section for section in sections if section.blocks],
    )


class _Page:
    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.analysis = comparison.analysis
        self.config = comparison.config
        self.evidence = Evidence(comparison)
        self.figures = Figures(self.evidence)
        self.metric = comparison.metric

    def name(self, where: Place) -> str:
        return place_name(where, self.evidence.places)

    def verdict(self) -> list[Block]:
        said = [*self.analysis.notes, smallest_shown(self.comparison, self.evidence)]
        return _items(said)

    def ranking(self) -> list[Block]:
        if not self.analysis.ranking:
            return []
        places = self.evidence.places
        mean = [] if len(places) == 1 else [f"mean {named(self.metric)}"]
        header = ["place", "variant", *mean, *map(self.name, places), "lost runs"]
        rows = []
        for rank in self.analysis.ranking:
            finals = [row for where in places for row in self.evidence.final(rank.variant, where)]
            lost = sum(row.status != "finished" for row in finals)
            rows.append(
                [
                    str(rank.place),
                    rank.variant,
                    *(["–" if lost else figure(rank.mean)] if mean else []),
                    *(self._mean(rank.variant, where) for where in places),
                    f"{lost} of {len(finals)}",
                ]
            )
        way = "lower is better" if self.metric.lower_is_better else "higher is better"
        text = (
            f"{named(self.metric).capitalize()} ({way}) on data that no choice has seen, with "
            f"{confidence(self.analysis)} intervals. Variants that share a place were "
            "not told apart."
        )
        return [Text(text), Table(header, rows), *_present([self.figures.quality()])]

    def _mean(self, variant: str, where: Place) -> str:
        cell = self.evidence.cell(variant, where)
        if cell is None:
            return "–"
        if cell.failed:
            runs = self.evidence.final(variant, where)
            return f"{cell.failed} of {len(runs)} lost"
        return f"{figure(cell.mean)} ({interval(cell.low, cell.high)})"

    def differences(self) -> list[Block]:
        pairs = overall(self.analysis)
        if not pairs:
            return []
        text = (
            f"Differences in {unit(self.metric)}, first minus second. The p-values are corrected "
            "for all comparisons, and the intervals hold all at once; the effect is the difference "
            'in standard deviations of a run; a difference of the size under "detectable" would '
            "have been shown four times in five."
        )
        blocks: list[Block] = [Text(text), self._pairs(pairs, folded="")]
        alone = [pair for pair in self.analysis.pairs if pair.condition is not None]
        if len({pair.condition for pair in alone}) > 1:
            names = {condition(*where): self.name(where) for where in self.evidence.places}
            blocks.append(self._pairs(alone, folded="The same at each place", names=names))
        return blocks

    def _pairs(
        self, pairs: Sequence[Pair], *, folded: str, names: Mapping[str, str] | None = None
    ) -> Table:
        where = [] if names is None else ["where"]
        header = [*where, "first", "second", "difference", "interval", "p", "effect"]
        header += ["detectable", "verdict"]
        rows = []
        for pair in pairs:
            words = {"a better": f"{pair.a} better", "b better": f"{pair.b} better"}
            at = [] if names is None else [names.get(pair.condition or "", pair.condition or "")]
            rows.append(
                [
                    *at,
                    pair.a,
                    pair.b,
                    figure(pair.difference, 3),
                    interval(pair.low, pair.high, 3),
                    number(pair.p, 2),
                    figure(pair.effect, 2),
                    figure(pair.detectable, 2),
                    words.get(pair.verdict, pair.verdict)
                    + (f": {pair.reason}" if pair.reason else ""),
                ]
            )
        if not folded and len(rows) > _LONG:
            folded = several(len(rows), "pair")
        return Table(header, rows, folded)

    def tuned(self) -> list[Block]:
        choices = self.comparison.choices
        if not choices:
            return []
        if not any(choice.tried for choice in choices):
            return [Text("Nothing was tuned: every variant ran with its recipe's setting.")]
        text = (
            f"The best point of each variant by {named(self.evidence.select)} on the selection "
            "data. Where "
            "it lies on an end of what was tried, a better one may lie beyond, and no verdict "
            "rests on it."
        )
        score = named(self.evidence.select)
        header = ["variant", "where", "setting", "tried", score, "edge"]
        rows = [
            [
                choice.variant,
                self.name((choice.task, choice.depth, choice.width)),
                setting(choice.setting),
                _tried(choice),
                figure(choice.score),
                _edge(choice),
            ]
            for choice in choices
        ]
        return [Text(text), Table(header, rows, _fold(rows, "setting"))]

    def lost(self) -> list[Block]:
        lost = self.evidence.unfinished()
        if not lost:
            return [Text("None: every run that was made finished.")]
        text = (
            f"{several(len(lost), 'run')} of {len(self.comparison.rows)}. They are results: a "
            "variant that lost more final runs than another ranks below it, and no mean holds one."
        )
        header = ["variant", "where", "phase", "setting", "seed", "outcome", "what happened"]
        rows = [
            [
                row.variant,
                self.name(place(row)),
                row.phase,
                setting(row.setting),
                str(row.seed),
                row.status,
                row.note or "–",
            ]
            for row in lost
        ]
        return [Text(text), Table(header, rows, _fold(rows, "run"))]

    def learning_rate(self) -> list[Block]:
        places = self.evidence.places
        found = {
            (variant, where): self.evidence.stable(variant, where)
            for variant in self.evidence.variants
            for where in places
        }
        if not any(found.values()):
            return []
        rows = [
            [variant, *(_largest(found[variant, where]) for where in places)]
            for variant in self.evidence.variants
        ]
        text = (
            "The largest stable learning rate: the largest that was tried at which, and below "
            "which, no run was lost. ≥: no run was lost at any rate, so a larger one may do. Runs "
            "on fresh seeds count, so that the chosen rate has the most that could be lost."
        )
        return [
            *_present([self.figures.rates()]),
            Text(text),
            Table(["variant", *map(self.name, places)], rows),
            *_present([self.figures.stability()]),
        ]

    def cost(self) -> list[Block]:
        rows = []
        for where in self.evidence.places:
            for variant in self.evidence.variants:
                cost = self.evidence.cost(variant, where)
                if cost is None:
                    continue
                memory = f"{amount(cost.memory)}B" if cost.memory else "–"
                rows.append(
                    [
                        variant,
                        self.name(where),
                        self._mean(variant, where),
                        format_duration(cost.seconds),
                        f"{amount(cost.speed)}",
                        amount(cost.flops),
                        amount(cost.parameters),
                        memory,
                    ]
                )
        if not rows:
            return []
        header = ["variant", "where", named(self.metric), "time", "tokens a second"]
        header += ["FLOPs", "parameters", "memory"]
        text = "Of a final run: means of those that finished; memory is the most."
        return [
            Text(text),
            Table(header, rows, _fold(rows, "row")),
            *_present([self.figures.pareto()]),
        ]

    def layers(self) -> list[Block]:
        pictures = self.figures.layers()
        if not pictures:
            return []
        text = (
            "Measured on one batch with the last weights of each variant's first final run. Stacks "
            "of an encoder-decoder follow each other."
        )
        return [Text(text), *pictures]

    def methods(self) -> list[Block]:
        config = self.config
        space = config.get("space") or {}
        said = []
        if space:
            tried = "; ".join(f"{name} in {_values(values)}" for name, values in space.items())
            search = {
                "grid": "all points for all steps",
                "halving": "successive halving, the better half of the points for twice the steps",
            }
            how = search.get(str(config.get("search")), str(config.get("search")))
            said.append(
                f"Tuned for each variant at each depth and width, under equal budgets: {tried} "
                f"({how}; {several(int(config.get('tuning_seeds', 1)), 'seed')} a point, up to "
                f"{several(int(config.get('extend', 0)), 'point')} added where the best one lies "
                "on an end)."
            )
        if config.get("test_path") or config.get("test_split"):
            apart = config.get("test_path") or f"the split {config.get('test_split')}"
            said.append(f"Choices were made on the held-out data, verdicts on {apart}.")
        else:
            said.append(
                "Choices were made on the first half of the held-out data, verdicts on the second."
            )
        said.append(
            f"The final comparison is on {several(int(config.get('seeds', 0)), 'seed')} that no "
            "choice has seen, at the end of each run's own schedule. Runs of equal seed read the "
            "data in the same order whatever their variant; every variant draws weights of its own."
        )
        match = str(config.get("match", "tokens"))
        said.append(f"Every variant got {_MATCHES.get(match, match)}.")
        said.append(self._statistics())
        return _items(said)

    def _statistics(self) -> str:
        analysis = self.analysis
        text = (
            "Each variant's variance at a place is drawn towards what the place and the variant "
            "lead one to expect; differences are measured by it against the studentised range of "
            "all variants, and places share the permitted error: the chance of even one false "
            f"verdict is at most {number(1 - analysis.confidence)} (docs/statistics.md). Whether a "
            "variant loses more runs than another is tested exactly."
        )
        if analysis.sigma is not None:
            alike = "look alike" if analysis.pooled else "differ"
            text += (
                f" A run has a standard deviation of usually {number(analysis.sigma, 3)} "
                f"({analysis.df} degrees of freedom in all; the spreads {alike})."
            )
        smallest = float(self.config.get("smallest") or 0.0)
        if smallest:
            least = f"{number(smallest)} {unit(self.metric)}"
            text += f" Differences below {least} were said not to matter."
        return text

    def notes(self) -> list[Block]:
        return _items(self.comparison.notes)

    def remake(self) -> list[Block]:
        environment = self.comparison.environment
        packages = environment.get("packages") or {}
        versions = [f"zoo {environment.get('zoo', 'unknown')}"]
        versions.append(f"commit {environment.get('commit') or 'unknown'}")
        versions.append(f"Python {environment.get('python', 'unknown')}")
        versions += [f"{name} {version}" for name, version in packages.items() if version]
        devices = listing(
            [f"{each['count']} × {each['kind']}" for each in environment.get("devices") or ()]
        )
        made_on = f"Made with {', '.join(versions)}" + (f", on {devices}." if devices else ".")
        return [
            Text(made_on),
            Text("With the config below, which is also compare.json beside this page:"),
            Code("zoo compare --config compare.json --workdir runs/again"),
            Code(dumps({"config": self.config}, indent=1), folded="compare.json"),
            Text(
                "Every run is an ordinary training run below runs/, with its own config. "
                "results.csv and results.jsonl hold one line a run."
            ),
        ]


def _items(said: Iterable[str]) -> list[Block]:
    items = [each for each in said if each]
    return [Items(items)] if items else []


def _present(blocks: Iterable[Block | None]) -> list[Block]:
    return [block for block in blocks if block is not None]


def _fold(rows: Sequence[object], word: str) -> str:
    return several(len(rows), word) if len(rows) > _LONG else ""


def _tried(choice: Choice) -> str:
    added = f", {choice.added} of them added" if choice.added else ""
    return f"{choice.tried}{added}" if choice.tried else "–"


def _edge(choice: Choice) -> str:
    names = listing([name.rpartition(".")[2] for name in choice.on_edge])
    parts = [f"{names}: verdict withheld" if names else "", choice.note]
    if choice.added and not names:
        parts.append("space extended")
    return "; ".join(part for part in parts if part) or "no"


def _largest(found: Stable | None) -> str:
    if found is None:
        return "–"
    if found.rate is None:
        return "none tried"
    return f"{'≥ ' if found.open else ''}{number(found.rate)}"


def _values(values: Any) -> str:
    if isinstance(values, Mapping):
        scale = "logarithmic" if values.get("log") else "even"
        return f"{number(values.get('low'))} to {number(values.get('high'))}, {scale}"
    return ", ".join(number(each) if isinstance(each, float) else str(each) for each in values)
