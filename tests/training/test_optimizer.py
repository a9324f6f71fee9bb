"""Optimizer steps: stacks move like their layers, and each name is its optax namesake."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.errors import ConfigError
from zoo.layers.weight import Weight
from zoo.training.optim_config import OptimConfig, OptimizerName
from zoo.training.optimizer import ema_update, make_optimizer, update_rules

NAMES = OptimizerName.__args__
LAYERS = range(3)
STEPS = 3
LR, DECAY = 0.05, 0.3


def config(name="adamw", **fields):
    return OptimConfig(**({"name": name, "beta1": 0.9, "beta2": 0.95} | fields))


def declared(layers):
    """Weights of a block (stacked when layers are given), around it an embedding and a head.

    w1 has both sides above 128, where adafactor starts to factor; 130 and 150 rather than
    equal sides tell its two axes apart.
    """
    return {
        "emb": Weight("emb", "embedding", ("vocab", "embed"), 1, 8),
        "block": {
            "w1": Weight("w1", "matrix", ("embed", "mlp"), 130, 150, layers),
            "w2": Weight("w2", "matrix", ("mlp", "embed"), 12, 8, layers),
            "q": {
                "kernel": Weight("q", "matrix", ("embed", "heads"), 8, 8, layers),
                "bias": Weight("q", "bias", ("heads",), layers=layers),
            },
            "gain": Weight("norm_in", "gain", ("embed",), layers=layers),
            "alpha": Weight("branch", "multiplier", (), layers=layers),
        },
        "final": Weight("norm_final", "gain", ("embed",)),
        "head": Weight("head", "matrix", ("embed", "vocab"), 8, 11),
    }


def arrays(weights, seed, scale=1.0):
    sizes = {"w1": (130, 150), "w2": (12, 8), "emb": (11, 8), "head": (8, 11)}
    rng = np.random.default_rng(seed)

    def draw(weight):
        shape = sizes.get(weight.role, (8,) * len(weight.axes))
        shape = shape if len(weight.axes) == 2 else (8,) * len(weight.axes)
        stack = (len(weight.layers),) if weight.stacked else ()
        # layers of clearly different size: whatever mixes them shows
        sizes_of_layers = 10.0 ** -np.arange(*stack or (1,)).reshape(-1, *(1,) * len(shape))
        return jnp.asarray(
            scale * rng.standard_normal(stack + shape) * (sizes_of_layers if stack else 1),
            jnp.float32,
        )

    return jax.tree.map(draw, weights)


def layer(tree, index):
    return tree | {"block": jax.tree.map(lambda stack: stack[index], tree["block"])}


def run(optimizer, params, grads, lr=LR, weight_decay=DECAY):
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for grad in grads:
        params, state, info = update(grad, state, params, lr=lr, weight_decay=weight_decay)
    return params, state, info


def assert_equal_trees(got, expected, rtol=0.0, atol=0.0):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", NAMES)
def test_a_stacked_update_is_the_update_layer_by_layer(name):
    stacked, single = declared(LAYERS), declared(None)
    params = arrays(stacked, 0)
    grads = [arrays(stacked, 1 + step) for step in range(STEPS)]
    got, _, _ = run(make_optimizer(config(name), stacked), params, grads)
    alone = make_optimizer(config(name), single)
    for index in LAYERS:
        expected, _, _ = run(alone, layer(params, index), [layer(g, index) for g in grads])
        # batched and single matrix products sum in another order; updates are 1e-3 and more
        assert_equal_trees(layer(got, index), expected, rtol=1e-4, atol=2e-6)


def namesake(name, lr, decay, weights):
    """The optax original with the decay mask given by hand."""
    mask = jax.tree.map(lambda weight: weight.role in ("w1", "w2", "head"), weights)
    mask["block"]["q"] = {"kernel": True, "bias": False}
    if name == "adamw":
        return optax.adamw(lr, b1=0.9, b2=0.95, weight_decay=decay, mask=mask)
    if name == "lion":
        return optax.lion(lr, b1=0.9, b2=0.95, weight_decay=decay, mask=mask)
    if name == "adafactor":
        # optax does not multiply this decay by the learning rate
        return optax.adafactor(lr, weight_decay_rate=lr * decay, weight_decay_mask=mask)
    if name == "sgd":
        return optax.chain(optax.add_decayed_weights(0.0), optax.sgd(lr, momentum=0.9))
    axes = jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), mask)
    axes["block"] |= {"gain": None, "alpha": None}
    axes["block"]["q"] |= {"bias": None}
    axes |= {"emb": None, "final": None, "head": None}
    return optax.contrib.muon(
        lr,
        adam_b1=0.9,
        adam_b2=0.95,
        weight_decay=decay,
        weight_decay_mask=lambda params: jax.tree.map(lambda _: True, params),
        consistent_rms=0.2,
        muon_weight_dimension_numbers=axes,
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_update_without_layer_axis_is_that_of_optax(name):
    weights = declared(None)
    params = arrays(weights, 0)
    grads = [arrays(weights, 1 + step) for step in range(STEPS)]
    # optax's sgd has no decay, and its muon none for a head that goes to Adam
    decay = 0.0 if name == "sgd" else DECAY
    got, _, _ = run(make_optimizer(config(name), weights), params, grads, weight_decay=decay)

    original = namesake(name, LR, decay, weights)
    expected, state = params, original.init(params)
    for grad in grads:
        updates, state = jax.jit(original.update)(grad, state, expected)
        expected = optax.apply_updates(expected, updates)
    if name == "muon":
        undecayed, _, _ = run(make_optimizer(config(name), weights), params, grads, weight_decay=0)
        got = got | {"head": undecayed["head"]}
    # the compiler may contract multiplications and additions of the two differently
    assert_equal_trees(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_decay_alone_moves_only_matrices(name):
    weights = declared(LAYERS)
    params = arrays(weights, 0)
    nothing = jax.tree.map(jnp.zeros_like, params)
    got, _, _ = run(make_optimizer(config(name), weights), params, [nothing])
    for (path, weight), before, after in zip(
        jax.tree.leaves_with_path(weights),
        jax.tree.leaves(params),
        jax.tree.leaves(got),
        strict=True,
    ):
        kept = 1 - LR * DECAY if weight.kind == "matrix" else 1.0
        np.testing.assert_allclose(after, kept * before, rtol=1e-6, err_msg=str(path))


def test_embeddings_decay_when_asked_to():
    weights = declared(LAYERS)
    params = arrays(weights, 0)
    nothing = jax.tree.map(jnp.zeros_like, params)
    optimizer = make_optimizer(config(decay_embeddings=True), weights)
    got, _, _ = run(optimizer, params, [nothing])
    np.testing.assert_allclose(got["emb"], (1 - LR * DECAY) * params["emb"], rtol=1e-6)
    np.testing.assert_array_equal(got["block"]["gain"], params["block"]["gain"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("broken", [False, True])
def test_frozen_weights_stay_bit_identical(name, broken):
    weights = declared(LAYERS)
    params = arrays(weights, 0)
    grads = arrays(weights, 1)
    if broken:  # not even a gradient that is not finite reaches them
        bad = grads["block"]["w1"].at[1].set(jnp.nan)
        grads = grads | {"emb": grads["emb"] * jnp.inf, "block": grads["block"] | {"w1": bad}}
    frozen = config(name, freeze=("emb", "q@0-1", "layers:1"), clip_norm=1.0)
    got, state, info = run(make_optimizer(frozen, weights), params, [grads, grads])

    np.testing.assert_array_equal(got["emb"], params["emb"])
    for index, still in enumerate((False, True, False)):
        for key, before in params["block"].items():
            for a, b in zip(
                jax.tree.leaves(got["block"][key]), jax.tree.leaves(before), strict=True
            ):
                same = still or (key == "q" and index == 0)
                assert np.array_equal(a[index], b[index]) == same, (key, index)
    assert np.isfinite(info["grad_norm"])
    assert not np.array_equal(got["head"], params["head"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_frozen_weights_cost_no_state_and_no_gradient_norm():
    weights = declared(LAYERS)
    params, grads = arrays(weights, 0), arrays(weights, 1)
    optimizer = make_optimizer(config(freeze=("w1", "emb")), weights)
    _, state, info = run(optimizer, params, [grads])
    live = grads | {"emb": 0.0, "block": grads["block"] | {"w1": 0.0}}
    assert info["grad_norm"] == pytest.approx(float(optax.tree.norm(live)), rel=1e-5)
    sizes = [leaf.size for leaf in jax.tree.leaves(state)]
    assert max(sizes) < params["block"]["w1"].size


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("norm_out", ["'norm_out'", "did you mean norm_in", "emb, head"]),
        ("layers:2-3", ["layers:2-3", "layers 0-2"]),
        ("head@0", ["head@0", "roles with layers", "w1"]),
    ],
)
def test_a_freeze_pattern_that_fits_nothing_is_refused(pattern, words):
    with pytest.raises(ConfigError) as refused:
        make_optimizer(config(freeze=(pattern,)), declared(LAYERS))
    assert all(word in str(refused.value) for word in words), refused.value


def test_freezing_everything_is_refused():
    weights = {"w1": Weight("w1", "matrix", ("embed", "mlp"), 8, 8, LAYERS)}
    with pytest.raises(ConfigError, match="no weight to train"):
        make_optimizer(config(freeze=("layers:0-2",)), weights)


def test_layerwise_decay_follows_its_law():
    weights = declared(LAYERS)
    rules = update_rules(config(layer_lr_decay=0.5), weights)
    assert rules["emb"].multiplier == 0.125
    assert rules["head"].multiplier == rules["final"].multiplier == 1.0
    expected = np.array([0.25, 0.5, 1.0], np.float32)
    np.testing.assert_array_equal(rules["block"]["w1"].multiplier, expected.reshape(3, 1, 1))
    np.testing.assert_array_equal(rules["block"]["gain"].multiplier, expected.reshape(3, 1))
    np.testing.assert_array_equal(rules["block"]["alpha"].multiplier, expected)


def test_layerwise_decay_counts_layers_of_the_model_not_of_the_block():
    weights = {
        "even": Weight("w1", "matrix", ("embed", "mlp"), layers=range(0, 6, 2)),
        "odd": Weight("w1", "matrix", ("embed", "mlp"), layers=range(1, 6, 2)),
    }
    rules = update_rules(config(layer_lr_decay=0.5), weights)
    np.testing.assert_array_equal(rules["even"].multiplier.ravel(), [2**-5, 2**-3, 2**-1])
    np.testing.assert_array_equal(rules["odd"].multiplier.ravel(), [2**-4, 2**-2, 1])


def test_layerwise_decay_scales_updates_and_decay_alike():
    weights = declared(LAYERS)
    params, grads = arrays(weights, 0), arrays(weights, 1)
    plain, _, _ = run(make_optimizer(config(), weights), params, [grads])
    scaled, _, _ = run(make_optimizer(config(layer_lr_decay=0.5), weights), params, [grads])
    moved = jax.tree.map(lambda after, before: after - before, plain, params)
    got = jax.tree.map(lambda after, before: after - before, scaled, params)
    for index, factor in enumerate((0.25, 0.5, 1.0)):
        expected = jax.tree.map(lambda m, f=factor: f * m, layer(moved, index)["block"])
        # differences of float32 parameters near 1
        assert_equal_trees(layer(got, index)["block"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["emb"], 0.125 * moved["emb"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("clip", "clipped"), [(None, 0.0), (0.0, 0.0), (1.0, 1.0), (1e9, 0.0)])
def test_clipping_scales_the_whole_gradient_to_the_norm(clip, clipped):
    weights = declared(LAYERS)
    params, grads = arrays(weights, 0), arrays(weights, 1)
    norm = float(np.sqrt(sum((np.float64(g) ** 2).sum() for g in jax.tree.leaves(grads))))
    factor = 1.0 / norm if clipped else 1.0
    optimizer = make_optimizer(config("sgd", beta1=0.0, clip_norm=clip), weights)
    got, _, info = run(optimizer, params, [grads], weight_decay=0.0)
    expected = jax.tree.map(lambda p, g: p - LR * factor * g, params, grads)
    assert_equal_trees(got, expected, rtol=1e-5, atol=1e-6)
    assert info["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert info["clipped"] == clipped


@pytest.mark.parametrize("name", NAMES)
def test_runs_with_other_rates_and_decays_share_one_compilation(name):
    weights = declared(LAYERS)
    params, grads = arrays(weights, 0), arrays(weights, 1)
    optimizer = make_optimizer(config(name), weights)
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    results = [
        update(grads, state, params, lr=jnp.float32(lr), weight_decay=jnp.float32(decay))[0]
        for lr, decay in ((1e-3, 0.0), (1e-2, 0.1))
    ]
    assert update._cache_size() == 1
    assert not np.array_equal(results[0]["head"], results[1]["head"])


@pytest.mark.parametrize("name", NAMES)
def test_the_state_keeps_structure_and_types_so_that_a_loop_can_carry_it(name):
    weights = declared(LAYERS)
    params, grads = arrays(weights, 0), arrays(weights, 1)
    optimizer = make_optimizer(config(name, freeze=("emb",)), weights)
    before = optimizer.init(params)
    new_params, after, _ = jax.eval_shape(
        lambda: optimizer.update(grads, before, params, lr=LR, weight_decay=DECAY)
    )
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert isinstance(a, jax.Array)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.structure(new_params) == jax.tree.structure(params)


@pytest.mark.parametrize("name", ["muon", "adafactor"])
def test_the_state_survives_a_checkpoint(name, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    weights = declared(LAYERS)
    params, grads = arrays(weights, 0), arrays(weights, 1)
    optimizer = make_optimizer(config(name), weights)
    _, state, _ = run(optimizer, params, [grads])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", optimizer.init(params))
    assert_equal_trees(restored, state)


def test_muon_refuses_matrices_it_cannot_read():
    weights = {"w1": Weight("w1", "matrix", ("heads", "embed", "mlp"))}
    with pytest.raises(ConfigError, match="2 axes"):
        make_optimizer(config("muon"), weights)


def test_muon_takes_the_matrix_of_each_expert_by_itself():
    together = {"w1": Weight("w1", "matrix", ("experts", "embed", "mlp"))}
    rng = np.random.default_rng(0)
    params, grads = (jnp.asarray(rng.normal(size=(3, 8, 5)), jnp.float32) for _ in range(2))
    moved, _, _ = run(make_optimizer(config("muon"), together), {"w1": params}, [{"w1": grads}])
    for expert in range(3):
        alone = make_optimizer(config("muon"), {"w1": Weight("w1", "matrix", ("embed", "mlp"))})
        own, _, _ = run(alone, {"w1": params[expert]}, [{"w1": grads[expert]}])
        np.testing.assert_allclose(moved["w1"][expert], own["w1"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("field", ["beta1", "beta2"])
def test_an_unresolved_beta_is_refused(field):
    with pytest.raises(ConfigError, match=field):
        make_optimizer(dataclasses.replace(config(), **{field: None}), declared(None))


def test_the_moving_average_moves_by_one_minus_its_decay():
    params, average = {"w": jnp.full(3, 2.0)}, {"w": jnp.zeros(3)}
    for _ in range(3):
        average = ema_update(average, params, 0.9)
    np.testing.assert_allclose(average["w"], 2 * (1 - 0.9**3), rtol=1e-6)
