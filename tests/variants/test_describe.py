"""`zoo.describe`, read against the papers' formulas and the placements themselves."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import pytest

import zoo
from zoo.errors import VariantError
from zoo.variants import serial
from zoo.variants.describe_text import site_rows
from zoo.variants.placement import Gate, Multiplier, NormSlot, Ramp, Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.segments import formula, segments
from zoo.variants.variant import SUBLAYERS, Context, Paper, Variant

EVERY = zoo.list_variants()


def decoder(name: str | Variant, **sizes: Any) -> dict[str, Any]:
    stack: dict[str, Any] = zoo.describe(name, **sizes).to_json()["stacks"]["decoder"]
    return stack


@pytest.mark.parametrize("architecture", SUBLAYERS)
@pytest.mark.parametrize("name", EVERY)
def test_json_covers_every_layer_once(name: str, architecture: Any) -> None:
    described = zoo.describe(name, architecture=architecture, num_layers=6)
    data = json.loads(json.dumps(described.to_json(), allow_nan=False))
    assert data["name"] == name
    assert set(data["stacks"]) == set(SUBLAYERS[architecture])
    for stack, sublayers in SUBLAYERS[architecture].items():
        found = data["stacks"][stack]["segments"]
        assert sorted(layer for segment in found for layer in segment["layers"]) == list(range(6))
        for segment in found:
            assert [each["sublayer"] for each in segment["sublayers"]] == list(sublayers)


@pytest.mark.parametrize("name", EVERY)
def test_text_shows_what_the_variant_says_of_itself(name: str) -> None:
    variant = get_variant(name)
    described = zoo.describe(name)
    words = " ".join(str(described).split())
    for part in (name, variant.summary, variant.equation, variant.failure, variant.paper.title):
        assert " ".join(part.split()) in words
    assert variant.recipe.source in words
    assert all(" ".join(part.split()) in words for part in (variant.note, *variant.used_by))
    assert variant.provenance.replace("_", "-") in words
    assert all(alias in words for alias in variant.aliases)
    stack = described.placement.stack("decoder")
    assert f"final norm {stack.final_norm}" in words
    assert f"embedding norm {stack.embedding_norm}" in words


@pytest.mark.parametrize("name", EVERY)
def test_bibtex_is_an_entry_with_balanced_braces(name: str) -> None:
    bibtex = zoo.describe(name).to_json()["paper"]["bibtex"]
    head, *fields, end = bibtex.splitlines()
    assert re.fullmatch(r"@\w+\{[a-z0-9]+,", head)
    assert end == "}"
    read: dict[str, str] = {}
    for field in fields:
        match = re.fullmatch(r"  (\w+) = \{(.*)\},", field)
        assert match is not None, field
        read[match[1]] = match[2]
    assert {"title", "author", "year"} <= set(read)
    assert all(value.count("{") == value.count("}") for value in read.values())
    assert re.fullmatch(r"\d{4}", read["year"])
    assert ("eprint" in read) != ("url" in read)
    assert re.fullmatch(r"\d{4}\.\d{4,5}", read.get("eprint", "2401.00001"))
    named = r"[^,]+, [^,]+|\{[^{}]+\}|others"
    assert all(re.fullmatch(named, author) for author in read["author"].split(" and "))


def test_deep_norm_has_the_constants_of_its_table() -> None:
    # DeepNet, table 2: decoder-only alpha = (2M)^(1/4), beta = (8M)^(-1/4).
    (segment,) = decoder("deep_norm", num_layers=100)["segments"]
    attention, mlp = segment["sublayers"]
    assert attention["skip"] == mlp["skip"] == pytest.approx(200**0.25)
    assert attention["init_gains"] == pytest.approx(
        {"q": 1, "k": 1, "v": 800**-0.25, "o": 800**-0.25}
    )
    assert mlp["init_gains"] == pytest.approx({"w1": 800**-0.25, "w2": 800**-0.25})
    assert "a (skip) = 3.7606\n" in str(zoo.describe("deep_norm", num_layers=100))


def test_encoder_and_decoder_depths_are_told_apart() -> None:
    # DeepNet, table 2: encoder alpha = 0.81 (N^4 M)^(1/16), decoder (3M)^(1/4).
    stacks = zoo.describe(
        "deep_norm", architecture="encoder_decoder", num_layers=18, num_encoder_layers=6
    ).to_json()["stacks"]
    alphas = {name: stack["segments"][0]["sublayers"][0]["skip"] for name, stack in stacks.items()}
    assert alphas == pytest.approx(
        {"encoder": 0.81 * (6**4 * 18) ** (1 / 16), "decoder": (3 * 18) ** 0.25}
    )
    assert [stack["num_layers"] for stack in stacks.values()] == [6, 18]


def test_sub_ln_leaves_cross_attention_without_an_inner_norm() -> None:
    stack = zoo.describe("sub_ln", architecture="encoder_decoder", num_layers=4).to_json()
    attention, cross, mlp = stack["stacks"]["decoder"]["segments"][0]["sublayers"]
    assert ["inner_norm" in each["norms"] for each in (attention, cross, mlp)] == [1, 0, 1]
    assert set(cross["init_gains"].values()) == {1.0}
    assert mlp["init_gains"]["w1"] == pytest.approx(math.sqrt(math.log(12)))


def test_mix_norm_is_told_by_ranges_of_layers() -> None:
    text = str(zoo.describe("mix_norm", num_layers=12))
    first, second = re.findall(r"layers +(\S+)\n.*\n +(x' = .+)", text)
    assert first == ("0–2", "x' = N(x + F(x))")
    assert second == ("3–11", "x' = x + F(N(x))")


def test_requirements_on_the_branch_are_said() -> None:
    text = str(zoo.describe("res_post_norm"))
    assert text.count("queries and keys need a norm") == 1
    assert text.index("queries and keys") < text.index("    mlp\n")
    assert "norm before its output matrix" in str(zoo.describe("sub_ln"))


def test_a_learned_multiplier_is_no_constant() -> None:
    (segment,) = decoder("rezero")["segments"]
    for sublayer in segment["sublayers"]:
        assert (sublayer["branch"], sublayer["branch_learned"]) == (0.0, "scalar")
        assert sublayer["norms"] == {}
    assert "b (branch): learned scalar, starts at 0" in str(zoo.describe("rezero"))


def test_options_show_value_and_default() -> None:
    described = zoo.describe("mix_norm(fraction=0.5)")
    assert described.to_json()["options"] == [{"name": "fraction", "value": 0.5, "default": 0.25}]
    assert "fraction = 0.5 (default 0.25)" in str(described)
    assert str(described).startswith("mix_norm(fraction=0.5)\n")


def by_layer(context: Context) -> Site:
    return Site(context.sublayer, norm_in=NormSlot(1.0 / (1 + context.layer)))


MINE = Variant(
    name="by_layer",
    summary="a gain for each layer",
    equation="x' = x + F(N(x))",
    law=by_layer,
    paper=Paper("A Paper", ("Doe, Jane",), 2024, "2401.00001", "doe2024paper"),
)


def test_a_number_of_each_layer_is_shown_from_first_to_last() -> None:
    described = zoo.describe(MINE, num_layers=4)
    assert "gain of norm_in starts at 1 (first) … 0.25 (last)" in str(described)
    (segment,) = described.to_json()["stacks"]["decoder"]["segments"]
    assert segment["sublayers"][0]["norms"]["norm_in"] == [1.0, 1 / 2, 1 / 3, 1 / 4]


def test_layers_that_alternate_are_two_segments() -> None:
    post, pre = Site("mlp", norm_out=NormSlot()), Site("mlp", norm_in=NormSlot())
    stack = StackPlacement(tuple((post if i % 2 else pre,) for i in range(6)))
    assert [segment.layers for segment in segments(stack)] == [(0, 2, 4), (1, 3, 5)]


FULL = Site(
    "parallel",
    norm_in=NormSlot(scale=0.5),
    norm_branch=NormSlot(kind="rms_norm", eps=1e-8, affine=False),
    skip=Multiplier(0.05, learned="vector", stored=0.125),
    branch=Multiplier(2.0, ramp=Ramp(steps=10.0, floor=0.25, start=30.0, power=2.0)),
    inner_norm=NormSlot(),
    qk_norm=False,
    skip_normed=True,
    gate=Gate("straight_through", on="skip", start=0.75),
    v_norm=True,
    qk_unit=True,
    qk_scale=Multiplier(1.5, learned="vector"),
    attention_scale=3.0,
    head_scale=True,
    score_scale=True,
    hidden_scale=Multiplier(4.5, learned="vector"),
    scalar_biases=True,
    init_gains=(("v", 0.7),),
    lr_multipliers=(("branch", 0.1),),
    decay_multipliers=(("matrix", 8.5),),
)
SAID = """x' = a G(c_in N(x)) + b N(F(c_in N(x)))
c_in (behind norm_in) = 0.5
norm_branch: rms_norm, eps 1e-08, without weights
a (skip): learned vector, starts at 0.05 (as 0.125 × 0.4)
b (branch) = 2 × a schedule: 0.25 until step 30, with the square of the step to 1 at step 40
g a learned scalar, starts at 0.75
F needs a norm before its output matrix
queries and keys must not have a norm
queries and keys have unit length
queries and keys × learned vector, starts at 1.5
the values of each head have a norm
attention scores × 3, not head_dim^-0.5
each head's scores × a learned scalar, starts at 10
each head's output × a learned scalar, starts at 1
what enters the activation × learned vector, starts at 4.5
F has a learned scalar, from 0, before each of its operations
initial std: q, k, o, w1, w2 × 1; v × 0.7
learning rate: branch × 0.1
weight decay: matrix × 8.5
embedding × 12
gradient of the embedding × 0.1
final norm: center_norm, gain starts at 0.5
logits × 0.25
initial std: head × 0
learning rate: embedding × 2"""


def full_ends(context: Context) -> StackPlacement:
    return StackPlacement(
        embedding_multiplier=12.0,
        embedding_gradient=0.1,
        final_slot=NormSlot(0.5, kind="center_norm"),
        logit_scale=Multiplier(0.25),
        init_gains=(("head", 0.0),),
        lr_multipliers=(("embedding", 2.0),),
    )


@pytest.mark.parametrize("said", SAID.splitlines())
def test_everything_that_a_placement_can_say_is_shown(said: str) -> None:
    whole = dataclasses.replace(MINE, law=lambda context: FULL, ends=full_ends)
    assert said in " ".join(str(zoo.describe(whole, num_layers=2)).split())


def test_json_holds_all_of_a_site() -> None:
    whole = dataclasses.replace(MINE, law=lambda context: FULL, ends=full_ends)
    stack = decoder(whole, num_layers=2)
    (segment,) = stack["segments"]
    assert segment["sublayers"][0]["site"] == serial.encode(FULL)
    assert stack["ends"]["logit_scale"] == serial.encode(Multiplier(0.25))
    assert stack["ends"]["embedding_multiplier"] == 12.0


def test_a_variance_gate_has_other_letters_than_the_multipliers() -> None:
    gated = Site("mlp", branch=Multiplier(0.5), gate=Gate("variance", temperature=0.3))
    assert formula([gated]) == "x' = alpha x + b beta F(x)"


def test_another_stream_is_shown_by_the_equation_of_its_variant() -> None:
    for name in EVERY:
        variant = get_variant(name)
        text = str(zoo.describe(name))
        (segment, *_) = decoder(name)["segments"]
        if variant.stream == "plain":
            assert segment["sublayers"][0]["formula"].startswith("x' = ")
        else:
            assert not re.search(r"^      x' = ", text, re.M)
            assert f"stream      {variant.stream}" in text
            assert segment["sublayers"][0]["formula"] == variant.equation


def test_starts_and_constants_of_a_stream_are_shown() -> None:
    site = Site(
        "mlp",
        norms=(("mixing", NormSlot(affine=False)),),
        constants=(("decay", 0.5),),
        starts=(("rows", (1.0, 0.0)), ("many", (0.0,) * 8 + (2.0,)), ("same", (3.0,) * 9)),
        traits=("last",),
    )
    stack = StackPlacement(stream="laurel", options=(("form", "low_rank"), ("rank", 4)))
    assert site_rows([site], stack) == (
        "f = F(x);  x' = x + x A B + f",
        "norms: mixing",
        "mixing: without weights",
        "decay = 0.5",
        "rows starts at (1, 0)",
        "many starts at 9 values from 0 to 2",
        "same starts at 3 (all 9)",
        "here: last",
    )


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("post", {}, "post_norm, res_post_norm or deep_norm"),
        ("dep_norm", {}, "did you mean deep_norm"),
        ("post_norm", {"architecture": "decodr"}, "did you mean decoder"),
        ("post_norm", {"num_layers": 0}, "num_layers = 0"),
        ("post_norm", {"d_model": -1}, "d_model = -1"),
        ("post_norm", {"num_encoder_layers": 3}, "num_encoder_layers = 3"),
    ],
)
def test_what_cannot_be_described_is_refused(
    name: str, sizes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(VariantError, match=re.escape(expected)):
        zoo.describe(name, **sizes)


def test_a_depth_beyond_what_can_be_trained_is_refused() -> None:
    with pytest.raises(VariantError, match=r"num_layers = 100000000: must be at most 10,000"):
        zoo.describe("post_norm", num_layers=100_000_000)
