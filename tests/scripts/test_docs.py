"""The pages on variants are those of the registry, and its pictures hold what they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from _diagram import asks, diagram
from _support import Passed
from _svg import Canvas, width_of

import docs
import zoo
from zoo.variants.placement import Multiplier, NormSlot, Placement, Site, StackPlacement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return docs.pages(*docs.results())


def test_pages_and_pictures_are_not_stale(made: dict[str, str]) -> None:
    assert docs.stale(made) == [], "run `python scripts/docs.py`"


def test_every_placement_has_its_gradients_and_updates_measured() -> None:
    assert docs.unmeasured() == [], "run `python scripts/docs.py`"


def test_a_changed_page_and_a_picture_of_nothing_are_stale(
    made: dict[str, str], tmp_path: Path
) -> None:
    for path, text in made.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert docs.stale(made, tmp_path) == []
    (tmp_path / "docs" / "gallery" / "gone_norm.svg").write_text("<svg/>")
    (tmp_path / "docs" / "variants.md").write_text("# Variants\n")
    (tmp_path / "docs" / "support.md").unlink()
    assert sorted(docs.stale(made, tmp_path)) == [
        "docs/gallery/gone_norm.svg",
        "docs/support.md",
        "docs/variants.md",
    ]


def test_every_variant_is_on_every_page() -> None:
    for page in ("variants", "support", "gallery"):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        assert [name for name in docs.NAMES if name not in text] == []


def test_the_readme_counts_the_variants() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"first of {len(docs.NAMES)} placements" in " ".join(text.split())


def test_the_depths_of_the_table_have_the_papers_constants() -> None:
    # DeepNet, table 2, decoder-only: (2M)^(1/4) and (8M)^(-1/4).
    text = (ROOT / "docs" / "variants.md").read_text(encoding="utf-8")
    for depth in (12, 100):
        assert (
            f"a = {(2 * depth) ** 0.25:.6g}; v, o, w1, w2 drawn × {(8 * depth) ** -0.25:.4g}"
            in text
        )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "gallery").glob("*.svg")), ids=lambda p: p.stem
)
def test_a_picture_is_whole(path: Path) -> None:
    """Well-formed, on paper of its own, with every text inside."""
    root = ElementTree.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    paper = next(root.iter(f"{space}rect"))
    assert (paper.attrib["fill"], float(paper.attrib["width"])) == ("#ffffff", width)
    moved = {id(text): group for group in root.iter(f"{space}g") for text in group}
    for text in root.iter(f"{space}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        if id(text) in moved:
            dx, dy = map(float, re.findall(r"-?[\d.]+", moved[id(text)].attrib["transform"]))
            x, y = x + dx, y + dy
        size = float(text.attrib["font-size"])
        length = width_of("".join(text.itertext()).replace("_", "-"), 0.72 * size)
        back = {"start": 0.0, "middle": length / 2, "end": length}[text.attrib["text-anchor"]]
        assert left <= x - back
        assert x - back + length <= left + width
        assert top <= y - 0.7 * size
        assert y <= top + height


def one_layer(site: Site, **ends: object) -> Placement:
    return Placement("mine", (("decoder", StackPlacement(layers=((site,),), **ends)),))


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_every_part_of_a_site_is_in_its_picture() -> None:
    site = Site(
        "mlp",
        norm_in=NormSlot(scale=0.5),
        norm_branch=NormSlot(0.25),
        norm_out=NormSlot(kind="center_norm"),
        skip=Multiplier(2.5),
        branch=Multiplier(0.125, learned="vector"),
        inner_norm=NormSlot(),
        init_gains=(("w1", 0.75),),
    )
    shown = texts(
        diagram(one_layer(site, final_norm="forbidden", embedding_multiplier=12.0), "mine")
    )
    parts = ("Nin", "Nbranch", "Nout", "× 0.5", "gain from 0.25", "center norm", "a = 2.5", "12")
    parts += ("learned vector", "from 0.125", "norm before Wout", "layer 0", "Nemb")
    assert [part for part in parts if part not in shown] == []
    assert "Nfinal" not in shown
    assert any("0.75" in text for text in shown)


def test_a_stream_without_a_drawing_of_its_own_has_a_general_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zoo.variants.streams import STREAMS, Stream
    from zoo.variants.streams.plain import PlainSite

    monkeypatch.setitem(STREAMS, "another", Stream(site=PlainSite))
    shown = texts(diagram(one_layer(Site("mlp"), stream="another"), "mine"))
    assert {"read(carry)", "carry' = write(carry, f)", "close(carry)"} <= set(shown)


@pytest.mark.parametrize("name", zoo.list_variants())
def test_a_wiring_writes_every_lane_of_every_site(name: str) -> None:
    from zoo.variants.streams import STREAMS

    for architecture in ("decoder", "encoder_decoder"):
        for _, stack in zoo.describe(name, architecture=architecture).placement.stacks:
            wired = STREAMS[stack.stream].wiring(stack)
            assert len(wired.opens) == len(wired.lanes)
            for layer in stack.layers:
                for site in layer:
                    assert len(wired.step(site).writes) == len(wired.lanes)


def test_requests_to_the_other_kind_of_sublayer_are_not_shown() -> None:
    asking = {"qk_unit": True, "hidden_scale": Multiplier(2.0, learned="vector")}
    assert asks([Site("mlp", **asking)]) == ["hidden × learned"]
    assert asks([Site("self_attention", **asking)]) == ["unit q, k"]


def test_a_drawing_reaches_as_far_as_its_text() -> None:
    canvas = Canvas()
    canvas.text(10.0, 0.0, "N_out(x + f)", anchor="end")
    assert canvas.right == pytest.approx(10.0)
    assert canvas.left == pytest.approx(10.0 - width_of("N_out(x + f)"))
    assert width_of("N_out(x)") < width_of("Nout(x)")


JUNIT = """<testsuites><testsuite>
<testcase classname="t" name="test_a_pair_runs_and_trains_and_comes_back[b-decoder]"/>
<testcase classname="t" name="test_a_pair_runs_and_trains_and_comes_back[a-vision]">
<failure message="no"/></testcase>
<testcase classname="t" name="test_another_setting_goes_with_the_pair[b-decoder-rms norm]"/>
<testcase classname="t" name="test_every_setting_goes_with_every_pair[b-decoder-remat]"><skipped/>
</testcase><testcase classname="t" name="test_other[b-decoder]"/></testsuite></testsuites>"""


def test_only_what_passed_has_a_mark(tmp_path: Path) -> None:
    (tmp_path / "run.xml").write_text(JUNIT)
    before = Passed(
        {"test_a_pair_runs_and_trains_and_comes_back": frozenset({"a-vision", "a-decoder"})}
    )
    passed = before.with_run(tmp_path / "run.xml")
    passed.write(tmp_path / "support.json")
    assert Passed.read(tmp_path / "support.json") == passed
    assert passed.cases == {
        "test_a_pair_runs_and_trains_and_comes_back": {"a-decoder", "b-decoder"},
        "test_another_setting_goes_with_the_pair": {"b-decoder-rms norm"},
        "test_every_setting_goes_with_every_pair": set(),
    }
    rows = docs.matrix(passed, ["a", "b"])
    assert rows[2].startswith("| `a` | D | D | D | D |  |")
    assert rows[3].count(" D ") == 5
