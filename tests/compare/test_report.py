"""Reports of made-up comparisons, whose figures are known."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from _sweep import METRIC, sweep
from markdown_it import MarkdownIt

from zoo.compare.comparison import Comparison
from zoo.compare.config import load_compare_config
from zoo.compare.report import write_report
from zoo.compare.report.chart import HEIGHT, WIDTH, Chart, Scale
from zoo.compare.report.document import Document, Items, Section, Table, Text
from zoo.compare.report.evidence import Evidence, median_curve, thinned
from zoo.compare.report.figures import frontier
from zoo.compare.report.headline import headline
from zoo.compare.report.markdown import markdown
from zoo.compare.report.words import figure, number
from zoo.compare.statistics import Analysis, Pair, Rank, analyse
from zoo.tasks.base import Metric

NASTY = "<img src=x onerror='alert(1)'>|$a$ & b"
PLACE = ("language_model", 2, 64)


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text; checks that tags match."""

    VOID = ("meta", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(comparison: Comparison) -> Page:
    return Page(write_report(comparison)["html"].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return sweep(
        tmp_path_factory.mktemp("sweep"),
        variants=("post_norm", "pre_norm", NASTY),
        depths=(2, 4),
        steps=100,
        every=2,
    )


@pytest.fixture(scope="module")
def page(made: Comparison) -> Page:
    return page_of(made)


def test_the_page_needs_nothing_but_itself(made: Comparison) -> None:
    text = write_report(made)["html"].read_text(encoding="utf-8")
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    for tag, attributes in Page(text).elements:
        assert tag not in ("link", "img", "iframe", "object", "use", "image")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")


def test_links_lead_to_sections(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"][1:] for tag, attributes in page.elements if tag == "a"]
    assert links
    assert set(links) <= set(ids)


def test_a_name_with_html_in_it_is_shown_as_it_is(made: Comparison, page: Page) -> None:
    assert NASTY in page.text
    assert not [tag for tag, _ in page.elements if tag == "img"]
    labels = [a.get("aria-label", "") for _, a in page.elements]
    assert any(NASTY in label for label in labels)
    text = write_report(made)["markdown"].read_text(encoding="utf-8")
    lines = "".join(text.split("```")[::2]).splitlines()
    tables = [line for line in lines if line.startswith("| ")]
    assert any("\\<img" in line for line in tables)
    assert not [line for line in lines if re.search(r"(?<!\\)<img", line)]
    header = next(line for line in tables if "place" in line)
    row = tables[tables.index(header) + 2]
    bars = re.compile(r"(?<!\\)\|")
    assert len(bars.findall(row)) == len(bars.findall(header))


def test_every_variant_has_a_switch_and_its_curves_have_its_colour(
    made: Comparison, page: Page
) -> None:
    boxes = [a["value"] for tag, a in page.elements if tag == "input"]
    assert len(boxes) == len(set(boxes)) == 3
    drawn = [a for tag, a in page.elements if tag == "path" and a.get("class") in boxes]
    colours = {box: {a["stroke"] for a in drawn if a["class"] == box} for box in boxes}
    assert all(len(own) == 1 for own in colours.values())
    assert len(set.union(*colours.values())) == 3
    swatches = [a["stroke"] for tag, a in page.elements if a.get("d") == "M0 4H26"]
    assert [{colour} for colour in swatches] == [colours[box] for box in boxes]


def test_pictures_beside_markdown_are_whole(made: Comparison) -> None:
    text = write_report(made)["markdown"].read_text(encoding="utf-8")
    pictures = re.findall(r"\]\(([\w/.-]+\.svg)\)", text)
    assert len(pictures) == 9
    for name in pictures:
        root = ElementTree.parse(made.workdir / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        if "stability" not in name:
            words = [element.text for element in root.iter() if element.text]
            assert NASTY in words  # the legend


def test_shown_means_are_those_of_finished_runs_alone(made: Comparison, page: Page) -> None:
    for variant in ("post_norm", "pre_norm"):
        values = [
            row.test
            for row in made.rows
            if row.variant == variant and row.depth == 2 and row.test is not None
        ]
        assert figure(statistics.fmean(values)) in page.text
    # At the deepest stack post_norm lost one of three: no mean of the other two is given.
    left = [row.test for row in made.rows if row.variant == "post_norm" and row.depth == 4]
    left = [value for value in left if value is not None]
    assert len(left) == 2
    assert figure(statistics.fmean(left)) not in page.text
    assert "1 of 3 lost" in page.text
    assert Evidence(made).whole("post_norm", ("language_model", 4, 64)) is None


def test_runs_that_were_lost_are_listed(made: Comparison) -> None:
    lost = [row for row in made.rows if row.status == "diverged"]
    assert len(lost) == 3
    text = write_report(made)["markdown"].read_text(encoding="utf-8")
    section = text.split("## Runs that did not finish")[1].split("## ")[0]
    assert section.count("| diverged |") == 3
    assert section.count("| post\\_norm |") == 3
    assert "loss = nan at step 50" in section


def test_an_edge_withholds_the_verdict_in_words(page: Page) -> None:
    assert "lr: verdict withheld" in page.text


def test_raw_results_hold_every_run(made: Comparison) -> None:
    files = write_report(made)
    table = list(csv.DictReader(files["csv"].open(encoding="utf-8")))
    lines = [json.loads(line) for line in files["json"].read_text().splitlines()]
    assert [row["run"] for row in table] == [row.run for row in made.rows]
    assert [row["run"] for row in lines] == [row.run for row in made.rows]
    assert {row["status"] for row in lines} == {"finished", "diverged"}


def test_the_command_to_make_it_again_reads_the_config_of_the_report(
    three: Comparison, tmp_path: Path
) -> None:
    text = write_report(three)["markdown"].read_text(encoding="utf-8")
    command, config = text.split("## To make it again")[1].split("```")[1::2]
    assert command.split()[:4] == ["zoo", "compare", "--config", "compare.json"]
    (tmp_path / "compare.json").write_text(config, encoding="utf-8")
    asked = load_compare_config(tmp_path / "compare.json")
    assert asked.variants == ("b", "c", "d")
    assert asked.space == {"optim.lr": (3e-4, 1e-3, 3e-3, 1e-2)}
    assert asked.seeds == 3


def test_a_report_again_is_the_same_and_leaves_nothing_else(made: Comparison) -> None:
    before = {kind: path.read_bytes() for kind, path in write_report(made).items()}
    assert {kind: path.read_bytes() for kind, path in write_report(made).items()} == before
    assert not list(made.workdir.glob(".*")) + list((made.workdir / "report").glob(".*"))


def test_missing_curves_and_layers_leave_their_sections_out(tmp_path: Path) -> None:
    made = sweep(tmp_path, depths=(2,), steps=20, seeds=2)
    shutil.rmtree(tmp_path / "runs")
    text = page_of(made).text
    assert "Every final run thin" not in text
    assert "Layers at the end" not in text
    assert "Ranking" in text


def test_damaged_figures_are_gaps(tmp_path: Path) -> None:
    made = sweep(tmp_path, variants=("post_norm", "pre_norm"), depths=(2,), steps=20, seeds=2)
    for path in tmp_path.glob("runs/*/layers.json"):
        path.write_text('{"grad_norm": ["NaN", 0.0, null], "stream_rms": "no list"}')
    for path in list(tmp_path.glob("runs/*/metrics.jsonl"))[:2]:
        path.write_text("no json\n")
    assert "nan" not in {a.get("d") for _, a in page_of(made).elements}


def test_an_empty_comparison_has_a_page(tmp_path: Path) -> None:
    empty = Comparison(tmp_path / "new", {}, METRIC, [], [], analyse([]), [], {})
    page = page_of(empty)
    assert "No verdict: no run of the final comparison has ended." in page.text
    assert not [tag for tag, _ in page.elements if tag == "input"]


def test_one_variant_alone_is_no_comparison(tmp_path: Path) -> None:
    alone = sweep(tmp_path, variants=("pre_norm",), depths=(2,), steps=20, seeds=2)
    page = page_of(alone)
    assert "No verdict: pre_norm was run alone, with nothing to compare it to." in page.text
    assert "Learning rate" in page.text


def test_an_interim_report_says_so(made: Comparison) -> None:
    rows = [
        dataclasses.replace(row, status="missing") if index < 2 else row
        for index, row in enumerate(made.rows)
    ]
    part = dataclasses.replace(made, rows=rows)
    assert headline(part, Evidence(part)).startswith("Interim, 2 runs still to be made. ")


def against(*verdicts: tuple[str, str, str | None, float, str]) -> list[Pair]:
    """Pairs of (a, b, condition, difference, verdict), the interval 0.1 to either side."""
    return [
        Pair(a, b, where, value, value - 0.1, value + 0.1, 0.01, value / 0.1, verdict)
        for a, b, where, value, verdict in verdicts
    ]


def said(made: Comparison, pairs: list[Pair], order: str, metric: Metric = METRIC) -> str:
    """The headline of a comparison with these pairs and this ranking."""
    ranking = [
        Rank(place, name, 1.0, 1.0, 0.0, 6) for place, name in enumerate(order.split(), start=1)
    ]
    analysis = dataclasses.replace(
        made.analysis, pairs=pairs, ranking=ranking, lower_is_better=metric.lower_is_better
    )
    given = dataclasses.replace(made, analysis=analysis, metric=metric)
    return headline(given, Evidence(given))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Variants b, c and d at two depths; nothing is lost."""
    folder = tmp_path_factory.mktemp("three")
    made = sweep(folder, variants=("a", "b", "c", "d"), depths=(2, 4), steps=20, layers=False)
    rows = [row for row in made.rows if row.variant != "a"]
    config = {**made.config, "variants": ["b", "c", "d"]}
    return dataclasses.replace(made, rows=rows, config=config)


def test_the_headline_names_the_better_one_by_how_much_and_where(three: Comparison) -> None:
    places = sorted({row.condition for row in three.rows})
    alone = [("c", "b", where, -0.2, "a better") for where in places]
    everywhere = against(("c", "b", None, -0.21, "a better"), *alone)
    assert said(three, everywhere, "c b") == (
        "c is better than b at all 2 depths (0.210 bits a byte, 95\u00a0% interval 0.110 to 0.310)."
    )
    somewhere = against(("c", "b", None, -0.21, "a better"), alone[0])
    assert "over 2 depths taken together, and alone at 2 layers (" in said(three, somewhere, "c b")
    nowhere = against(("c", "b", None, -0.21, "a better"))
    assert "over 2 depths taken together (" in said(three, nowhere, "c b")


def test_the_headline_counts_a_gain_as_one_whatever_the_order_and_metric(
    three: Comparison,
) -> None:
    higher = Metric("bleu", lower_is_better=False, unit="BLEU")
    for a, b, difference, verdict, metric in (
        ("b", "c", 0.21, "b better", METRIC),
        ("c", "b", 0.21, "a better", higher),
        ("b", "c", -0.21, "b better", higher),
    ):
        text = said(three, against((a, b, None, difference, verdict)), "c b", metric)
        assert text.startswith("c is better than b")
        assert f"(0.210 {metric.unit}, 95\u00a0% interval 0.110 to 0.310)" in text


def test_the_headline_says_plainly_that_nothing_is_shown(three: Comparison) -> None:
    same = against(
        ("b", "c", None, 0.01, "no difference shown"), ("c", "d", None, -0.3, "a better")
    )
    text = said(three, same, "c b d")
    assert text.startswith("No difference shown between c and b; c is better than d")
    (open_,) = against(("c", "d", None, -0.3, "no verdict"))
    open_ = dataclasses.replace(open_, reason="few runs")
    assert said(three, [open_], "c b d") == "No verdict on c and d: few runs."
    mixed = [open_, *against(("b", "c", None, 0.3, "b better"))]
    assert said(three, mixed, "c b d").endswith("; no verdict on c and d: few runs.")
    alike = dataclasses.replace(
        three, analysis=dataclasses.replace(three.analysis, smallest=0.5, pairs=[])
    )
    text = said(alike, against(("c", "b", None, 0.1, "equivalent")), "c b")
    assert text == "c and b differ by less than 0.5 bits a byte."


def test_the_headline_gives_the_reason_where_failures_decide(three: Comparison) -> None:
    (pair,) = against(("b", "c", None, 0.01, "a better"))
    pair = dataclasses.replace(pair, reason="c failed in 5 of 6 against 0 of 6")
    text = said(three, [pair], "b c")
    assert text == (
        "b is better than c over 2 depths taken together (c failed in 5 of 6 against 0 of 6)."
    )
    text = said(three, [dataclasses.replace(pair, difference=-0.3, low=-0.4, high=-0.2)], "b c")
    assert "95\u00a0% interval 0.200 to 0.400; c failed in 5 of 6 against 0 of 6)." in text


def test_the_headline_says_when_a_setting_on_an_edge_withholds_the_verdict(
    three: Comparison,
) -> None:
    assert [choice.variant for choice in three.choices if choice.on_edge] == ["b"]
    text = said(three, against(("b", "c", None, 0.3, "no verdict")), "c b")
    assert text == (
        "No verdict on c and b: the best setting of b lies on an end of what was tried."
    )


def test_settings_are_shown_by_the_figure_that_they_were_chosen_by(three: Comparison) -> None:
    higher = Metric("accuracy", lower_is_better=False)
    best, other = (three.rows[0].lr, 0.5), (three.rows[0].lr, 0.7)
    rows = [
        dataclasses.replace(three.rows[0], setting={"optim.lr": rate, "x": value}, metric=value)
        for rate, value in (best, other)
    ]
    given = dataclasses.replace(three, rows=rows, select=higher)
    (found,) = Evidence(given).rates(three.rows[0].variant, PLACE)
    assert found.value == 0.7
    (found,) = Evidence(dataclasses.replace(given, select=None)).rates("b", PLACE)
    assert found.value == 0.5


def test_the_headline_tells_of_lost_runs(made: Comparison) -> None:
    assert re.search(r"post_norm (lost|failed in) 1 of 6", headline(made, Evidence(made)))


def test_rates_are_stable_up_to_the_first_loss(made: Comparison) -> None:
    evidence = Evidence(made)
    fragile = evidence.stable("post_norm", PLACE)
    assert fragile is not None
    assert (fragile.rate, fragile.open) == (3e-3, False)
    # The rate of the lost final run is no longer stable, whatever tuning saw.
    deep = evidence.stable("post_norm", ("language_model", 4, 64))
    assert deep is not None
    assert deep.rate == 1e-3
    sound = evidence.stable("pre_norm", PLACE)
    assert sound is not None
    assert (sound.rate, sound.open) == (1e-2, True)
    at_edge = evidence.longest("post_norm", PLACE)[1e-2]
    assert (at_edge.outcome, at_edge.value, at_edge.lost) == ("diverged", None, 1)


def test_all_rates_are_shown_by_their_tuning_runs(made: Comparison) -> None:
    rates = Evidence(made).longest("pre_norm", PLACE)
    own = [row for row in made.rows if row.variant == "pre_norm" and row.depth == 2]
    tuned = {row.lr: row.metric for row in own if row.phase == "tuning"}
    assert {rate: each.value for rate, each in rates.items()} == tuned
    assert rates[3e-3].runs == 4  # those on fresh seeds may be lost too


def test_thinned_curves_keep_their_mean_their_end_and_their_gaps() -> None:
    values = np.sin(np.arange(1999.0) / 100)
    points = [(float(step), float(value)) for step, value in enumerate(values)]
    few = thinned(points, 200)
    assert len(few) <= 200
    assert few[-1] == points[-1]
    # Groups of eleven along a sine of period 628 steps lose a share (pi * 11 / 628)^2 / 6.
    assert max(abs(value - math.sin(step / 100)) for step, value in few) < 1e-3
    points[500] = (500.0, math.inf)
    gaps = [step for step, value in thinned(points, 200) if math.isnan(value)]
    assert len(gaps) == 1
    assert abs(gaps[0] - 500) < 11
    assert thinned(points[:3]) == points[:3]


def test_the_median_is_that_of_the_steps_all_have() -> None:
    curves = [
        [(0.0, 1.0), (10.0, 3.0), (20.0, 9.0)],
        [(5.0, 4.0), (10.0, 5.0)],
        [(0.0, 0.0), (20.0, 2.0)],
    ]
    assert median_curve(curves) == [(10.0, 3.0)]
    assert median_curve([curves[0], []]) == []
    assert median_curve(curves[:1]) == curves[0]


def test_the_frontier_is_what_nothing_cheaper_equals() -> None:
    draw = np.random.default_rng(0)
    points = [(float(a), float(b)) for a, b in draw.integers(0, 12, (60, 2))]
    for lower in (True, False):
        sign = 1 if lower else -1

        def beaten(mine: tuple[float, float], sign: int = sign) -> bool:
            return any(
                other != mine and other[0] <= mine[0] and sign * other[1] <= sign * mine[1]
                for other in points
            )

        assert frontier(points, lower) == sorted({each for each in points if not beaten(each)})


def test_a_chart_puts_data_where_its_ticks_are() -> None:
    chart = Chart()
    chart.x = Scale("rate", log=True, ticks=[(1e-3, "thousandth"), (1e-1, "tenth")])
    chart.y = Scale("loss", ticks=[(1.0, "one"), (2.0, "two")])
    chart.line([(1e-3, 1.0), (1e-2, 1.5), (math.nan, 1.0), (1e-1, 2.0)], "#123456")
    root = ElementTree.fromstring(f"<svg>{chart.inner()}</svg>")
    inner = root.find("svg")
    assert inner is not None
    left, top = float(inner.attrib["x"]), float(inner.attrib["y"])
    path = inner.find("path")
    assert path is not None
    found = [
        tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", path.attrib["d"])
    ]
    ticks = {each.text: each.attrib for each in root.iter("text")}
    assert path.attrib["d"].count("M") == 2  # the gap
    for (x, y), across, up in ((found[0], "thousandth", "one"), (found[2], "tenth", "two")):
        assert left + x == pytest.approx(float(ticks[across]["x"]), abs=0.2)
        # A tick's letters stand a little below its line.
        assert top + y == pytest.approx(float(ticks[up]["y"]) - 3.5, abs=0.2)
    assert found[1] == pytest.approx(np.mean([found[0], found[2]], axis=0), abs=0.2)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("span", [(1e-9, 2e-9), (0.5, 0.51), (1, 4), (3, 4000), (2e9, 7e15)])
def test_ticks_are_few_in_reach_and_told_apart(span: tuple[float, float], log: bool) -> None:
    scale = Scale(log=log)
    scale.see(span)
    marks = scale.marks()
    assert 2 <= len(marks) <= 10
    assert len({text for _, text in marks}) == len(marks)
    low, high = scale.ends()
    for value, text in marks:
        assert low <= scale.measure(value) <= high
        assert len(text) < 10


@pytest.mark.parametrize("values", [[], [math.nan], [2.0], [0.0], [-1.0, 5.0]])
def test_a_chart_of_little_or_nothing_is_still_one(values: list[float]) -> None:
    chart = Chart("little")
    chart.line([(float(step), value) for step, value in enumerate(values)], "#000")
    chart.dots([(0.0, value) for value in values], "#000")
    chart.y.log = bool(values) and min(values) > 0
    text = chart.inner()
    assert "nan" not in text
    assert "inf" not in text
    for each in ElementTree.fromstring(f"<svg>{text}</svg>").iter("text"):
        assert 0 <= float(each.attrib["x"]) <= WIDTH
        assert 0 <= float(each.attrib["y"]) <= HEIGHT


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3e-4, "3e-4"), (1.23456e-7, "1.235e-7"), (0.001, "0.001"), (123456.0, "1.235e5"), (0.0, "0")],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown
    assert number(None) == number(math.nan) == "–"
    assert (figure(1.9), figure(1234.4)) == ("1.900", "1234")


def test_markdown_shows_text_as_it_is() -> None:
    special = "a*b*_c_[d](e)`f`<g>|h\\i #j ~~k~~ &amp; $l$"
    blocks = [Text(special), Table(["x|y"], [[special]]), Items(["# no heading", "1. no number"])]
    written = markdown(Document(special, special, [], [Section(special, blocks)]), None)
    shown = Page(MarkdownIt().enable(["table", "strikethrough"]).render(written))
    assert shown.text.count(special) == 5
    tags = [tag for tag, _ in shown.elements]
    assert not {"ol", "em", "code", "a", "g", "s", "del"} & set(tags)
    assert [tags.count(tag) for tag in ("h1", "h2", "strong", "th", "td", "li")] == [
        1,
        1,
        1,
        1,
        1,
        2,
    ]
    assert "# no heading" in shown.text
    assert "1. no number" in shown.text


def test_without_an_analysis_there_is_no_verdict(three: Comparison) -> None:
    bare = dataclasses.replace(three, analysis=analyse([]))
    assert isinstance(bare.analysis, Analysis)
    assert headline(bare, Evidence(bare)).startswith("No verdict")
