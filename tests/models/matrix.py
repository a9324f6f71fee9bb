"""One tiny model for every variant and architecture, and what it is asked to do."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, build
from zoo.training.optim_config import OptimConfig
from zoo.training.optimizer import make_optimizer

ARCHITECTURES = ("encoder", "decoder", "encoder_decoder", "vision")
VOCAB, LENGTH, BATCH, LABELS, STEPS = 11, 6, 4, 3, 6
BASE = ModelConfig(
    vocab_size=VOCAB,
    d_model=8,
    num_layers=3,
    num_heads=2,
    d_ff=12,
    image_size=4,
    patch_size=2,
    num_labels=LABELS,
)
OPTIM = OptimConfig(beta1=0.9, beta2=0.95)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of six steps at a constant rate.

    Attributes:
        loss, finite: of the first step, and whether its gradient was finite.
        logits: of the scanned model before it, and of the same weights layer by layer.
        before, after: parameters.
    """

    model: Transformer
    loss: float
    finite: bool
    logits: np.ndarray
    unrolled: np.ndarray
    before: dict[str, Any]
    after: dict[str, Any]


def inputs(architecture: str) -> dict[str, jax.Array]:
    """Random arguments of a call."""
    keys = jax.random.split(jax.random.key(1), 2)
    ids = jax.random.randint(keys[0], (2, BATCH, LENGTH), 0, VOCAB, jnp.int32)
    if architecture == "vision":
        return {"pixel_values": jax.random.normal(keys[1], (BATCH, 4, 4, 3))}
    given = {"input_ids": ids[0]}
    return given | ({"decoder_input_ids": ids[1]} if architecture == "encoder_decoder" else {})


def run(variant: str, architecture: str, *, adamw: bool = True, **changes: Any) -> Outcome:
    """Six steps of one compiled function, and the layers one by one.

    Args:
        adamw: with the placement's own optimizer; else by gradient descent in NumPy, each array
            at a rate of its own: a quarter of what a pair costs is compiling AdamW.
    """
    longest = None if architecture == "vision" else LENGTH  # a vision model's follows its patches
    config = dataclasses.replace(
        BASE, variant=variant, architecture=architecture, max_length=longest, **changes
    )
    model = build(config, jax.random.key(0))
    before, weights = weight.split(model)
    optimizer = make_optimizer(OPTIM, weights, model.placement)
    given = inputs(architecture)
    key = jax.random.key(3) if config.is_random() else None
    # Not compiled: the operations are, once for all pairs, whose arrays have the same shapes.
    unrolled = layer_by_layer(model)(**given, step=jnp.zeros((), jnp.int32), dropout_key=key)
    labels = jax.random.randint(jax.random.key(2), unrolled.shape[:-1], 0, unrolled.shape[-1])

    def loss(params: dict[str, Any], step: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = weight.bind(model, params)(**given, step=step, dropout_key=key)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(entropy), logits

    # One step, called six times: compiling it is nearly all that a pair costs, and a scan over
    # the steps, or figures of every gradient, would add to that.
    @jax.jit
    def train(params: dict[str, Any], opt_state: Any, step: jax.Array) -> Any:
        (value, logits), grads = jax.value_and_grad(loss, has_aux=True)(params, step)
        if adamw:
            params, opt_state = optimizer.apply(grads, opt_state, params, lr=1e-2, weight_decay=0.0)
        return params, opt_state, (value, logits, grads)

    opt_state = optimizer.init(before) if adamw else None
    after, first, rates = before, None, jax.tree.map(lambda _: np.float32(0.0), before)
    for step in range(STEPS):
        after, opt_state, figures = train(after, opt_state, jnp.asarray(step, jnp.int32))
        first = first or figures
        if not adamw:
            after, grads = jax.device_get((after, figures[-1]))
            rates = jax.tree.map(rate, rates, grads)
            after = jax.tree.map(lambda a, r, g: a - r * g, after, rates, grads)
    value, logits, grads = jax.device_get(first)
    return Outcome(
        model,
        float(value),
        all(bool(np.isfinite(grad).all()) for grad in jax.tree.leaves(grads)),
        logits,
        np.asarray(unrolled),
        *jax.device_get((before, after)),
    )


def rate(known: np.floating, grad: np.ndarray) -> np.floating:
    """Moves an array by 0.001 where its gradient is first not 0; constant from there."""
    size = np.sqrt(np.mean(np.square(grad)))
    return known if known or not size else np.float32(1e-3) / size


def layer_by_layer(model: Transformer) -> Transformer:
    """The same weights in a model that runs its layers in a Python loop."""
    made = weight.bind(model, weight.split(model)[0])
    made.config = dataclasses.replace(model.config, unroll=True, remat="none")
    return made


def unmoved(outcome: Outcome) -> list[str]:
    """Arrays, by layer where stacked, that six steps have left as they were."""
    _, weights = weight.split(outcome.model)
    still = []

    def look(path: Any, own: weight.Weight, before: np.ndarray, after: np.ndarray) -> None:
        changed = before != after
        layers = changed.reshape(len(own.layers), -1) if own.layers else changed.reshape(1, -1)
        if not layers.any(axis=1).all():
            still.append(f"{jax.tree_util.keystr(path)} in layers {layers.any(axis=1)}")

    jax.tree_util.tree_map_with_path(look, weights, outcome.before, outcome.after)
    return still
