"""`Residual`, `ResidualStack` and `init_gain` agree with the layers of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import VariantError
from zoo.layers import weight
from zoo.layers.attention import Scope
from zoo.models.config import ModelConfig
from zoo.models.inputs import LayerInputs
from zoo.models.resolve import place
from zoo.models.stack import Layer, Sublayer
from zoo.models.transformer import Transformer, build
from zoo.variants.placement import Multiplier, NormSlot, Placement, Ramp, Site, StackPlacement
from zoo.variants.registry import get_variant, list_variants
from zoo.variants.residual import Residual, ResidualStack, init_gain
from zoo.variants.variant import Context, Variant

PLAIN = [name for name in list_variants() if get_variant(name).stream == "plain"]
DEPTH, WIDTH = 4, 8
# As `ModelConfig` resolves them: laws may look at the widths.
PLACE: dict[str, Any] = {"num_layers": DEPTH, "d_model": WIDTH, "d_ff": 4 * WIDTH, "num_heads": 2}


def ends_law(context: Context) -> StackPlacement:
    return StackPlacement(
        embedding_norm="required",
        final_norm="required",
        embedding_slot=NormSlot(scale=2.0),
        final_slot=NormSlot(gain=3.0),
        embedding_multiplier=5.0,
        embedding_gradient=0.25,
        init_gains=(("emb", 0.5), ("head", 1.0 / context.num_layers)),
    )


WITH_ENDS = dataclasses.replace(
    get_variant("post_norm"), name="with_ends", aliases=(), ends=ends_law
)


# A model whose layers are run one by one, so that nothing is compiled for it alone.
CONFIG = ModelConfig(
    d_model=WIDTH,
    num_layers=DEPTH,
    num_heads=2,
    max_length=8,
    vocab_size=11,
    unroll=True,
    remat="none",
)


def placed(variant: str | Variant) -> Placement:
    return place(CONFIG, get_variant(variant))


def tiny(variant: str | Variant) -> Transformer:
    return build(CONFIG, jax.random.key(0), placement=placed(variant))


def moved(model: Transformer) -> Transformer:
    """The same model with every weight off its start, so that none can be forgotten."""
    rng = np.random.default_rng(2)
    params = weight.split(model)[0]
    return weight.bind(
        model,
        jax.tree.map(lambda p: jnp.asarray(p + 0.1 * rng.normal(size=p.shape), p.dtype), params),
    )


def layers_of(model: Transformer) -> list[Layer]:
    """Every layer as a module of its own, cut out of the stacked weights.

    By numpy: jax would compile the cut, and the draws of `moved`, for each shape that there is.
    """
    placement = model.placement.stack("decoder")
    params: dict[str, Any] = jax.device_get(weight.split(model)[0]["stack"]["blocks"])
    layers = {}
    for index, block in enumerate(model.stack.blocks):
        for position in range(block.plan.period):
            stacked = params[str(index)]["layers"][str(position)]
            for step, layer in enumerate(block.plan.layers(position)):
                own = jax.tree.map(lambda array, step=step: jnp.asarray(array[step]), stacked)
                module = Layer(placement.layers[layer], placement, model.config)
                layers[layer] = weight.bind(module, own)
    return [layers[layer] for layer in range(DEPTH)]


def branch_of(sublayer: Sublayer) -> Callable[[jax.Array], jax.Array]:
    """F of one sublayer of a model as a function of x alone."""
    inputs = LayerInputs(numbers=(), window=None, rotary=None, decay=None, drop_rate=0.0, key=None)
    return lambda x: sublayer.apply(x, Scope(causal=True), inputs)


def drawn(module: Any) -> list[bool]:
    """Which weights of a module are drawn rather than set."""
    return [w.kind in ("matrix", "embedding") for w in jax.tree.leaves(weight.split(module)[1])]


def assert_same_start(ours: Any, theirs: Any) -> None:
    left, right = weight.split(ours)[0], weight.split(theirs)[0]
    assert jax.tree.structure(left) == jax.tree.structure(right)
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), drawn(ours), strict=True)
    for own, other, random in pairs:
        if random:
            assert own.shape == other.shape
        else:
            np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("variant", [*list_variants(), WITH_ENDS], ids=str)
def test_a_residual_stack_around_the_branches_of_a_model_is_the_model(
    variant: str | Variant,
) -> None:
    model = tiny(variant)
    stack = ResidualStack(variant, rngs=0, **PLACE)
    assert stack.placement == model.placement.stack("decoder")
    for own, layer in zip(stack.sites, layers_of(model), strict=True):
        for site, sublayer in zip(own, layer.sublayers, strict=True):
            assert_same_start(site, sublayer.residual)
    assert_same_start(stack.ends, model.stack.ends)

    start, model = model, moved(model)
    layers = layers_of(model)
    for index, layer in enumerate(layers):
        for position, sublayer in enumerate(layer.sublayers):
            stack.sites[index][position] = sublayer.residual
    stack.ends = model.stack.ends
    for end in ("embedding_norm", "final_norm"):
        assert hasattr(stack, end) == hasattr(model, end)
        if hasattr(stack, end):
            assert_same_start(getattr(stack, end), getattr(start, end))
            setattr(stack, end, getattr(model, end))
    functions = [
        {sublayer.kind: branch_of(sublayer) for sublayer in layer.sublayers} for layer in layers
    ]
    input_ids = jnp.arange(10).reshape(2, 5)
    embedded = model.embedding(input_ids, jnp.arange(5)[None])
    # Where there is a schedule a step in its middle, and its end.
    middle = (jnp.asarray(3),) if "ramp=Ramp(" in repr(stack.placement) else ()
    for step in (*middle, None):
        got = stack.run(embedded, functions, step=step)
        np.testing.assert_allclose(got, model.hidden(input_ids, step=step), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_residuals_are_the_sites_of_a_residual_stack(name: str) -> None:
    stack = ResidualStack(name, rngs=0, **PLACE)
    x = jax.random.normal(jax.random.key(1), (2, 5, WIDTH))
    for layer in range(DEPTH):
        for sublayer in ("self_attention", "mlp"):
            residual = Residual(name, layer=layer, sublayer=sublayer, **PLACE)
            want = stack(x, jnp.sin, layer=layer, sublayer=sublayer)
            np.testing.assert_array_equal(residual(x, jnp.sin), want)


@pytest.mark.parametrize("name", list_variants())
def test_init_gain_is_what_a_model_is_drawn_with(name: str) -> None:
    stack = placed(name).stack("decoder")
    roles = {"self_attention": "qkvo", "mlp": ("w1", "w2")}
    for index, sites in enumerate(stack.layers):
        for site in sites:
            for role in roles[site.sublayer]:
                gain = init_gain(name, role=role, num_layers=DEPTH, layer=index, d_model=WIDTH)
                assert gain == site.init_gain(role)


@pytest.mark.parametrize("name", PLAIN)
def test_layer_may_be_left_out_only_where_all_layers_are_alike(name: str) -> None:
    stack = get_variant(name).resolve("decoder", num_decoder_layers=DEPTH, d_model=WIDTH)
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


def test_the_ends_of_a_stack_scale_and_normalise_as_the_placement_says() -> None:
    stack = ResidualStack(WITH_ENDS, num_layers=DEPTH, d_model=WIDTH)
    x = jax.random.normal(jax.random.key(1), (2, 5, WIDTH))

    def normed(x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    opened = 2.0 * normed(5.0 * np.asarray(x, np.float64))
    np.testing.assert_allclose(stack.open(x), opened, atol=1e-5)
    np.testing.assert_allclose(stack.close(x), 3.0 * normed(np.asarray(x, np.float64)), atol=1e-5)
    plain = dataclasses.replace(
        ends_law(Context("decoder", "decoder", 0, DEPTH, ("mlp",), "mlp", 0)),
        embedding_gradient=1.0,
    )
    other = dataclasses.replace(WITH_ENDS, ends=lambda context: plain)
    free = ResidualStack(other, num_layers=DEPTH, d_model=WIDTH)
    ours, theirs = (jax.grad(lambda x, s=s: jnp.sum(s.open(x) ** 3))(x) for s in (stack, free))
    np.testing.assert_allclose(ours, 0.25 * theirs, rtol=1e-5, atol=1e-7)


def test_init_gain_of_the_ends_is_that_of_the_stack() -> None:
    def gain(role: str, variant: str | Variant = WITH_ENDS) -> float:
        return init_gain(variant, role=role, num_layers=DEPTH)

    assert (gain("emb"), gain("pos"), gain("head")) == (0.5, 1.0, 1.0 / DEPTH)
    assert gain("head", "deep_norm") == 1.0


def test_a_schedule_moves_the_multiplier_of_its_site() -> None:
    ramp = Ramp(steps=10.0, floor=0.5, start=2.0)

    def law(context: Context) -> Site:
        return Site(context.sublayer, branch=Multiplier(4.0, ramp=ramp))

    variant = dataclasses.replace(get_variant("rezero"), name="ramped", aliases=(), law=law)
    stack = ResidualStack(variant, num_layers=DEPTH, d_model=WIDTH)
    residual = Residual(variant, num_layers=DEPTH, d_model=WIDTH)
    x = jnp.ones((1, 1, WIDTH))
    for step, factor in ((None, 1.0), (0, 0.5), (2, 0.5), (7, 0.75), (12, 1.0), (99, 1.0)):
        at = None if step is None else jnp.asarray(step)
        want = np.full((1, 1, WIDTH), 1.0 + 4.0 * factor)
        got = stack(x, lambda y: y, layer=1, sublayer="mlp", step=at)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_allclose(residual(x, lambda y: y, step=at), want, rtol=1e-6)


def test_both_stacks_of_an_encoder_decoder_are_made() -> None:
    common = {"num_layers": 3, "num_encoder_layers": 2, "d_model": WIDTH}
    found = get_variant("deep_norm").resolve(
        "encoder_decoder", num_encoder_layers=2, num_decoder_layers=3, d_model=WIDTH
    )
    for name in ("encoder", "decoder"):
        stack = ResidualStack("deep_norm", architecture="encoder_decoder", stack=name, **common)
        assert stack.placement == found.stack(name)


def test_a_parallel_layout_has_one_sublayer_a_layer() -> None:
    stack = ResidualStack("deep_norm", layout="parallel", **PLACE)
    x = jax.random.normal(jax.random.key(1), (1, 3, WIDTH))
    carry = x
    for layer in range(DEPTH):
        carry = stack(carry, jnp.sin, layer=layer, sublayer="parallel")
    np.testing.assert_array_equal(stack.run(x, [{"parallel": jnp.sin}] * DEPTH), stack.close(carry))
    found = get_variant("deep_norm").resolve(
        "decoder", num_decoder_layers=DEPTH, d_model=WIDTH, layout="parallel"
    )
    assert stack.placement.layers == found.stack("decoder").layers


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda stack, x: stack(x, jnp.sin, layer=4, sublayer="mlp"), "layer = 4"),
        (lambda stack, x: stack(x, jnp.sin, layer=-1, sublayer="mlp"), "layer = -1"),
        (lambda stack, x: stack(x, jnp.sin, layer=0, sublayer="ffn"), "self_attention or mlp"),
        (lambda stack, x: stack.run(x, [{"mlp": jnp.sin}] * DEPTH), r"functions\[0\] has mlp"),
        (
            lambda stack, x: stack.run(x, [dict.fromkeys(stack.sublayers, jnp.sin)] * 3),
            "3 layers; the stack has 4",
        ),
    ],
)
def test_a_place_that_the_stack_lacks_is_refused(
    call: Callable[[ResidualStack, jax.Array], Any], message: str
) -> None:
    stack = ResidualStack("post_norm", num_layers=DEPTH, d_model=WIDTH)
    with pytest.raises(VariantError, match=message):
        call(stack, jnp.ones((1, 2, WIDTH)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "side_by_side"}, "layout = 'side_by_side'; use sequential or parallel"),
        (
            {"layout": "parallel", "architecture": "encoder_decoder"},
            "cross-attention stands between attention and MLP",
        ),
        ({"d_model": 0}, "d_model = 0: must be at least 1"),
    ],
)
def test_a_stack_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VariantError, match=message):
        ResidualStack(**{"variant": "pre_norm", "num_layers": 2, "d_model": 8} | changes)


def test_a_single_residual_refuses_what_needs_the_whole_stack() -> None:
    wider = dataclasses.replace(get_variant("post_norm"), name="wider", aliases=(), stream="wide")
    with pytest.raises(VariantError, match=r"wider carries more than x.*zoo\.ResidualStack"):
        Residual(wider, num_layers=DEPTH, d_model=WIDTH)


def test_a_norm_that_holds_a_matrix_is_drawn_from_a_key() -> None:
    with pytest.raises(VariantError, match="rngs = None"):
        Residual("post_norm", num_layers=DEPTH, d_model=64, norm="gated_rms_norm")
    residual = Residual("post_norm", num_layers=DEPTH, d_model=64, norm="gated_rms_norm", rngs=0)
    down = residual.access.norm_out.gate_down[...]
    # 64 x 16 normal draws: the sample deviation is within 5 / sqrt(2 x 1024) of the true one.
    assert float(jnp.std(down)) == pytest.approx((2.0 / 80.0) ** 0.5, rel=0.11)


def test_a_matrix_of_a_norm_is_drawn_as_a_model_draws_it() -> None:
    around = Residual(
        "complete_p", num_layers=2, d_model=64, norm="gated_rms_norm", layer=0, rngs=0
    )
    params, _ = weight.split(around)
    down = np.asarray(params["access"]["norm_in"]["gate_down"])
    # 1024 numbers of standard deviation 0.02: a standard error of 2 %.
    assert down.std() == pytest.approx(ModelConfig().init_std, rel=0.1)
