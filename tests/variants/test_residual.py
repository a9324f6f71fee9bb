"""`Residual` and `init_gain` agree with the layers of a model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.attention import Scope
from zoo.models.config import ModelConfig
from zoo.models.stack import Layer
from zoo.models.transformer import Transformer, build
from zoo.variants.registry import get_variant, list_variants
from zoo.variants.residual import Residual, init_gain

PLAIN = [name for name in list_variants() if get_variant(name).stream == "plain"]
DEPTH, WIDTH = 4, 8


def tiny(variant: str) -> Transformer:
    config = ModelConfig(
        variant=variant, d_model=WIDTH, num_layers=DEPTH, num_heads=2, max_length=8, vocab_size=11
    )
    return build(config, jax.random.key(0))


def layers_of(model: Transformer) -> list[Layer]:
    """Every layer as a module of its own, cut out of the stacked weights."""
    placement = model.placement.stack("decoder")
    params: dict[str, Any] = weight.split(model)[0]["stack"]["blocks"]
    layers = {}
    for index, block in enumerate(model.stack.blocks):
        for position in range(block.plan.period):
            stacked = params[str(index)]["layers"][str(position)]
            for step, layer in enumerate(block.plan.layers(position)):
                own = jax.tree.map(lambda array, step=step: array[step], stacked)
                module = Layer(placement.layers[layer], placement, model.config)
                layers[layer] = weight.bind(module, own)
    return [layers[layer] for layer in range(DEPTH)]


@pytest.mark.parametrize("name", PLAIN)
def test_residuals_around_the_branches_of_a_model_are_the_model(name: str) -> None:
    model = tiny(name)
    x = want = jax.random.normal(jax.random.key(1), (2, 5, WIDTH))
    scope = Scope(causal=True)
    for index, layer in enumerate(layers_of(model)):
        for sublayer in layer.sublayers:
            residual = Residual(
                name, num_layers=DEPTH, d_model=WIDTH, layer=index, sublayer=sublayer.kind
            )
            if sublayer.kind == "mlp":
                x = residual(x, sublayer.branch)
            else:
                x = residual(x, lambda y, f=sublayer.branch: f(y, scope))
    run = jax.jit(
        lambda y: model.stack(
            y, scope, placement=model.placement.stack("decoder"), config=model.config
        )[0]
    )
    np.testing.assert_allclose(x, run(want), atol=1e-5)


@pytest.mark.parametrize("name", list_variants())
def test_init_gain_is_what_a_model_is_drawn_with(name: str) -> None:
    model = tiny(name)
    stack = model.placement.stack("decoder")
    roles = {"self_attention": "qkvo", "mlp": ("w1", "w2")}
    for index, sites in enumerate(stack.layers):
        for site in sites:
            for role in roles[site.sublayer]:
                gain = init_gain(name, role=role, num_layers=DEPTH, layer=index, d_model=WIDTH)
                assert gain == site.init_gain(role)


@pytest.mark.parametrize("name", PLAIN)
def test_layer_may_be_left_out_only_where_all_layers_are_alike(name: str) -> None:
    stack = get_variant(name).resolve("decoder", num_decoder_layers=DEPTH)
    sites = {layer[1] for layer in stack.stack("decoder").layers}
    try:
        site = Residual(name, num_layers=DEPTH, d_model=WIDTH).site
    except VariantError as error:
        assert "needs the layer" in str(error)  # noqa: PT017
    else:
        assert sites == {site}


def test_layer_is_asked_for_where_the_law_needs_it() -> None:
    with pytest.raises(VariantError, match="needs the layer"):
        Residual("mix_norm", num_layers=DEPTH, d_model=WIDTH)
    with pytest.raises(VariantError, match="needs the layer"):
        init_gain("mix_norm", role="w1", num_layers=DEPTH)
    first, last = (
        Residual("mix_norm", num_layers=DEPTH, d_model=WIDTH, layer=layer) for layer in (0, 3)
    )
    assert first.site != last.site
    assert Residual("deep_norm", num_layers=DEPTH, d_model=WIDTH).site.skip.value > 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 4}, "layer = 4"),
        ({"layer": -1}, "layer = -1"),
        ({"num_layers": 0}, "num_layers = 0"),
        ({"sublayer": "cross_attention"}, "sublayer = 'cross_attention'"),
        ({"sublayer": "ffn"}, "self_attention or mlp"),
        ({"stack": "encoder"}, "stack = 'encoder'"),
        ({"architecture": "decoders"}, "architecture = 'decoders'"),
        ({"variant": "pots_norm"}, "did you mean post_norm"),
    ],
)
def test_a_place_that_does_not_exist_is_refused(arguments: dict[str, Any], message: str) -> None:
    arguments = {"variant": "post_norm", "num_layers": DEPTH, "d_model": WIDTH} | arguments
    with pytest.raises(VariantError, match=message):
        Residual(**arguments)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(VariantError, match=r"role = 'ffn'.*w1"):
        init_gain("deep_norm", role="ffn", num_layers=2)


def test_cross_attention_and_both_stacks_have_residuals() -> None:
    common = {"num_layers": 100, "d_model": WIDTH, "architecture": "encoder_decoder"}
    cross = Residual("deep_norm", sublayer="cross_attention", **common)
    encoder = Residual("deep_norm", sublayer="mlp", stack="encoder", **common)
    assert cross.site.skip.value == pytest.approx(4.1618, rel=5e-5)
    assert encoder.site.skip.value == pytest.approx(3.4157, rel=5e-5)


def test_residual_is_differentiable_and_its_parameters_are_ordinary() -> None:
    residual = Residual("pre_norm", num_layers=2, d_model=WIDTH)
    params, weights = weight.split(residual)
    assert {w.kind for w in jax.tree.leaves(weights)} == {"gain", "bias"}

    def total(params: dict[str, Any]) -> jax.Array:
        x = jnp.arange(16.0).reshape(1, 2, WIDTH)
        return jnp.sum(weight.bind(residual, params)(x, jnp.sin) ** 2)

    gradients = jax.tree.leaves(jax.grad(total)(params))
    assert all(float(jnp.abs(gradient).max()) > 0 for gradient in gradients)


def test_init_gain_refuses_a_variant_before_it_looks_at_the_role() -> None:
    for role in ("head", "emb", "o"):
        with pytest.raises(VariantError, match="did you mean deep_norm"):
            init_gain("deep_nrom", role=role, num_layers=2)
    assert init_gain("deep_norm", role="head", num_layers=2) == 1.0
