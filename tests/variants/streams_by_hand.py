"""Streams run without a model, and the parts that their formulas in numpy float64 share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.models import conftest as models
from tests.models.test_by_hand import norm
from tests.variants.by_hand import Array, Step, Tree, embedding, float64, steps
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.models.config import ModelConfig
from zoo.variants.placement import Site, StackPlacement
from zoo.variants.registry import get_variant
from zoo.variants.streams import STREAMS

WIDTH, DEPTH = 8, 3


# steps[layer][sublayer], the ends' parameters, x_0, and N(x, parameters); gives (output, arrays of
# the stream that the taps record after each sublayer).
Formula = Callable[
    [Sequence[Sequence[Step]], Tree, Array, Callable[..., Array]], tuple[Array, list[Array]]
]


@dataclasses.dataclass(frozen=True)
class Run:
    """A tiny decoder with every gain, bias and multiplier moved off its start, and its outputs."""

    case: models.Tiny
    params: Tree
    ids: jax.Array
    output: Array  # of the stack, before the final norm
    taps: dict[str, Array]  # [layers, sublayers, batch, length, d_model]

    @property
    def placement(self) -> StackPlacement:
        return self.case.model.placement.stack("decoder")

    @property
    def config(self) -> ModelConfig:
        return self.case.config

    def embedding(self) -> Array:
        """x_0 in float64."""
        return embedding(self.config, self.params, self.ids)

    def steps(self) -> list[list[Step]]:
        return steps(self.case, self.params)

    def by_hand(self, formula: Formula) -> tuple[Array, list[Array]]:
        ends = float64(self.params)["stack"].get("ends", {})
        return formula(self.steps(), ends, self.embedding(), self.norm)

    def norm(self, x: Array, params: Tree, eps: float | None = None) -> Array:
        config = self.config
        return norm(x, params, dataclasses.replace(config, norm_eps=eps or config.norm_eps))


@functools.cache
def compiled(spec: str) -> tuple[models.Tiny, Callable[..., Any]]:
    """A tiny decoder and (params, ids) to (the stack's output, its taps)."""
    case = models._tiny(dataclasses.replace(models.BASE, variant=spec, num_layers=DEPTH))

    def measure(params: Tree, ids: jax.Array) -> Any:
        model = weight.bind(case.model, params)
        if case.config.final_norm:
            model.final_norm = lambda x: x
        output, taps = model.measure(ids, taps="arrays")
        return output, taps["decoder"]

    return case, jax.jit(measure)


def run(spec: str, params: Tree | None = None) -> Run:
    """Outputs of a tiny decoder; with its perturbed parameters unless others are given."""
    case, measure = compiled(spec)
    ids = jax.random.randint(jax.random.key(2), (2, 6), 0, models.VOCAB, jnp.int32)
    params = case.params if params is None else params
    output, taps = measure(params, ids)
    return Run(case, params, ids, np.asarray(output), {k: np.asarray(v) for k, v in taps.items()})


def start(spec: str) -> Tree:
    """The parameters with which a tiny decoder begins."""
    return weight.split(compiled(spec)[0].model)[0]


def assert_formula(spec: str, formula: Formula) -> None:
    """The compiled model against its formula: the output, and the stream after each sublayer."""
    got = run(spec)
    want, streams = got.by_hand(formula)
    np.testing.assert_allclose(got.output, want, atol=2e-5 * np.abs(want).max())
    arrays = got.taps["stream"].reshape(-1, *want.shape)
    assert len(arrays) == len(streams)
    for a, b in zip(arrays, streams, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


class Flow:
    """A stream alone, around branches tanh(x M): any architecture, and nothing to compile."""

    def __init__(
        self,
        spec: str,
        stack: str = "decoder",
        architecture: str = "decoder",
        *,
        depth: int = DEPTH,
        moved: float = 0.3,
    ) -> None:
        """`moved`: deviation of the parameters from their starts."""
        variant = get_variant(spec)
        depths = {"num_encoder_layers": depth, "num_decoder_layers": depth}
        placement = variant.resolve(architecture, **depths, d_model=WIDTH)  # type: ignore[arg-type]
        self.placement = placement.stack(stack)
        made, norm_spec = STREAMS[self.placement.stream], NormSpec(eps=1e-5)
        rng = np.random.default_rng(0)

        def perturbed(module: Any, owner: Site | StackPlacement) -> Any:
            params, weights = weight.split(module)

            def draw(declared: weight.Weight, array: jax.Array) -> jax.Array:
                first = np.broadcast_to(np.reshape(owner.initial(declared), -1), array.size)
                drawn = declared.kind == "matrix"
                first = 0.0 if drawn else first.reshape(array.shape)
                return jnp.asarray(first + moved * rng.normal(size=array.shape), jnp.float32)

            return weight.bind(module, weight.map_weights(draw, weights, params))

        self.sites = [
            [perturbed(made.site(s, self.placement, WIDTH, norm_spec), s) for s in sites]
            for sites in self.placement.layers
        ]
        self.ends = perturbed(made.ends(self.placement, WIDTH, norm_spec), self.placement)
        shape = (depth, len(self.placement.layers[0]), WIDTH, WIDTH)
        self.mix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        self.x = np.random.default_rng(2).normal(size=(2, 3, WIDTH)).astype(np.float32)

    def __call__(self) -> Array:
        """The output; `carry` is then what was closed, `branches` all that was written."""
        carry, self.branches = self.ends.open(jnp.asarray(self.x, jnp.float32)), []
        for layer, sites in enumerate(self.placement.layers):
            for index, site in enumerate(sites):
                access, numbers = self.sites[layer][index], site.numbers()
                branch = jnp.tanh(access.read(carry, numbers) @ self.mix[layer, index])
                carry = access.write(carry, branch, numbers)
                self.branches.append(np.asarray(branch, np.float64))
        self.carry = carry
        return np.asarray(self.ends.close(carry))

    def by_hand(self, formula: Formula) -> tuple[Array, list[Array]]:
        def f(layer: int, index: int) -> Callable[[Array], Array]:
            return lambda x: np.tanh(x @ self.mix[layer, index])

        steps = [
            [
                Step(layer, site, float64(weight.split(access)[0]), f(layer, index))
                for index, (site, access) in enumerate(zip(sites, accesses, strict=True))
            ]
            for layer, (sites, accesses) in enumerate(
                zip(self.placement.layers, self.sites, strict=True)
            )
        ]
        ends = float64(weight.split(self.ends)[0])
        return formula(steps, ends, self.x.astype(np.float64), norm_by_hand)


def norm_by_hand(x: Array, params: Tree, eps: float = 1e-5) -> Array:
    """LayerNorm."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * params["gain"] + params["bias"]
