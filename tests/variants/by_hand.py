"""A small decoder, and the parts of one written out in float64 numpy, around any stream."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.test_by_hand import attention, cut, mlp, norm
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, declare, initialiser
from zoo.variants.placement import Site

Array = np.ndarray
Tree = dict[str, Any]
DEPTH, WIDTH, VOCAB, LENGTH = 3, 8, 13, 6
IDS = np.random.default_rng(5).integers(0, VOCAB, (2, LENGTH)).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and what is compiled of it; `start` is its initial state, `moved` a random one.

    `run(params, ids)` gives (hidden, logits, taps); every number of `moved` is drawn, the
    matrices that start at 0 too.
    """

    model: Transformer
    start: Tree
    moved: Tree
    weights: Tree
    run: Callable[..., Any]

    @property
    def config(self) -> ModelConfig:
        return self.model.config


@functools.cache
def case(variant: str, **changes: Any) -> Case:
    config = ModelConfig(
        variant=variant,
        **{
            "d_model": WIDTH,
            "num_layers": DEPTH,
            "num_heads": 2,
            "d_ff": 12,
            "vocab_size": VOCAB,
            "max_length": LENGTH,
            **changes,
        },
    )
    model = declare(config)
    start = initialiser(model)(jax.random.key(0))
    _, weights = weight.split(model)
    rng = np.random.default_rng(1)
    moved = jax.tree.map(lambda a: a + rng.normal(0.0, 0.3, a.shape).astype(np.float32), start)

    def run(params: Tree, ids: Any) -> Any:
        bound = weight.bind(model, params)
        hidden, taps = bound.measure(ids, taps="arrays")
        return hidden, bound.logits(hidden), taps["decoder"]

    return Case(model, start, moved, weights, jax.jit(run))


Branch = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Step:
    """One sublayer as a formula needs it: its place, its norms and numbers, and F."""

    layer: int
    site: Site
    own: Tree  # float64 parameters of the access to the stream
    f: Branch


def float64(tree: Any) -> Any:
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def embedding(config: ModelConfig, params: Tree, ids: Any) -> Array:
    """x_0 in float64, [batch, length, d_model], normed where the model has a norm there."""
    own, ids = float64(params), np.asarray(ids)
    x = own["embedding"]["tokens"][ids]
    x = x * (math.sqrt(config.d_model) if config.embedding_scale else 1.0)
    if config.positions == "learned":
        x = x + own["embedding"]["table"][: ids.shape[1]]
    return norm(x, own["embedding_norm"], config) if config.embedding_norm else x


def steps(
    case: Any, params: Tree, f: Callable[[Array, Site, Tree], Array] | None = None
) -> list[list[Step]]:
    """[layers][sublayers] of a decoder.

    Args:
        case: with `model`, `config` and `weights`.
        f: (x, site, parameters of F) to F(x), where it is not a plain one.
    """
    config, stack = case.config, float64(params)["stack"]
    layers = case.model.placement.stack("decoder").layers
    parts = cut(stack["blocks"], case.weights["stack"]["blocks"], len(layers))

    def branch(site: Site, own: Tree) -> Branch:
        if f is not None:
            return lambda x: f(x, site, own)
        if site.sublayer == "mlp":
            return lambda x: mlp(x, own, config)
        return lambda x: attention(x, own, config, None)

    return [
        [
            Step(layer, site, own.get("residual", {}), branch(site, own["branch"]))
            for site, own in zip(sites, owns, strict=True)
        ]
        for layer, (sites, owns) in enumerate(zip(layers, parts, strict=True))
    ]


def run_by_hand(
    case: Case,
    params: Tree,
    *,
    open: Callable[[Array], Any],
    sublayer: Callable[[Any, Site, Tree, Branch], Any],
    close: Callable[[Any, Tree], Array],
    f: Callable[[Array, Site, Tree], Array] | None = None,
) -> Array:
    """The stream before the head, [batch, length, d_model].

    Args:
        open: the carry of the embedding.
        sublayer: (carry, site, its parameters around F, F) to the next carry.
        close: (carry, parameters of the ends) to x before the final norm.
        f: as of `steps`.
    """
    own = float64(params)
    carry = open(embedding(case.config, params, IDS))
    for step in itertools.chain.from_iterable(steps(case, params, f)):
        carry = sublayer(carry, step.site, step.own, step.f)
    x = close(carry, own["stack"].get("ends", {}))
    return norm(x, own["final_norm"], case.config) if case.config.final_norm else x


def assert_same(case: Case, want: Array) -> None:
    """The model's output at its moved parameters, in float32, is `want` in float64."""
    hidden, _, taps = case.run(case.moved, IDS)
    # Some hundred float32 operations deep, at numbers of size one.
    np.testing.assert_allclose(hidden, want, atol=3e-5 * np.abs(want).max())
    assert bool(jnp.all(taps["finite"]))
