"""What placements and architectures ask of attention and MLP, against numpy in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.attend import attention_weights
from zoo.layers.attention import Attention, Scope
from zoo.layers.linear import Scale
from zoo.layers.mlp import MLP
from zoo.layers.norms import NormSpec

WIDTH, HEADS, KV, DIM, LENGTH = 8, 4, 2, 3, 5
RMS = NormSpec("rms_norm", 1e-5)


def drawn(module: Any, seed: int = 0) -> Any:
    """The module with every weight random, gains and scalars too."""
    shapes, _ = weight.split(module)
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    made = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return weight.bind(module, jax.tree.unflatten(treedef, made))


def tree(module: Any) -> Any:
    return jax.tree.map(lambda a: np.asarray(a, np.float64), weight.split(module)[0])


def rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def by_hand(p: Any, x: np.ndarray, asks: dict[str, Any]) -> np.ndarray:
    """Causal attention of one sequence [length, width]."""
    x = x + p.get("bias_in", 0.0)
    q = (x @ p["q"]["kernel"]).reshape(LENGTH, HEADS, DIM)
    k = (x @ p["k"]["kernel"]).reshape(LENGTH, KV, DIM)
    v = (x @ p["v"]["kernel"]).reshape(LENGTH, KV, DIM)
    over = asks.get("qk_norm_over")
    if over == "width":
        q = (rms(q.reshape(LENGTH, -1)) * p["q_norm"]["norm"]["gain"]).reshape(q.shape)
        k = (rms(k.reshape(LENGTH, -1)) * p["k_norm"]["norm"]["gain"]).reshape(k.shape)
    elif over in ("head", "per_head"):
        q, k = rms(q) * p["q_norm"]["gain"], rms(k) * p["k_norm"]["gain"]
    if "v_norm" in asks:
        v = rms(v) * p["v_norm"]["gain"]
    if "qk_unit" in asks:
        q, k = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (q, k))
    if "qk_scale" in asks:
        scale = p["qk_scale"]["array"][:, 0] * asks["qk_scale"].factor
        q, k = q * np.repeat(scale, HEADS // KV, 0), k * scale
    out = np.zeros((LENGTH, HEADS, DIM))
    for head in range(HEADS):
        keys, values = k[:, head * KV // HEADS], v[:, head * KV // HEADS]
        for t in range(LENGTH):
            scores = keys[: t + 1] @ q[t, head] * asks.get("scale", DIM**-0.5)
            if "score_scale" in asks:
                scores = scores * min(np.exp(p["score_scale"][head]), 100.0)
            if "softcap" in asks:
                scores = asks["softcap"] * np.tanh(scores / asks["softcap"])
            weights = np.exp(scores - scores.max())
            out[t, head] = weights @ values[: t + 1] / weights.sum()
    if "head_scale" in asks:
        out = out * p["head_scale"][:, None]
    return (out.reshape(LENGTH, -1) + p.get("bias_out", 0.0)) @ p["o"]["kernel"]


@pytest.mark.parametrize(
    "asks",
    [
        {"qk_norm_over": "head", "v_norm": RMS},
        {"qk_norm_over": "width", "head_scale": True},
        {"qk_norm_over": "per_head", "scalar_biases": True},
        {"qk_unit": True, "qk_scale": Scale(0.5, 2.0), "scale": 1.7},
        {"qk_unit": True, "score_scale": True, "scale": 1.0},
        {"softcap": 0.7},
    ],
    ids=lambda asks: "+".join(asks),
)
def test_attention_does_what_it_is_asked(asks: dict[str, Any]) -> None:
    attention = drawn(
        Attention(
            WIDTH,
            num_heads=HEADS,
            num_kv_heads=KV,
            head_dim=DIM,
            bias="none",
            qk_norm=RMS if "qk_norm_over" in asks else None,
            inner_norm=None,
            **asks,
        )
    )
    x = np.random.default_rng(1).normal(size=(LENGTH, WIDTH))
    got = attention(jnp.asarray(x[None], jnp.float32), Scope(causal=True))[0]
    want = by_hand(tree(attention), x, asks)
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("gated", [False, True])
def test_the_mlp_scales_and_shifts_what_enters_its_activation(gated: bool) -> None:
    mlp = drawn(
        MLP(
            WIDTH,
            6,
            activation="silu",
            gated=gated,
            bias=False,
            inner_norm=None,
            hidden_scale=Scale(1.0, 3.0),
            scalar_biases=True,
        )
    )
    p = tree(mlp)
    x = np.random.default_rng(1).normal(size=(2, LENGTH, WIDTH))
    before = x + p["bias_in"]
    hidden = before @ (p["gate"] if gated else p["w1"])["kernel"]
    hidden = hidden * p["hidden_scale"]["array"] * 3.0 + p["bias_mid"]
    hidden = hidden / (1.0 + np.exp(-hidden))
    if gated:
        hidden = hidden * (before @ p["w1"]["kernel"] * p["product_scale"]["array"])
    want = (hidden + p["bias_out"]) @ p["w2"]["kernel"]
    np.testing.assert_allclose(
        mlp(jnp.asarray(x, jnp.float32)), want, atol=2e-5 * np.abs(want).max()
    )


def test_attention_weights_are_the_averages_that_attend_takes() -> None:
    keys = jax.random.split(jax.random.key(3), 2)
    q = jax.random.normal(keys[0], (1, HEADS, LENGTH, DIM))
    k = jax.random.normal(keys[1], (1, KV, LENGTH, DIM))
    weights = np.asarray(attention_weights(q, k, scale=0.5, causal=True, softcap=2.0))
    assert weights.shape == (1, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)
    scores = 2.0 * np.tanh(np.asarray(k[0, 1, :3] @ q[0, 2, 2]) * 0.5 / 2.0)
    np.testing.assert_allclose(
        weights[0, 2, 2, :3], np.exp(scores) / np.exp(scores).sum(), atol=1e-6
    )
