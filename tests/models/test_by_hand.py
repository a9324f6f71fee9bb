"""A whole model written out in float64 numpy: a plain loop over layers, weights cut by hand.

It shares with the library only the Placement and the names of the parameters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.stack import Stack
from zoo.models.tower import text_scope
from zoo.variants.placement import Multiplier, NormSlot, Site, StackPlacement
from zoo.variants.registry import get_variant, list_variants

Tree = dict[str, Any]
Array = np.ndarray
SLOT, SITE = NormSlot(), Site("self_attention")
PLAIN = [name for name in list_variants() if get_variant(name).stream == "plain"]


def norm(x: Array, params: Tree, config: ModelConfig, slot: NormSlot = SLOT) -> Array:
    kind = slot.kind or config.norm
    if kind in ("layer_norm", "center_norm"):
        x = x - x.mean(-1, keepdims=True)
    if kind == "center_norm":
        x = x * config.d_model / (config.d_model - 1)
    else:
        eps = config.norm_eps if slot.eps is None else slot.eps
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return (x * params.get("gain", 1.0) + params.get("bias", 0.0)) * slot.scale


def linear(x: Array, params: Tree) -> Array:
    return x @ params["kernel"] + params.get("bias", 0.0)


def activate(x: Array, activation: str) -> Array:
    match activation:
        case "gelu":
            return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        case "gelu_tanh":
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        case "relu":
            return np.maximum(x, 0)
    return x / (1 + np.exp(-x))


def mlp(x: Array, params: Tree, config: ModelConfig) -> Array:
    x = x + params.get("bias_in", 0.0)
    hidden = linear(x, params["w1"])
    if config.gated:
        hidden = activate(linear(x, params["gate"]), config.activation) * hidden
    else:
        hidden = activate(hidden + params.get("bias_mid", 0.0), config.activation)
    if "inner_norm" in params:
        hidden = norm(hidden, params["inner_norm"], config)
    return linear(hidden + params.get("bias_out", 0.0), params["w2"])


def turn(x: Array, theta: float) -> Array:
    """Rotary positions 0, 1, 2 ... on [batch, heads, length, head_dim]."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[2])[:, None] * theta ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def attention(
    x: Array,
    params: Tree,
    config: ModelConfig,
    window: int | None,
    site: Site = SITE,
) -> Array:
    batch, length, _ = x.shape
    head_dim = config.head_dim or config.d_model // config.num_heads

    def heads(name: str) -> Array:
        y = linear(x + params.get("bias_in", 0.0), params[name])
        return y.reshape(batch, length, -1, head_dim).transpose(0, 2, 1, 3)

    q, k, v = heads("q"), heads("k"), heads("v")
    if config.qk_norm:
        q, k = norm(q, params["q_norm"], config), norm(k, params["k_norm"], config)
    if "v_norm" in params:
        v = norm(v, params["v_norm"], config)
    if config.positions == "rotary":
        q, k = turn(q, config.rotary_theta), turn(k, config.rotary_theta)
    if site.qk_unit:
        q, k = (array / np.linalg.norm(array, axis=-1, keepdims=True) for array in (q, k))
    k, v = (np.repeat(array, q.shape[1] // k.shape[1], axis=1) for array in (k, v))
    scale = 1 / math.sqrt(head_dim) if site.attention_scale is None else site.attention_scale
    if site.score_scale:
        scale = scale * np.minimum(np.exp(params["score_scale"]), 100.0)[:, None, None]
    scores = q @ k.swapaxes(-1, -2) * scale
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    keep = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    scores = np.where(keep, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    mixed = mixed * np.reshape(params.get("head_scale", 1.0), (-1, 1, 1))
    mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, -1)
    if "inner_norm" in params:
        mixed = norm(mixed, params["inner_norm"], config)
    return linear(mixed + params.get("bias_out", 0.0), params["o"])


def cut(blocks: Tree, weights: Tree, depth: int) -> list[list[Tree]]:
    """[layers][sublayers] of parameters, by the layer indices that the weights declare."""
    layers: list[dict[int, Tree]] = [{} for _ in range(depth)]
    for block, stacks in weights.items():
        for position, stacked in stacks["layers"].items():
            for index, declared in stacked["sublayers"].items():
                arrays = blocks[block]["layers"][position]["sublayers"][index]
                ranges = {w.layers for w in jax.tree.leaves(declared)}
                assert len(ranges) == 1
                for step, layer in enumerate(ranges.pop()):
                    layers[layer][int(index)] = jax.tree.map(lambda a, s=step: a[s], arrays)
    assert all(list(layer) == sorted(layer) for layer in layers)
    return [list(layer.values()) for layer in layers]


def gated(x: Array, branch: Array, slots: Tree, site: Site, on: str) -> tuple[Array, Array]:
    """x and the branch after the site's gate, if it acts here: on the `skip` or on the `sum`."""
    if site.gate is None:
        return x, branch
    if site.gate.form == "straight_through":
        g = slots["gate"]
        return (x * (1 - g / (1 + np.exp(-g))) if site.gate.on == on else x), branch
    b = 1 / (1 + np.exp(-slots["gate"] / site.gate.temperature))
    return (x * np.sqrt(np.maximum(1 - b * b, 1e-3)), b * branch) if on == "skip" else (x, branch)


def run_stack(
    x: Array, stack: Tree, weights: Tree, placement: StackPlacement, config: ModelConfig
) -> tuple[Array, dict[str, Array]]:
    pattern, taps = config.window_pattern, []
    parts = cut(stack["blocks"], weights["blocks"], len(placement.layers))
    for layer, (sites, own) in enumerate(zip(placement.layers, parts, strict=True)):
        for site, params in zip(sites, own, strict=True):
            slots = params.get("residual", {})  # nothing learned, nothing there
            y = norm(x, slots["norm_in"], config, site.norm_in) if site.norm_in else x
            if site.sublayer == "mlp":
                branch = mlp(y, params["branch"], config)
            else:
                local = pattern[layer % len(pattern)] == "L"
                window = config.window if local else None
                branch = attention(y, params["branch"], config, window, site)
            if site.norm_branch:
                branch = norm(branch, slots.get("norm_branch", {}), config, site.norm_branch)
            start, branch = gated(y if site.skip_normed else x, branch, slots, site, "skip")
            skip = (slots["skip"] if site.skip.learned else site.skip.value) * start
            branch = (slots["branch"] if site.branch.learned else site.branch.value) * branch
            x, _ = gated(skip + branch, branch, slots, site, "sum")
            if site.norm_out:
                x = norm(x, slots["norm_out"], config, site.norm_out)
            size = [np.sqrt((array**2).mean()) for array in (x, branch, skip)]
            taps.append((size[0], size[1] / size[2]))
    table = np.asarray(taps).reshape(len(placement.layers), len(placement.layers[0]), 2)
    return x, {"stream_rms": table[..., 0], "branch_skip_ratio": table[..., 1]}


def run_model(
    case: Any, params: Tree, ids: jax.Array, placement: StackPlacement
) -> tuple[Array, Array, dict[str, Array]]:
    config: ModelConfig = case.config
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    table, length = params["embedding"]["tokens"], ids.shape[1]
    x = table[np.asarray(ids)] * (math.sqrt(config.d_model) if config.embedding_scale else 1.0)
    if config.positions == "learned":
        x = x + params["embedding"]["table"][:length]
    elif config.positions == "sinusoidal":
        angles = np.arange(length)[:, None] / 10000 ** (
            np.arange(0, config.d_model, 2) / config.d_model
        )
        x = x + np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, -1)
    x = x * placement.embedding_multiplier
    if config.embedding_norm:
        x = norm(x, params.get("embedding_norm", {}), config, placement.embedding_slot)
    x, taps = run_stack(x, params["stack"], case.weights["stack"], placement, config)
    if config.final_norm:
        x = norm(x, params.get("final_norm", {}), config, placement.final_slot)
    logits = x @ table.T if config.tie_embeddings else linear(x, params["head"])
    return x, logits * placement.logit_scale.value, taps


def assert_equal_to_hand(case: Any, ids: jax.Array) -> None:
    hidden, logits, taps = case.run(case.params, ids)
    placement = case.model.placement.stack("decoder")
    want_hidden, want_logits, want_taps = run_model(case, case.params, ids, placement)
    assert logits.dtype == jnp.float32
    scale = np.abs(want_hidden).max()
    np.testing.assert_allclose(hidden, want_hidden, atol=2e-5 * scale)
    np.testing.assert_allclose(logits, want_logits, atol=2e-5 * np.abs(want_logits).max())
    sublayers = len(placement.layers[0])
    assert taps["finite"].shape == (case.config.num_layers, sublayers)
    assert taps["finite"].all()
    for name, want in want_taps.items():
        np.testing.assert_allclose(taps[name], want, rtol=1e-4, err_msg=name)


# These two run under XLA's optimisation as well: all slots but the norm of the branch.
OPTIMIZED = ("deep_norm", "sub_ln")
VARIANTS = [
    pytest.param(name, marks=[pytest.mark.optimized] if name in OPTIMIZED else []) for name in PLAIN
]


@pytest.mark.parametrize("name", VARIANTS)
def test_model_is_the_loop_over_its_placement(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    assert_equal_to_hand(tiny(name), ids)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {
        "norm": "rms_norm",
        "positions": "rotary",
        "gated": True,
        "activation": "silu",
        "bias": False,
        "num_heads": 4,
        "num_kv_heads": 2,
        "tie_embeddings": False,
        "embedding_scale": False,
    },
    "local": {
        "window": 3,
        "window_pattern": "LLG",
        "num_layers": 5,
        "num_heads": 4,
        "num_kv_heads": 1,
        "positions": "sinusoidal",
        "activation": "gelu_tanh",
    },
    "normed": {
        "qk_norm": True,
        "embedding_norm": True,
        "norm_eps": 1e-2,
        "norm_bias": False,
        "head_dim": 6,
        "activation": "relu",
        "positions": "none",
    },
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", ["post_norm", "mix_norm(fraction=0.5)", "sub_ln"])
def test_architecture_choices_are_what_they_say(
    architecture: str, variant: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    assert_equal_to_hand(tiny(variant, **ARCHITECTURES[architecture]), ids)


def wild_placement(depth: int) -> StackPlacement:
    """A special first layer, then two kinds in turn, numbers that differ in every layer."""

    def site(sublayer: str, layer: int) -> Site:
        skip = Multiplier(1.0 + layer)
        if layer == 0:
            return Site(sublayer, norm_branch=NormSlot(), branch=Multiplier(0.3))
        if layer % 2:
            branch = Multiplier(0.5, learned="vector")
            return Site(sublayer, norm_out=NormSlot(), skip=skip, branch=branch)
        branch = Multiplier(1.0 / layer)
        skip = Multiplier(0.7, learned="scalar")
        return Site(sublayer, norm_in=NormSlot(), inner_norm=NormSlot(), skip=skip, branch=branch)

    layers = range(depth)
    return StackPlacement(tuple((site("self_attention", i), site("mlp", i)) for i in layers))


@pytest.mark.parametrize("unroll", [False, True])
def test_a_stack_of_many_kinds_is_the_loop_and_taps_come_in_order(
    unroll: bool, tiny: Callable[..., Any]
) -> None:
    depth = 8
    config = dataclasses.replace(tiny().config, num_layers=depth, unroll=unroll, window=4)
    config = dataclasses.replace(config, window_pattern="LG")
    placement = wild_placement(depth)
    stack = Stack(placement, config, name="decoder")
    plans = [block.plan for block in stack.blocks]
    assert [(p.start, p.period, p.repeats) for p in plans] == [(0, 1, 1), (1, 2, 3), (7, 1, 1)]
    shapes, weights = weight.split(stack)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.normal(0.2, 0.5, a.shape), shapes)
    x = rng.normal(size=(2, 6, config.d_model))
    want, want_taps = run_stack(x, params, weights, placement, config)

    @jax.jit
    def run(params: Tree, x: jax.Array) -> Any:
        positions = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
        scope = text_scope(config, positions, None, None, causal=True)
        bound = weight.bind(stack, params)
        return bound(x, scope, placement=placement, config=config, measure="figures")

    single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    got, taps = run(single, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())
    for name, values in want_taps.items():
        np.testing.assert_allclose(taps[name], values, rtol=1e-4, err_msg=name)
