"""CompleteP: a parametrisation by width and depth, and how far it moves the stream."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import conftest as models
from tests.variants.test_initialised import (
    DEPTH,
    IDS,
    assert_std,
    config_of,
    drawn,
    resolve,
    rules,
    tiny,
)
from zoo.layers import weight
from zoo.models.transformer import build
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import Rule, update_rules

P = "complete_p(base_layers=2, base_width=8, input_scale=3.0, output_scale=5.0)"


def test_complete_p_scales_branches_scores_and_ends() -> None:
    # m_L = 4 / 2 and m_N = 32 / 8.
    placement = resolve(P, m=DEPTH)
    stack = placement.stack("decoder")
    attention, mlp = stack.layers[0]
    assert attention.branch.value == mlp.branch.value == 0.5
    assert attention.attention_scale == 1 / 16
    assert stack.embedding_multiplier == 3.0
    assert stack.logit_scale.value == 5.0 / 4
    half = resolve("complete_p(alpha=0.5, base_layers=2)", m=18).stack("decoder").layers[0][0]
    assert half.branch.value == pytest.approx(1 / 3)


@pytest.mark.parametrize(("alpha", "slower"), [(1.0, 1.0), (0.5, 2**-0.5)])
def test_complete_p_moves_and_decays_hidden_weights_by_width_and_depth(
    alpha: float, slower: float
) -> None:
    for declared, rule in rules(f"complete_p(alpha={alpha}, base_layers=2, base_width=8)"):
        if declared.stack is None or declared.layers is None:
            rate, decay = 1.0, float(declared.kind == "matrix")
        elif declared.kind == "matrix":
            rate, decay = slower / 4, 4.0
        else:
            rate, decay = slower, 0.0
        np.testing.assert_allclose(rule.multiplier, rate, rtol=1e-6, err_msg=declared.role)
        np.testing.assert_allclose(rule.decay, decay, rtol=1e-6, err_msg=declared.role)


def test_complete_p_draws_hidden_matrices_by_the_root_of_the_width() -> None:
    for declared, array in drawn("complete_p(base_width=8)"):
        if declared.kind == "matrix":
            assert_std(array, 0.02 if declared.role == "head" else 0.02 / 2)


def test_complete_p_at_its_base_is_pre_norm_with_scores_by_the_width_of_a_head() -> None:
    base = tiny(f"complete_p(base_layers={models.BASE.num_layers}, base_width=8)")
    pre = tiny("pre_norm")
    head_dim = models.BASE.d_model // models.BASE.num_heads
    smaller = weight.map_weights(
        lambda w, a: a * head_dim**-0.5 if w.role == "q" else a, pre.weights, base.params
    )
    for got, want in zip(base.run(base.params, IDS)[:2], pre.run(smaller, IDS)[:2], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@functools.cache
def moved(variant: str, depth: int) -> float:
    """RMS of the change of the last hidden state over three steps of signs at a rate of 0.01."""
    config = config_of(variant, num_layers=depth, vocab_size=models.VOCAB, max_length=12)
    model = build(config, jax.random.key(0))
    params, weights = weight.split(model)
    rates = update_rules(
        OptimConfig(lr=1.0, weight_decay=0.0, beta1=0.9, beta2=0.9, clip_norm=0.0),
        weights,
        model.placement,
    )
    rates = jax.tree.map(
        lambda rule: rule.multiplier, rates, is_leaf=lambda leaf: isinstance(leaf, Rule)
    )

    def hidden(params: Any) -> jax.Array:
        # Before the final norm, which would hide a stream that grows.
        _, taps = weight.bind(model, params).measure(IDS, taps="arrays")
        return taps["decoder"]["stream"][-1, -1]

    @jax.jit
    def step(params: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            logits = jax.nn.log_softmax(weight.bind(model, params)(IDS))
            return -jnp.take_along_axis(logits[:, :-1], IDS[:, 1:, None], -1).mean()

        return jax.tree.map(
            lambda p, g, rate: p - 0.01 * rate * jnp.sign(g), params, jax.grad(loss)(params), rates
        )

    after = params
    for _ in range(3):
        after = step(after)
    change = jax.jit(hidden)(after) - jax.jit(hidden)(params)
    return float(jnp.sqrt(jnp.mean(change**2)))


@pytest.mark.slow
def test_complete_p_moves_the_stream_as_far_at_every_depth() -> None:
    # Steps of signs are Adam's first ones. Without the factor on branches the change grows.
    own, plain = (
        [moved(name, depth) for depth in (2, 16)]
        for name in ("complete_p(base_layers=2, base_width=32)", "pre_norm")
    )
    assert 0.8 < own[1] / own[0] < 1.25
    assert plain[1] / plain[0] > 4.0
