"""A decoder's training step by hand: the peer that the library's speed is measured against.

One file of jax.numpy, written for CPU speed and for one model at a time: layers scanned with
chosen intermediates saved, two-dimensional products, head-major attention, the branch computed
first and added last. It knows six placements (`SUBLAYERS`) and no options.
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
Branch = Callable[[jax.Array], jax.Array]
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


# Branches are saved where their value is needed (learned factors), and cost nothing elsewhere.
_LESS = ("qkv", "attention", "stream_1", "pre_activation", "branch")
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
    if shape.variant in ("pre_norm", "layer_scale", "hyper_connections", "residual_dual"):
        params |= {"final": jnp.ones(d), "final_bias": jnp.zeros(d)}
    if shape.variant == "layer_scale":
        layers |= {f"scale_{site}": jnp.full((n, d), 0.1) for site in (1, 2)}
    if shape.variant == "hyper_connections":
        for site in (1, 2):
            layers |= _hyper_init(shape, site, jax.random.fold_in(key, 100 + site))
    return params


def _hyper_init(shape: Shape, site: int, key: jax.Array) -> Params:
    d, n, rows = shape.d_model, shape.num_layers, STREAMS
    turns = (2 * jnp.arange(n) + site - 1) % rows
    read = jax.nn.one_hot(turns, rows)[..., None]
    carry = jnp.broadcast_to(jnp.eye(rows), (n, rows, rows))
    static = jnp.concatenate([read, carry, jnp.ones((n, rows, 1))], axis=-1)
    made = {
        "norm": jnp.ones((n, d)),
        "norm_bias": jnp.zeros((n, d)),
        # Columns: one reads the streams, one for each is mixed into it, one writes the branch.
        "mixing": jax.random.normal(key, (n, d, rows + 2)) * d**-0.5,
        "static": static.reshape(n, -1),
        "scale": jnp.full((n, 2), 0.01),  # of the dynamic part: read and mixture, write
    }
    return {f"hyper_{name}_{site}": value for name, value in made.items()}


def hidden(shape: Shape, form: Form, params: Params, ids: jax.Array) -> jax.Array:
    """[batch, length] int32 to [batch, length, d_model]."""
    x = params["tokens"][ids] * shape.d_model**0.5 + params["positions"][: ids.shape[1]]
    policy = jax.checkpoint_policies.save_only_these_names(*form.saved)
    sublayer = SUBLAYERS[shape.variant]

    def layer(carry: Any, w: Params) -> tuple[Any, None]:
        carry = sublayer(shape, carry, lambda x: _attention(shape, form, x, w), w, 1)
        return sublayer(shape, carry, lambda x: _mlp(x, w), w, 2), None

    body = jax.checkpoint(layer, policy=policy, prevent_cse=False)
    opened: Any = x
    if shape.variant == "residual_dual":
        opened = (x, x)
    if shape.variant == "hyper_connections":
        opened = jnp.broadcast_to(x[..., None, :], (*ids.shape, STREAMS, shape.d_model))
    carry, _ = jax.lax.scan(body, opened, params["layers"])
    if shape.variant == "residual_dual":
        return carry[0] + _norm(carry[1], params["final"], params["final_bias"], 1e-7)
    if shape.variant == "hyper_connections":
        carry = carry.sum(-2)
    return _norm(carry, params["final"], params["final_bias"]) if "final" in params else carry


def _site_norm(x: jax.Array, w: Params, site: int) -> jax.Array:
    return _norm(x, w[f"norm_{site}"], w[f"norm_{site}_bias"])


def _pre_norm(shape: Shape, x: jax.Array, branch: Branch, w: Params, site: int) -> jax.Array:
    return checkpoint_name(x + branch(_site_norm(x, w, site)), f"stream_{site}")


def _layer_scale(shape: Shape, x: jax.Array, branch: Branch, w: Params, site: int) -> jax.Array:
    f = checkpoint_name(branch(_site_norm(x, w, site)), "branch")
    return checkpoint_name(x + w[f"scale_{site}"] * f, f"stream_{site}")


def _post_norm(shape: Shape, x: jax.Array, branch: Branch, w: Params, site: int) -> jax.Array:
    return _site_norm(checkpoint_name(x + branch(x), f"stream_{site}"), w, site)


def _deep_norm(shape: Shape, x: jax.Array, branch: Branch, w: Params, site: int) -> jax.Array:
    alpha = (2.0 * shape.num_layers) ** 0.25
    return _site_norm(checkpoint_name(x * alpha + branch(x), f"stream_{site}"), w, site)


def _residual_dual(
    shape: Shape, carry: tuple[jax.Array, jax.Array], branch: Branch, w: Params, site: int
) -> tuple[jax.Array, jax.Array]:
    x, total = carry
    f = branch(x)
    return _site_norm(checkpoint_name(x + f, f"stream_{site}"), w, site), total + f


def _hyper_connections(
    shape: Shape, h: jax.Array, branch: Branch, w: Params, site: int
) -> jax.Array:
    def own(name: str) -> jax.Array:
        return w[f"hyper_{name}_{site}"]

    rows, d = STREAMS, shape.d_model
    seen = _norm(h, own("norm"), own("norm_bias")).reshape(-1, d) @ own("mixing")
    dynamic = jnp.tanh(seen).reshape(*h.shape[:-1], rows + 2)
    scales = own("scale")
    dynamic = dynamic * jnp.concatenate([jnp.repeat(scales[:1], rows + 1), scales[1:]])
    weights = own("static").reshape(rows, rows + 2) + dynamic
    mixed = _mix(weights[..., :-1], h)
    f = checkpoint_name(branch(_site_norm(mixed[..., 0, :], w, site)), "branch")
    # As a product: its derivative by the weights is one too, not a sum over the last axis.
    written = jnp.einsum("bti,btd->btid", weights[..., -1], f)
    return checkpoint_name(mixed[..., 1:, :] + written, f"stream_{site}")


@jax.custom_vjp
def _mix(weights: jax.Array, h: jax.Array) -> jax.Array:
    """[b, t, i, j] and [b, t, i, d] to [b, t, j, d]: a sum is quickest forward, and for h."""
    return jnp.sum(weights[..., None] * h[..., None, :], axis=-3)


def _mix_forward(weights: jax.Array, h: jax.Array) -> tuple[jax.Array, Any]:
    return _mix(weights, h), (weights, h)


def _mix_backward(kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights, h = kept
    return jnp.einsum("btid,btjd->btij", h, g), _mix(weights.swapaxes(-1, -2), g)


_mix.defvjp(_mix_forward, _mix_backward)

# How many streams Hyper-Connections have.
STREAMS = 4
# (shape, carry, branch, weights, 1 or 2) to the carry after the sublayer.
SUBLAYERS: dict[str, Callable[[Shape, Any, Branch, Params, int], Any]] = {
    "post_norm": _post_norm,
    "pre_norm": _pre_norm,
    "deep_norm": _deep_norm,
    "layer_scale": _layer_scale,
    "residual_dual": _residual_dual,
    "hyper_connections": _hyper_connections,
}


def _norm(x: jax.Array, gain: jax.Array, bias: jax.Array, eps: float = 1e-5) -> jax.Array:
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * gain + bias


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
