"""A decoder's training step by hand: the peer that the library's speed is measured against.

One file of jax.numpy, written for CPU speed and for one model at a time: layers scanned with
chosen intermediates saved, two-dimensional products, head-major attention, the branch computed
first and added last. It knows three placements and no options.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

Params = dict[str, Any]
Step = Callable[..., tuple[Params, Any, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to write the same step; the fastest of `FORMS` is the peer.

    Attributes:
        fused_qkv: one product for queries, keys and values.
        saved: names the backward pass of a layer finds saved.
    """

    fused_qkv: bool
    saved: tuple[str, ...]


_LESS = ("qkv", "attention", "stream_1", "pre_activation")
FORMS = {
    "fused, C": Form(True, _LESS),
    "fused, A": Form(True, (*_LESS, "stream_2")),
    "separate, C": Form(False, _LESS),
    "separate, A": Form(False, (*_LESS, "stream_2")),
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of one decoder with tied embeddings, learned positions and a 4 d_model wide MLP."""

    variant: str
    d_model: int
    num_layers: int
    num_heads: int
    batch: int
    length: int
    vocab_size: int = 256


def init(shape: Shape, form: Form, key: jax.Array) -> Params:
    """Random parameters, layers stacked on a leading axis."""
    d, n = shape.d_model, shape.num_layers
    sizes = {"qkv": (d, 3 * d)} if form.fused_qkv else dict.fromkeys("qkv", (d, d))
    sizes |= {"o": (d, d), "w1": (d, 4 * d), "w2": (4 * d, d)}
    layers: Params = {}
    for index, (name, (rows, columns)) in enumerate(sizes.items()):
        draw = jax.random.normal(jax.random.fold_in(key, index), (n, rows, columns))
        layers[name] = draw * (2.0 / (rows + columns)) ** 0.5 * (8.0 * n) ** -0.25
        layers[f"{name}_bias"] = jnp.zeros((n, columns))
    for name in ("norm_1", "norm_2"):
        layers[name], layers[f"{name}_bias"] = jnp.ones((n, d)), jnp.zeros((n, d))
    params: Params = {
        "tokens": jax.random.normal(jax.random.fold_in(key, 98), (shape.vocab_size, d)) * d**-0.5,
        "positions": jax.random.normal(jax.random.fold_in(key, 99), (512, d)) * d**-0.5,
        "layers": layers,
    }
    if shape.variant == "pre_norm":
        params |= {"final": jnp.ones(d), "final_bias": jnp.zeros(d)}
    return params


def hidden(shape: Shape, form: Form, params: Params, ids: jax.Array) -> jax.Array:
    """[batch, length] int32 to [batch, length, d_model]."""
    x = params["tokens"][ids] * shape.d_model**0.5 + params["positions"][: ids.shape[1]]
    policy = jax.checkpoint_policies.save_only_these_names(*form.saved)

    def layer(x: jax.Array, w: Params) -> tuple[jax.Array, None]:
        return _layer(shape, form, x, w), None

    body = jax.checkpoint(layer, policy=policy, prevent_cse=False)
    x, _ = jax.lax.scan(body, x, params["layers"])
    return _norm(x, params["final"], params["final_bias"]) if "final" in params else x


def _layer(shape: Shape, form: Form, x: jax.Array, w: Params) -> jax.Array:
    def norm(x: jax.Array, name: str) -> jax.Array:
        return _norm(x, w[name], w[f"{name}_bias"])

    alpha = (2.0 * shape.num_layers) ** 0.25
    if shape.variant == "pre_norm":
        x = checkpoint_name(x + _attention(shape, form, norm(x, "norm_1"), w), "stream_1")
        return checkpoint_name(x + _mlp(norm(x, "norm_2"), w), "stream_2")
    scale = alpha if shape.variant == "deep_norm" else 1.0
    skip = x * scale if scale != 1.0 else x
    x = norm(checkpoint_name(skip + _attention(shape, form, x, w), "stream_1"), "norm_1")
    skip = x * scale if scale != 1.0 else x
    return norm(checkpoint_name(skip + _mlp(x, w), "stream_2"), "norm_2")


def _norm(x: jax.Array, gain: jax.Array, bias: jax.Array) -> jax.Array:
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5) * gain + bias


def _product(x: jax.Array, w: Params, name: str) -> jax.Array:
    y = x.reshape(-1, x.shape[-1]) @ w[name]
    return y.reshape(*x.shape[:-1], -1) + w[f"{name}_bias"]


def _attention(shape: Shape, form: Form, x: jax.Array, w: Params) -> jax.Array:
    batch, length, d = x.shape
    heads, head_dim = shape.num_heads, d // shape.num_heads
    if form.fused_qkv:
        qkv = _product(x, w, "qkv").reshape(batch, length, 3, heads, head_dim)
        q, k, v = checkpoint_name(qkv.transpose(2, 0, 3, 1, 4), "qkv")
    else:
        split = (_product(x, w, name).reshape(batch, length, heads, head_dim) for name in "qkv")
        q, k, v = (checkpoint_name(part.transpose(0, 2, 1, 3), "qkv") for part in split)
    scores = jnp.einsum("bhtd,bhsd->bhts", q, k) * head_dim**-0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e30)
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
    mixed = jnp.einsum("bhts,bhsd->bhtd", weights, v) / jnp.sum(weights, -1, keepdims=True)
    mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, d)
    return _product(checkpoint_name(mixed, "attention"), w, "o")


def _mlp(x: jax.Array, w: Params) -> jax.Array:
    x = checkpoint_name(_product(x, w, "w1"), "pre_activation")
    return _product(x * (0.5 + 0.5 * jax.lax.erf(x / math.sqrt(2.0))), w, "w2")


def loss(shape: Shape, form: Form, params: Params, ids: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats a token."""
    x = hidden(shape, form, params, ids).reshape(-1, shape.d_model)
    logits = x @ params["tokens"].T
    picked = jnp.take_along_axis(logits, labels.reshape(-1, 1), axis=-1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - picked)


def make_step(shape: Shape, form: Form) -> tuple[Params, Any, Step]:
    """(parameters, optimizer state, jitted donating step): AdamW, clipped at 1, decay on matrices.

    The step maps (params, state, ids, labels, lr, decay) to (params, state, loss).
    """
    params = init(shape, form, jax.random.key(0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.int32))

    def step(
        params: Params, state: Any, ids: jax.Array, labels: jax.Array, lr: Any, decay: Any
    ) -> tuple[Params, Any, jax.Array]:
        value, grads = jax.value_and_grad(lambda p: loss(shape, form, p, ids, labels))(params)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
        clip = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
        first, second, count = state
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * clip * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * (clip * g) ** 2, second, grads)
        one, two = 1 - 0.9**count, 1 - 0.95**count

        def move(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            direction = (m / one) / (jnp.sqrt(v / two) + 1e-8)
            return p - lr * (direction + decay * p if p.ndim == 3 else direction)

        return jax.tree.map(move, params, first, second), (first, second, count), value

    return params, state, jax.jit(step, donate_argnums=(0, 1))
