"""Vision models in stages, under every kind of placement."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.models.matrix import layer_by_layer
from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.resolve import resolve
from zoo.models.stages import parts
from zoo.models.transformer import Transformer, build, declare
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import update_rules

# A second stage of two scanned pairs, in which every other layer is shifted.
SMALL = ModelConfig(
    architecture="vision",
    variant="swin_v2_norm",
    d_model=8,
    num_layers=6,
    num_heads=2,
    stage_layers=(2, 4),
    window=2,
    embedding_norm=True,
    positions="none",
    pooling="mean",
    image_size=16,
    patch_size=2,
    num_labels=3,
    attention_bias="qvo",
)
# Two of the plain stream, which norms at other places, and one that carries more than x.
VARIANTS = ["swin_v2_norm", "sandwich_norm", "dense_former"]
IMAGES = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))


@functools.cache
def noised(variant: str = "swin_v2_norm", **changes: Any) -> Transformer:
    """A model whose gains, biases and multipliers have left their starts."""
    ends = {} if variant == "swin_v2_norm" else {"embedding_norm": None}
    config = dataclasses.replace(SMALL, variant=variant, **ends | changes)
    model = build(config, jax.random.key(0))
    params, weights = weight.split(model)
    rng = np.random.default_rng(0)

    def move(own: weight.Weight, array: jax.Array) -> jax.Array:
        drawn = own.kind in ("matrix", "embedding")
        return array if drawn else array + 0.3 * rng.normal(size=array.shape).astype(np.float32)

    return weight.bind(model, weight.map_weights(move, weights, params))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_placement_runs_and_is_learned_by_every_weight(variant: str) -> None:
    model = noised(variant)
    params, weights = weight.split(model)

    @jax.jit
    def gradient(params: dict[str, Any]) -> Any:
        def loss(params: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
            logits = weight.bind(model, params)(IMAGES)
            return -jax.nn.log_softmax(logits)[jnp.arange(2), jnp.arange(2)].mean(), logits

        return jax.grad(loss, has_aux=True)(params)

    grads, logits = gradient(params)
    assert logits.shape == (2, 3)
    alone = layer_by_layer(model)
    np.testing.assert_allclose(logits, jax.jit(lambda x: alone(x))(IMAGES), atol=2e-5)

    def look(path: Any, own: weight.Weight, grad: jax.Array) -> None:
        # Of a value that is not finite the comparison is False.
        assert 0.0 < np.abs(grad).max() < np.inf, jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(look, weights, grads)


def test_a_law_counts_the_layers_of_a_stage() -> None:
    placed = declare(dataclasses.replace(SMALL, variant="deep_norm", embedding_norm=None)).placement
    skips = {name: stack.layers[0][0].skip.value for name, stack in placed.stacks}
    assert skips == pytest.approx({"stage1": 4**0.25, "stage2": 8**0.25})


def test_stages_double_in_width_and_halve_their_grid() -> None:
    own = parts(
        resolve(dataclasses.replace(SMALL, stage_heads=(2, 1), stage_trained_windows=(0, 3)))
    )
    first, second = own.values()
    assert (first.d_model, first.num_heads, first.sizes().d_ff) == (8, 2, 32)
    assert (second.d_model, second.num_heads, second.sizes().d_ff) == (16, 1, 64)
    assert [(each.grid.side, each.grid.trained) for each in own.values()] == [(8, 0), (4, 3)]


def test_figures_come_by_stage() -> None:
    model = noised()
    hidden, taps = jax.eval_shape(lambda x: model.measure(x, taps="arrays"), IMAGES)
    assert hidden.shape == (2, 16, 16)
    shapes = {name: own["stream"].shape for name, own in taps.items()}
    assert shapes == {"stage1": (2, 2, 2, 64, 8), "stage2": (4, 2, 2, 16, 16)}
    _, maps = jax.eval_shape(lambda x: model.measure(x, taps="attention"), IMAGES)
    # Windows of four tokens: sixteen of each image, then four.
    assert maps["stage1"]["self_attention"].shape == (2, 32, 2, 4, 4)
    assert maps["stage2"]["self_attention"].shape == (4, 8, 4, 4, 4)


def test_layers_are_left_out_more_often_up_to_the_top_of_the_last_stage() -> None:
    model = noised(stochastic_depth=0.6)
    measure = jax.jit(lambda key: model.measure(IMAGES[:1], dropout_key=key)[1])
    draws = [measure(jax.random.key(seed)) for seed in range(200)]
    share = np.concatenate(
        [
            np.mean([each[name]["branch_skip_ratio"] == 0.0 for each in draws], axis=0)
            for name in ("stage1", "stage2")
        ]
    )
    want = 0.6 * np.arange(6)[:, None] / 5
    # Five standard errors of a binomial share.
    assert np.all(np.abs(share - want) <= 5 * np.sqrt(want * (1 - want) / len(draws)))


def test_dropout_is_off_without_a_key_and_repeatable_with_one() -> None:
    rates = dict.fromkeys(("dropout", "embedding_dropout", "attention_dropout"), 0.2)
    model, plain = noised(**rates), noised()
    off = [jax.jit(lambda x, own=own: own(x))(IMAGES) for own in (model, plain)]
    np.testing.assert_array_equal(*off)
    call = jax.jit(lambda seed: model(IMAGES, dropout_key=jax.random.key(seed)))
    np.testing.assert_array_equal(call(1), call(1))
    assert np.abs(call(1) - call(2)).max() > 1e-3


def test_a_score_is_at_most_a_hundred_times_a_cosine() -> None:
    model = noised()
    params, weights = weight.split(model)

    @jax.jit
    def at(log_scale: float) -> jax.Array:
        own = weight.map_weights(
            lambda w, a: jnp.full_like(a, log_scale) if w.role == "score_scale" else a,
            weights,
            params,
        )
        return weight.bind(model, own)(IMAGES)

    np.testing.assert_array_equal(at(9.0), at(float(np.log(100.0))))
    assert np.abs(at(9.0) - at(2.0)).max() > 1e-3


def test_learning_rates_decay_with_the_layers_of_all_stages() -> None:
    _, weights = weight.split(declare(SMALL))
    optim = OptimConfig(name="adamw", beta1=0.9, beta2=0.95, layer_lr_decay=0.5)
    rules = update_rules(optim, weights)
    found: dict[tuple[str | None, int | None], set[float]] = {}

    def note(own: weight.Weight, rule: Any) -> None:
        factors = np.broadcast_to(np.ravel(rule.multiplier), len(own.heights))
        for height, factor in zip(own.heights, factors, strict=True):
            found.setdefault((own.role if height is None else None, height), set()).add(factor)

    weight.map_weights(note, weights, rules)
    assert all(found[None, layer] == {0.5 ** (5 - layer)} for layer in range(6))
    # The image's patches, as a vision model of one stack has them; the grid's below two layers.
    assert found["patch", None] == {1.0, 0.5**4}
    assert found["embedding_norm", None] == {0.5**6, 0.5**4}
    assert found["final_norm", None] == found["head", None] == {1.0}


@pytest.mark.parametrize("variant", ["swin_v2_norm", "dense_former"])
def test_a_model_comes_back_from_our_own_format(variant: str, tmp_path: Path) -> None:
    model = noised(variant)
    assert zoo.save_pretrained(model, tmp_path / "a", family="postnorm_zoo") == "postnorm_zoo"
    again = zoo.load_pretrained(tmp_path / "a")
    assert (again.config, again.placement) == (model.config, model.placement)
    jax.tree.map(np.testing.assert_array_equal, weight.split(again)[0], weight.split(model)[0])


def test_what_is_made_here_is_written_as_swinv2(tmp_path: Path) -> None:
    small: dict[str, Any] = {"d_model": 8, "image_size": 16, "num_heads": 1, "num_labels": 3}
    small |= {"num_layers": 2, "stage_layers": (1, 1)}
    model = zoo.create_model("swinv2-tiny", rngs=1, **small)
    assert zoo.save_pretrained(model, tmp_path / "a") == "swinv2"
    again = zoo.load_pretrained(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, weight.split(again)[0], weight.split(model)[0])
    bare = zoo.load_pretrained(tmp_path / "a", head="none")
    assert jax.eval_shape(bare, IMAGES).shape == (2, 4, 16)


def test_an_equal_function_is_found_under_another_placement() -> None:
    surgery = zoo.change_variant(noised("pre_norm"), "pre_norm", fold_gains=True)
    assert surgery.exact, surgery
    assert "mlp norm_in into w1 (layers 0-3)" in surgery.folded


REFUSED = [
    ({"stage_layers": None, "window": None}, "stage_heads = (2, 4) without stage_layers"),
    ({"architecture": "encoder"}, "stage_layers = (2, 4) with architecture = 'encoder'"),
    ({"num_layers": 7}, "stage_layers = (2, 4) with num_layers = 7"),
    ({"stage_layers": (), "num_layers": 6}, "stage_layers = () with num_layers = 6"),
    ({"stage_heads": (2,)}, "stage_heads = (2,): stage_layers = (2, 4) has 2 stages"),
    ({"stage_heads": (2, 3)}, "3 does not divide the width 16 of stage 2; use 1, 2, 4, 8 or 16"),
    ({"stage_trained_windows": (0, 1)}, "stage_trained_windows = (0, 1): a side is 2 or more"),
    ({"window": None}, "window = None with stage_layers"),
    (
        {"image_size": 2},
        "image_size = 2 has 1 patches of patch_size = 2 to a side; 2 stages need 2",
    ),
    ({"pooling": "first"}, "pooling = 'first' with stage_layers"),
    ({"positions": "learned"}, "positions = 'learned' with stage_layers"),
    ({"num_kv_heads": 1}, "num_kv_heads = 1 with stage_layers"),
    ({"value_residual": True}, "value_residual = True with stage_layers"),
    ({"layout": "parallel"}, "layout = 'parallel' with stage_layers"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=str)
def test_what_stages_cannot_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve(dataclasses.replace(SMALL, **{"stage_heads": (2, 4)} | changes))
