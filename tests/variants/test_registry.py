"""Names, options, refusals, and variants of one's own."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import build
from zoo.variants import registry
from zoo.variants.placement import NormSlot, Site
from zoo.variants.registry import (
    get_variant,
    is_known,
    list_variants,
    register_variant,
)
from zoo.variants.variant import Context, Paper, Variant, parse_spec

ALIASES = [(alias, name) for name in list_variants() for alias in get_variant(name).aliases]


@pytest.mark.parametrize("name", list_variants())
def test_a_canonical_name_is_its_own_and_folds(name: str) -> None:
    variant = get_variant(name)
    assert variant.name == name == variant.spec
    for spelling in (name.upper(), name.replace("_", "-"), name.replace("_", ""), f" {name} "):
        assert get_variant(spelling) == variant


@pytest.mark.parametrize(("alias", "name"), ALIASES)
def test_an_alias_is_exactly_its_variant(alias: str, name: str) -> None:
    assert get_variant(alias) == get_variant(name)
    assert get_variant(alias).spec == name


def test_a_name_or_alias_belongs_to_one_variant() -> None:
    owners: dict[str, str] = {}
    for word, name in [*((name, name) for name in list_variants()), *ALIASES]:
        folded = word.lower().replace("_", "").replace("-", "")
        assert owners.setdefault(folded, name) == name, word


@pytest.mark.parametrize("name", list_variants())
def test_every_variant_says_what_it_is(name: str) -> None:
    variant = get_variant(name)
    assert variant.summary
    assert variant.equation
    bibtex = variant.paper.bibtex()
    assert re.fullmatch(r"@article\{[a-z0-9_]+,\n(  \w+ = \{.+\},\n)+\}", bibtex)
    assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}|https://\S+", variant.paper.link)
    assert str(variant.paper.year) in variant.paper.key


@pytest.mark.parametrize("name", list_variants())
def test_options_that_differ_are_written_and_read_back(name: str) -> None:
    default = get_variant(name)
    for option, value in default.options.items():
        assert get_variant(f"{name}({option}={value!r})") == default
        other = not value if isinstance(value, bool) else None
        if other is None:
            continue
        spec = get_variant(f"{name}({option}={other!r})").spec
        assert spec == f"{name}({option}={other!r})"
        assert get_variant(spec).values[option] == other
        assert get_variant(spec).options == default.options


def test_options_are_read_with_any_spacing_and_an_int_stands_for_a_float() -> None:
    for spelling, spec in [
        ("DeepNet( p = 0.5 )", "deep_norm(p=0.5)"),
        ("deep_norm(p=1)", "deep_norm(p=1.0)"),
        ("pre-LN(scaled_init=True)", "pre_norm(scaled_init=True)"),
        ("post_norm()", "post_norm"),
    ]:
        assert get_variant(spelling).spec == spec


def test_an_option_of_an_option_goes_on_from_what_was_given() -> None:
    half = get_variant("deep_norm(p=0.5)")
    assert (half.values, half.options, half.given) == ({"p": 0.5}, {"p": 0.25}, {"p": 0.5})
    assert half.with_options() == half
    assert half.with_options(p=0.25) == get_variant("deep_norm")


def test_a_name_is_known_whatever_its_options_and_spelling() -> None:
    assert is_known("DeepNet(p=0.5)")
    assert not is_known("deep_nrom")
    assert not is_known("post")  # ambiguous


@pytest.mark.parametrize(
    ("word", "candidates"),
    [
        ("post", {"post_norm", "res_post_norm", "deep_norm"}),
        ("Sandwich", {"sandwich_norm", "peri_norm"}),
        ("layer-norm", {"post_norm", "pre_norm"}),
        ("residual_post_norm", {"res_post_norm", "post_norm"}),
        ("post_attention_layernorm", {"pre_norm", "res_post_norm", "sandwich_norm"}),
    ],
)
def test_an_ambiguous_word_is_refused_with_its_candidates(word: str, candidates: set[str]) -> None:
    with pytest.raises(VariantError, match="ambiguous") as error:
        get_variant(word)
    assert word in str(error.value)
    assert candidates <= set(re.findall(r"\w+", str(error.value)))


@pytest.mark.parametrize("word", sorted(registry._AMBIGUOUS))
def test_ambiguous_words_name_variants_that_exist_and_hide_none(word: str) -> None:
    assert set(registry._AMBIGUOUS[word]) <= set(list_variants())
    with pytest.raises(VariantError, match="ambiguous"):
        get_variant(word)


@pytest.mark.parametrize(
    ("word", "near"),
    [("pots_norm", "post_norm"), ("depnorm", "deep_norm"), ("Rezerro", "rezero")],
)
def test_a_misspelt_word_is_refused_with_near_matches(word: str, near: str) -> None:
    with pytest.raises(VariantError, match=f"did you mean .*{near}") as error:
        get_variant(word)
    assert repr(word) in str(error.value)


def test_an_unknown_word_is_refused_with_all_names() -> None:
    with pytest.raises(VariantError, match="not known") as error:
        get_variant("zzz")
    assert all(name in str(error.value) for name in list_variants())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("deep_norm(q=0.5)", r"no option 'q'.*its options: p"),
        ("deep_norm(P=0.5)", r"no option 'P'"),
        ("post_norm(p=0.5)", r"no option 'p'.*none"),
        ("pre_norm(scaled_inti=True)", r"did you mean scaled_init"),
        ("deep_norm(p='x')", r"p takes a finite number"),
        ("deep_norm(p=True)", r"p takes a finite number"),
        ("skip_init(start=1e999)", r"start takes a finite number"),
        ("layer_scale(start=-1e999)", r"start takes a finite number"),
        ("minimax_post_norm(mlp=(1, 1e999))", r"mlp takes 2 finite numbers"),
        ("mhc(streams=4.0)", r"streams takes an int"),
        ("mhc(init=4)", r"init takes text"),
        ("pre_norm(scaled_init=1)", r"scaled_init takes a bool"),
        ("pre_norm(scaled_init=None)", r"scaled_init takes a bool"),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_type(spec: str, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        get_variant(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "deep_norm(0.5)",
        "deep_norm(p=0.5",
        "deep_norm(p=)",
        "deep_norm(p=0.5))",
        "deep_norm(p=0.5, p=0.25)",
        "deep_norm(p=open('x'))",
        "deep_norm(**{'p': 0.5})",
        "deep_norm(p=0.5) + 1",
        "deep_norm(p=0.5)(p=0.5)",
    ],
)
def test_what_is_not_the_notation_is_refused_in_one_sentence(spec: str) -> None:
    with pytest.raises(VariantError, match="cannot be read") as error:
        get_variant(spec)
    assert repr(spec) in str(error.value)


def test_parse_spec_splits_name_and_options() -> None:
    assert parse_spec("a") == ("a", {})
    assert parse_spec("a(b=1, c='d', e=-0.5)") == ("a", {"b": 1, "c": "d", "e": -0.5})


def _half_law(context: Context, *, share: float) -> Site:
    return Site(context.sublayer, norm_out=NormSlot(share))


OWN = Variant(
    name="half_norm",
    summary="post-norm with a smaller gain",
    equation="x' = share N(x + F(x))",
    law=_half_law,
    paper=Paper("A Test", ("Nobody, A.",), 2026, "2601.00001", "nobody2026test"),
    options={"share": 0.5},
    final_norm="required",
    aliases=("halfnorm_alias",),
)


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is gone after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.mark.usefixtures("clean_registry")
def test_a_registered_variant_is_listed_found_and_built() -> None:
    before = list_variants()
    assert register_variant(OWN) is OWN
    assert list_variants() == [*before, "half_norm"]
    assert get_variant("Half-Norm(share=0.25)").values == {"share": 0.25}
    assert get_variant("halfnorm_alias") == OWN
    assert get_variant(get_variant("half_norm(share=0.25)")).spec == "half_norm(share=0.25)"
    register_variant(OWN)  # the same once more is no clash
    register_variant(get_variant("pre_norm"))  # nor is what the zoo has
    assert list_variants() == [*before, "half_norm"]

    config = ModelConfig(
        variant="half_norm", vocab_size=17, d_model=8, num_layers=2, num_heads=2, max_length=8
    )
    model = build(config, jax.random.key(0))
    params, _ = weight.split(model)
    gains = params["stack"]["blocks"]["0"]["layers"]["0"]["sublayers"]["0"]["residual"]
    assert set(gains) == {"norm_out"}
    assert jnp.all(gains["norm_out"]["gain"] == 0.5)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "post_norm"}, "'post_norm' is taken by post_norm"),
        ({"name": "postnorm"}, "'postnorm' is taken by post_norm"),
        ({"name": "vanilla"}, "'vanilla' is taken by post_norm"),
        ({"aliases": ("deepnet",)}, "'deepnet' is taken by deep_norm"),
        ({"name": "Half Norm"}, "use lower-case letters"),
        ({"name": ""}, "use lower-case letters"),
        ({"name": "half-norm"}, "use lower-case letters"),
        ({"name": "post"}, "'post' is ambiguous"),
    ],
)
def test_a_name_that_clashes_is_refused_and_nothing_registered(
    changes: dict[str, object], message: str
) -> None:
    before = list_variants()
    with pytest.raises(VariantError, match=message):
        register_variant(dataclasses.replace(OWN, **changes))
    assert list_variants() == before


@pytest.mark.usefixtures("clean_registry")
def test_another_variant_under_a_registered_name_is_refused() -> None:
    register_variant(OWN)
    with pytest.raises(VariantError, match="taken by half_norm"):
        register_variant(dataclasses.replace(OWN, summary="another"))


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("gpas(base='Pre-LN')", "gpas"),
        ("gpas(base='deepnet(p=0.5)')", "gpas(base='deep_norm(p=0.5)')"),
        ("pro_res(base='Deep-Norm(p=0.25)', steps=9)", "pro_res(base='deep_norm', steps=9)"),
    ],
)
def test_a_base_has_one_way_to_be_written(spec: str, canonical: str) -> None:
    assert get_variant(spec).spec == canonical
    assert get_variant(spec) == get_variant(canonical)
