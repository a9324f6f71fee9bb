"""`zoo.audit` tells a right initialisation from a wrong one, whatever the parameters look like."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import zoo
from zoo.errors import VariantError
from zoo.variants.audit import Audit
from zoo.variants.registry import get_variant

DEPTH, WIDTH, HIDDEN = 3, 64, 256
# DeepNorm's constants for a decoder of 3 layers: (2 L)^1/4 and (8 L)^-1/4 (2203.00555, table 1).
ALPHA, BETA = 6.0**0.25, 24.0**-0.25
ROLES = {
    "layers/*/attention/q": "q",
    "layers/*/attention/k": "k",
    "layers/*/attention/v": "v",
    "layers/*/attention/o": "o",
    "layers/*/mlp/up": "w1",
    "layers/*/mlp/down": "w2",
}
SHAPES = {"w1": (WIDTH, HIDDEN), "w2": (HIDDEN, WIDTH)}


def drawn(gains: dict[str, float], *, transpose: bool = False, seed: int = 0) -> dict[str, Any]:
    """Nested parameters of a model of someone's own, drawn with numpy from Xavier's normal."""
    generator = np.random.default_rng(seed)

    def one(role: str) -> np.ndarray:
        shape = SHAPES.get(role, (WIDTH, WIDTH))
        std = gains.get(role, 1.0) * np.sqrt(2.0 / sum(shape))
        array = generator.normal(0.0, std, shape)
        return array.T if transpose else array

    def layer() -> dict[str, Any]:
        return {
            "attention": {role: one(role) for role in "qkvo"},
            "mlp": {"up": one("w1"), "down": one("w2")},
        }

    return {"layers": [layer() for _ in range(DEPTH)]}


DEEP = dict.fromkeys(("v", "o", "w1", "w2"), BETA)


def look(params: Any, variant: str = "deep_norm", **more: Any) -> Audit:
    return zoo.audit(
        params, variant, **({"roles": ROLES, "num_layers": DEPTH, "d_model": WIDTH} | more)
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_init_of_deep_norm_fits_it_and_that_of_post_norm_does_not(seed: int) -> None:
    right, wrong = look(drawn(DEEP, seed=seed)), look(drawn({}, seed=seed))
    assert right.ok, right.table()
    assert not wrong.ok
    assert {item.role for item in wrong.failed} == {"v", "o", "w1", "w2"}
    assert {item.layer for item in wrong.failed} == set(range(DEPTH))
    assert look(drawn({}, seed=seed), "post_norm").ok


def test_an_item_says_what_was_measured_and_expected_and_how_far_a_draw_may_be_off() -> None:
    params = drawn({})
    found = look(params).failed
    (item,) = (item for item in found if (item.role, item.layer) == ("w1", 2))
    assert item.path == "layers/2/mlp/up"
    assert item.measured == pytest.approx(np.std(params["layers"][2]["mlp"]["up"]))
    assert item.expected == pytest.approx(BETA * (2.0 / (WIDTH + HIDDEN)) ** 0.5, rel=1e-6)
    assert item.tolerance == pytest.approx(5.0 * item.expected / (2.0 * WIDTH * HIDDEN) ** 0.5)


def test_one_wrong_layer_is_named() -> None:
    params = drawn(DEEP)
    params["layers"][1]["attention"]["o"] *= 1.3
    (item,) = look(params).failed
    assert (item.path, item.role, item.layer) == ("layers/1/attention/o", "o", 1)
    table = look(params).table()
    assert "1 of 18 differ" in table
    assert any(line.startswith("o ") and "differs" in line for line in table.splitlines())


def test_transposed_matrices_are_noted_and_judged_alike() -> None:
    found = look(drawn(DEEP, transpose=True))
    assert found.ok
    notes = {item.role: item.note for item in found.items}
    assert "transposed" in notes["w1"]
    assert "transposed" in notes["w2"]
    assert {item.note for item in look(drawn(DEEP)).items} == {""}


@pytest.mark.parametrize("axis", [0, 1])
def test_fused_matrices_are_judged_part_by_part(axis: int) -> None:
    params = drawn(DEEP)
    for layer in params["layers"]:
        own = layer["attention"]
        parts = [own.pop(role) for role in "qkv"]
        own["qkv"] = np.concatenate([p.T if axis == 0 else p for p in parts], axis=axis)
    rest = {path: role for path, role in ROLES.items() if role not in "qkv"}
    found = look(params, roles=rest | {"layers/*/attention/qkv": "q+k+v"})
    assert found.ok
    assert [item.role for item in found.items if "part" in item.note] == list("qkv") * DEPTH
    # Taken for one matrix, it is too small for its width and says why.
    alone = look(params, roles={"layers/*/attention/qkv": "v"})
    assert not alone.ok
    assert "q+k+v" in alone.items[0].note


def test_a_leading_axis_may_count_the_layers() -> None:
    layers = drawn(DEEP)["layers"]
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *layers)
    roles = {path.replace("layers/*/", ""): role for path, role in ROLES.items()}
    assert look(stacked, roles=roles).ok
    stacked["mlp"]["down"][2] *= 2.0
    (item,) = look(stacked, roles=roles).failed
    assert (item.role, item.layer) == ("w2", 2)


def test_flat_names_with_dots_and_layers_said_by_hand() -> None:
    params = drawn(DEEP)["layers"]
    flat = {f"h.{i}.mlp.up.weight": layer["mlp"]["up"] for i, layer in enumerate(params)}
    flat["last.weight"] = params[2]["mlp"]["down"]
    found = look(flat, roles={"h.*.mlp.up.weight": "w1", "last.**": ("w2", 2)})
    assert found.ok
    assert [(item.role, item.layer) for item in found.items] == [
        ("w1", 0),
        ("w1", 1),
        ("w1", 2),
        ("w2", 2),
    ]


def test_the_heads_of_a_flax_module_are_seen_through() -> None:
    class Mine(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            init = nnx.initializers.glorot_normal()
            self.layers = nnx.List(
                [
                    nnx.MultiHeadAttention(4, WIDTH, kernel_init=init, decode=False, rngs=rngs)
                    for _ in range(DEPTH)
                ]
            )

    roles = {"layers/*/query/kernel": "q", "layers/*/key/kernel": "k"}
    for params in (Mine(), nnx.state(Mine(), nnx.Param)):
        found = look(params, roles=roles)
        assert found.ok, found.table()
        assert len(found.items) == 2 * DEPTH


def test_constants_are_compared_with_the_placement() -> None:
    params = drawn(DEEP)
    assert look(params, constants={"skip": ALPHA, "mlp.branch": 1.0}).ok
    found = look(params, constants={"skip": 1.0}).failed
    assert {(item.path, item.role) for item in found} == {
        ("constants", "self_attention.skip"),
        ("constants", "mlp.skip"),
    }
    assert found[0].expected == pytest.approx(ALPHA)
    by_layer = look(params, constants={"mlp.skip": [ALPHA, ALPHA, 2.0]}).failed
    assert [(item.layer, item.measured) for item in by_layer] == [(2, 2.0)]


def test_what_nothing_shows_is_listed_as_unchecked() -> None:
    found = look(drawn(DEEP), roles={"layers/*/mlp/up": "w1"}, constants={"mlp.skip": ALPHA})
    assert found.ok
    text = "\n".join(found.unchecked)
    assert "self_attention.skip in layers 0-2, value 1.565" in text
    assert "o in layers 0-2, init gain 0.4518" in text
    assert "w1" not in text
    assert "mlp.skip" not in text
    assert look(drawn(DEEP), constants={"skip": ALPHA}).unchecked == ()


def test_gains_and_learned_multipliers_start_where_the_placement_says() -> None:
    params = {"a": [np.zeros(()), np.zeros(()), np.full((), 0.5)], "b": jnp.zeros(DEPTH)}
    found = look(params, "rezero", roles={"a/*": "mlp.branch", "b": "self_attention.branch"})
    assert [(item.role, item.layer, item.measured) for item in found.failed] == [
        ("mlp.branch", 2, 0.5)
    ]
    ones = {"norm": [np.ones(WIDTH), np.ones(WIDTH), np.full(WIDTH, 0.9)]}
    (item,) = look(ones, roles={"norm/*": "mlp.norm_out"}).failed
    assert (item.layer, item.expected) == (2, 1.0)


@pytest.mark.parametrize(
    ("base", "draw"),
    [
        ("normal", lambda g, role, shape: g.normal(0.0, 0.05, shape)),
        ("lecun_normal", lambda g, role, shape: g.normal(0.0, shape[0] ** -0.5, shape)),
        (
            "xavier_uniform",
            lambda g, role, shape: g.uniform(-1.0, 1.0, shape) * (6.0 / sum(shape)) ** 0.5,
        ),
    ],
)
def test_every_base_distribution_is_known(base: str, draw: Any) -> None:
    generator = np.random.default_rng(0)
    params = {"w1": draw(generator, "w1", SHAPES["w1"]), "w2": draw(generator, "w2", SHAPES["w2"])}
    roles = {"w1": ("w1", 0), "w2": ("w2", 0)}
    assert look(params, "post_norm", roles=roles, base=base, std=0.05).ok
    assert not look(params, "deep_norm", roles=roles, base=base, std=0.05).ok


def test_embeddings_and_head_are_those_of_the_ends() -> None:
    generator = np.random.default_rng(0)
    params = {
        "table": generator.normal(0.0, WIDTH**-0.5, (100, WIDTH)),
        "out": generator.normal(0.0, (2.0 / (WIDTH + 100)) ** 0.5, (WIDTH, 100)),
    }
    roles = {"table": "emb", "out": "head"}
    assert look(params, roles=roles).ok
    assert [item.role for item in look(params, roles=roles, embedding_std=0.02).failed] == ["emb"]


def test_a_model_of_ours_passes_its_own_audit() -> None:
    model = zoo.create_model(
        "decoder-tiny", variant="deep_norm", num_layers=DEPTH, d_model=WIDTH, rngs=0
    )
    roles = {f"stack/blocks/0/layers/0/sublayers/0/branch/{r}/kernel": r for r in "qkvo"}
    roles |= {f"**/branch/{name}/kernel": name for name in ("w1", "w2")}
    assert look(model, roles=roles).ok
    assert {item.role for item in look(model, "post_norm", roles=roles).failed} == {
        "v",
        "o",
        "w1",
        "w2",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roles": {"layer/*/q": "q"}}, r"'layer/\*/q' fits no parameter"),
        ({"roles": {"layers/*/attention/q": "qq"}}, "role = 'qq' is not known"),
        ({"roles": {"layers/*/attention/q": "xq"}}, "self_attention or mlp only"),
        ({"roles": {"**/q": "q"}}, r"layer = None; say \(role, layer\)"),
        ({"roles": {"layers/*/mlp/up": "w1"}, "d_model": 48}, "no axis of d_model = 48"),
        ({"roles": {"layers/*/attention/q": "q+k+v"}}, "does not hold 3"),
        ({"num_layers": 2}, "layer = 2"),
        ({"constants": {"skipp": 1.0}}, "'skipp'.*skip"),
        ({"constants": {"ffn.skip": 1.0}}, "self_attention or mlp"),
        ({"roles": {"layers/*/mlp/up": "mlp.norm_in"}}, "mlp has norm_out"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VariantError, match=message):
        look(drawn(DEEP), **arguments)


def test_every_variant_can_be_audited() -> None:
    for name in zoo.list_variants():
        chosen = get_variant(name)
        gains = {
            layer: dict(site.init_gains)
            for layer, row in enumerate(
                chosen.resolve("decoder", num_decoder_layers=DEPTH, d_model=WIDTH, num_heads=4)
                .stack("decoder")
                .layers
            )
            for site in row[1:]
        }
        params = {"layers": []}
        for layer in range(DEPTH):
            one = drawn({"w1": gains[layer].get("w1", 1.0)}, seed=layer)["layers"][0]["mlp"]
            params["layers"].append({"mlp": {"up": one["up"]}})
        if chosen.base_init is None:
            found = look(params, name, roles={"layers/*/mlp/up": "w1"}, num_heads=4)
            assert found.ok, found.table()


@pytest.mark.parametrize(
    ("variant", "lines"),
    [
        ("layer_norm_scaling", ["self_attention.norm_in_scale in layers 1-2, value 0.5774 to"]),
        ("dssn", ["mlp.norm_branch in layers 0-2, value 0.2494"]),
        ("swin_v2_norm", ["mlp.norm_branch in layers 0-2, value 0"]),
        ("t_fixup", ["emb, init gain 0.4387"]),
        ("fixup", ["head, init gain 0"]),
        ("scaled_residual(embedding_multiplier=12)", ["embedding_multiplier, value 12"]),
    ],
)
def test_constants_of_norms_and_of_the_ends_are_listed_as_unchecked(
    variant: str, lines: list[str]
) -> None:
    text = "\n".join(look(drawn({}), variant).unchecked)
    assert all(line in text for line in lines), text


def test_constants_for_another_number_of_layers_are_refused() -> None:
    with pytest.raises(VariantError, match=r"'skip' has shape \(2,\); give one number, or 3"):
        look(drawn(DEEP), constants={"skip": [ALPHA, ALPHA]})


def test_weights_on_the_sphere_have_unit_length_along_the_stream() -> None:
    params = drawn({})
    for layer in params["layers"]:
        for part in layer.values():
            for role, array in part.items():
                axis = 1 if role in ("o", "down") else 0
                part[role] = array / np.linalg.norm(array, axis=axis, keepdims=True)
    found = look(params, "ngpt", num_heads=4)
    assert found.ok, found.table()
    # Unit length along the hidden width is another deviation: 256^-1/2 for 64^-1/2.
    down = params["layers"][1]["mlp"]["down"]
    params["layers"][1]["mlp"]["down"] = down / np.linalg.norm(down, axis=0)
    assert [(item.role, item.layer) for item in look(params, "ngpt").failed] == [("w2", 1)]
