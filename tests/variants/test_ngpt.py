"""The stream on the sphere, and weights that are put back to it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_by_hand import turn
from tests.training.conftest import TINY, with_values, write_text
from tests.variants.by_hand import (
    DEPTH,
    IDS,
    WIDTH,
    Array,
    Case,
    Tree,
    assert_same,
    case,
    run_by_hand,
)
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig, OptimizerName
from zoo.training.optimizer import make_optimizer
from zoo.training.setup import prepare
from zoo.variants.placement import Site
from zoo.variants.registry import get_variant

# As the authors have it.
PUBLISHED: dict[str, Any] = {
    "positions": "rotary",
    "gated": True,
    "activation": "silu",
    "bias": False,
}


def published(**changes: Any) -> Case:
    return case("ngpt", **PUBLISHED, **changes)


def unit(x: Array) -> Array:
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def attention(x: Array, own: Tree) -> Array:
    """With scores bounded by the scales' squares, whatever the weights."""
    heads, head_dim = 2, WIDTH // 2

    def split(name: str) -> Array:
        y = x @ own[name]["kernel"]
        return y.reshape(*y.shape[:2], heads, head_dim).transpose(0, 2, 1, 3)

    scale = own["qk_scale"]["array"] * math.sqrt(WIDTH)
    q, k = (unit(turn(split(name), 10000.0)) * scale for name in "qk")
    products = q @ k.swapaxes(-1, -2)
    assert np.abs(products).max() <= (scale**2).max() + 1e-12
    scores = math.sqrt(head_dim) * products
    scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ split("v")
    return mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ own["o"]["kernel"]


def mlp(x: Array, own: Tree) -> Array:
    u = x @ own["w1"]["kernel"] * own["product_scale"]["array"]
    v = x @ own["gate"]["kernel"] * own["hidden_scale"]["array"] * math.sqrt(WIDTH)
    return (u * v / (1 + np.exp(-v))) @ own["w2"]["kernel"]


def by_hand(made: Case, params: Tree) -> Array:
    def sublayer(x: Array, site: Site, own: Tree, branch: Any) -> Array:
        alpha = np.abs(own["branch"] * 0.05 * math.sqrt(WIDTH))
        return unit(x + alpha * (unit(branch(x)) - x))

    return run_by_hand(
        made,
        params,
        open=unit,
        sublayer=sublayer,
        close=lambda x, ends: x,
        f=lambda x, site, own: mlp(x, own) if site.sublayer == "mlp" else attention(x, own),
    )


def lengths(weights: Tree, params: Tree) -> dict[str, Array]:
    """Of every vector along the stream's width, by the path of its weight."""
    found = {}
    for (path, declared), array in zip(
        jax.tree_util.tree_leaves_with_path(weights), jax.tree.leaves(params), strict=True
    ):
        if declared.kind in ("matrix", "embedding"):
            axis = declared.axes.index("embed") + declared.stacked
            found[jax.tree_util.keystr(path)] = np.linalg.norm(np.asarray(array), axis=axis)
    return found


def test_model_is_its_equations_at_any_weights() -> None:
    made = published()
    assert_same(made, by_hand(made, made.moved))


def test_the_stream_has_unit_length_at_all_depths() -> None:
    made = published()
    for params in (made.start, made.moved):
        hidden, _, taps = made.run(params, IDS)
        size = np.linalg.norm(np.asarray(taps["stream"]), axis=-1)
        assert size.shape == (DEPTH, 2, *IDS.shape)
        np.testing.assert_allclose(size, 1.0, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(hidden, axis=-1), 1.0, atol=1e-6)


def test_logits_are_cosines_times_a_learned_scale_for_each_word() -> None:
    made = published()
    _, logits, _ = made.run(made.start, IDS)
    assert np.abs(logits).max() <= 1 + 1e-6
    hidden, logits, _ = made.run(made.moved, IDS)
    scale = made.moved["head"]["logit_scale"] * math.sqrt(WIDTH)
    want = np.asarray(hidden, np.float64) @ np.asarray(made.moved["head"]["kernel"]) * scale
    np.testing.assert_allclose(logits, want, atol=1e-5)


def with_steps(made: Case, value: float) -> Tree:
    def change(declared: weight.Weight, array: jax.Array) -> jax.Array:
        return jnp.full_like(array, value) if declared.role == "branch" else array

    changed: Tree = weight.map_weights(change, made.weights, made.moved)
    return changed


def test_a_step_of_zero_is_the_identity_and_of_one_the_branch() -> None:
    made = published()
    still, _, _ = made.run(with_steps(made, 0.0), IDS)
    rows = np.asarray(made.moved["embedding"]["tokens"])[IDS]
    np.testing.assert_allclose(still, unit(rows), atol=1e-6)
    # Stored at WIDTH^-0.5 for 0.05: twenty times that is a step of 1, and its sign is nothing.
    full, _, taps = made.run(with_steps(made, -20 * WIDTH**-0.5), IDS)
    np.testing.assert_allclose(taps["stream"], taps["branch"], atol=1e-5)
    np.testing.assert_allclose(full, taps["branch"][-1, -1], atol=1e-5)


def test_scales_start_where_the_authors_have_them() -> None:
    placed = get_variant("ngpt").resolve(
        "decoder", num_decoder_layers=2, d_model=64, num_heads=4, d_ff=128
    )
    stack = placed.stack("decoder")
    site = stack.layers[1][0]
    assert (site.branch.value, site.branch.start) == (0.05, 1 / 8)
    assert site.qk_scale is not None
    assert (site.qk_scale.value, site.qk_scale.start) == (1.0, 1 / 8)
    assert site.attention_scale == 4.0  # the root of 16, not its inverse
    assert site.hidden_scale is not None
    assert (site.hidden_scale.number, site.hidden_scale.start) == (8.0, 1.0)
    assert (stack.logit_scale.value, stack.logit_scale.start) == (1.0, 1 / 8)
    assert (stack.embedding_norm, stack.final_norm, site.slots()) == ("forbidden", "forbidden", {})
    with pytest.raises(VariantError, match="give d_model"):
        get_variant("ngpt").resolve("decoder", num_decoder_layers=2)


def test_every_vector_of_every_matrix_starts_at_unit_length() -> None:
    made = published()
    found = lengths(made.weights, made.start)
    # Four of attention, three of the MLP, the embedding and the head.
    assert len(found) == 9
    for name, size in found.items():
        np.testing.assert_allclose(size, 1.0, atol=1e-6, err_msg=name)
    assert found[next(name for name in found if "'w2'" in name)].shape == (DEPTH, 12)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_vector_has_unit_length_after_every_step(name: OptimizerName) -> None:
    made = published()
    config = OptimConfig(name=name, lr=0.1, beta1=0.9, beta2=0.99, clip_norm=0.0)
    optimizer = make_optimizer(config, made.weights, made.model.placement)
    rng = np.random.default_rng(0)

    @jax.jit
    def step(params: Tree, state: Any, grads: Tree) -> Any:
        return optimizer.apply(grads, state, params, lr=0.1, weight_decay=0.0)

    params, state = made.start, optimizer.init(made.start)
    for _ in range(3):
        grads = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), params)
        before = params
        params, state = step(params, state, grads)
        for path, size in lengths(made.weights, params).items():
            np.testing.assert_allclose(size, 1.0, atol=1e-6, err_msg=path)
        assert all(
            np.abs(a - b).max() > 1e-4
            for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(params), strict=True)
        )


def test_training_with_micro_batches_and_an_average_keeps_the_weights_on_the_sphere(
    tmp_path: Path,
) -> None:
    places = {
        "data.path": str(write_text(tmp_path / "text.txt", seed=0, lines=300)),
        "data.cache_dir": str(tmp_path / "cache"),
        "workdir": str(tmp_path / "run"),
    }
    own = {"model.variant": "ngpt", "optim.accumulate": 2, "optim.ema": 0.5}
    run = prepare(with_values(TrainConfig(), TINY | places | own))
    step, state = jax.jit(run.core), run.initial_state()
    for index in range(3):
        state, figures = step(state, run.batch(run.data.train_batch(index)), run.inputs)
        assert np.isfinite(figures["loss"])
        for path, size in lengths(weight.split(run.model)[1], state["params"]).items():
            np.testing.assert_allclose(size, 1.0, atol=1e-6, err_msg=path)
    # A mean of unit vectors that lie close together is hardly shorter.
    for size in lengths(weight.split(run.model)[1], state["ema"]).values():
        assert np.all((size > 0.99) & (size < 1 + 1e-6))


def test_scales_move_as_without_a_sphere_and_frozen_layers_do_not_move() -> None:
    made = published()
    config = OptimConfig(name="sgd", lr=0.1, beta1=0.0, freeze=("layers:0",))
    on, off = (
        make_optimizer(config, made.weights, placement)
        for placement in (made.model.placement, None)
    )
    grads = jax.tree.map(jnp.ones_like, made.start)
    moved, free = (
        each.apply(grads, each.init(made.start), made.start, lr=0.1, weight_decay=0.0)[0]
        for each in (on, off)
    )

    def compare(declared: weight.Weight, a: Any, b: Any, start: Any) -> None:
        if declared.kind == "multiplier":
            np.testing.assert_allclose(a, b, rtol=1e-6)
        if declared.layers is not None:
            np.testing.assert_array_equal(a[0], start[0])
            assert np.all(np.asarray(a[1]) != start[1])

    weight.map_weights(compare, made.weights, moved, free, made.start)


def test_gradients_are_finite_in_bfloat16() -> None:
    made = published(dtype="bfloat16", num_layers=2)

    def loss(params: Tree) -> jax.Array:
        model = weight.bind(made.model, params)
        return jnp.mean(jax.nn.log_softmax(model(IDS))[..., 0])

    value, gradient = jax.jit(jax.value_and_grad(loss))(made.moved)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
