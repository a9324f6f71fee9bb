"""How far one step moves a model, against its depth: the table of DeepNet's and others' laws.

    python scripts/update_law.py            # docs/update_law.md, and whether the promises hold

For each placement at 6, 24 and 96 layers: relative change of the stack's output after one step of
gradient descent (rate 1e-3) and after one along the gradient's signs (Adam's first), and the norm
of the gradient of the matrices. A causal model of width 64, 4 x 64 uniform tokens, Xavier-normal;
matrices and embeddings are stepped, gains and biases held: their effects add up over the layers.
Medians of three seeds. About ten minutes on 2 cores.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.resolve import place
from zoo.models.transformer import declare, initialiser
from zoo.variants.placement import Placement

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "update_law.md"
DEPTHS, SEEDS, STEP = (6, 24, 96), 3, 1e-3
_STEPPED = ("matrix", "embedding")

Change = Callable[[Placement], Placement]


def without_init_gains(placement: Placement) -> Placement:
    """The same wiring with every matrix at its base init."""
    return _with_sites(placement, init_gains=())


def without_qk_norm(placement: Placement) -> Placement:
    """The same wiring with queries and keys as they are."""
    return _with_sites(placement, qk_norm=False)


# Name in the table -> (variant, what is changed about its placement).
ROWS: dict[str, tuple[str, Change | None]] = {
    "post_norm": ("post_norm", None),
    "deep_norm": ("deep_norm", None),
    "deep_norm, α alone": ("deep_norm", without_init_gains),
    "admin, before a profile": ("admin", None),
    "pre_norm": ("pre_norm", None),
    "pre_norm(scaled_init=True)": ("pre_norm(scaled_init=True)", None),
    "peri_norm": ("peri_norm", None),
    "res_post_norm without query and key norms": ("res_post_norm", without_qk_norm),
    "res_post_norm": ("res_post_norm", None),
    "sub_ln": ("sub_ln", None),
    "keel": ("keel", None),
    "residual_dual": ("residual_dual", None),
    "layer_norm_scaling": ("layer_norm_scaling", None),
}


@functools.lru_cache(maxsize=64)
def measure(variant: str, depth: int, change: Change | None = None) -> dict[str, float]:
    """Medians over seeds of `sgd`, `sign` (relative changes) and `gradient` (a norm)."""
    config = ModelConfig(
        variant=variant,
        vocab_size=256,
        d_model=64,
        num_heads=4,
        num_layers=depth,
        max_length=64,
        tie_embeddings=False,
        embedding_scale=True,
        remat="none",
    )
    placement = place(config)
    model = declare(config, placement if change is None else change(placement))
    _, weights = weight.split(model)

    @jax.jit
    def run(params: dict[str, Any], ids: jax.Array) -> dict[str, jax.Array]:
        def loss(params: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
            bound = weight.bind(model, params)
            hidden = bound.hidden(ids[:, :-1])
            log_probabilities = jax.nn.log_softmax(bound.logits(hidden))
            return -jnp.take_along_axis(log_probabilities, ids[:, 1:, None], -1).mean(), hidden

        (_, before), gradients = jax.value_and_grad(loss, has_aux=True)(params)

        def moved(direction: Callable[[jax.Array], jax.Array]) -> jax.Array:
            stepped = weight.map_weights(
                lambda w, p, g: p - STEP * direction(g) if w.kind in _STEPPED else p,
                weights,
                params,
                gradients,
            )
            after = loss(stepped)[1]
            return jnp.linalg.norm(after - before) / jnp.linalg.norm(before)

        squares = weight.map_weights(
            lambda w, g: jnp.sum(g**2) if w.kind == "matrix" else 0.0, weights, gradients
        )
        return {
            "sgd": moved(lambda g: g),
            "sign": moved(jnp.sign),
            "gradient": jnp.sqrt(sum(jax.tree.leaves(squares))),
        }

    start = initialiser(model)
    results = []
    for seed in range(SEEDS):
        ids = jax.random.randint(jax.random.key(100 + seed), (4, 65), 0, 256)
        results.append(jax.device_get(run(start(jax.random.key(seed)), ids)))
    return {name: float(np.median([r[name] for r in results])) for name in results[0]}


@dataclasses.dataclass(frozen=True)
class Promise:
    """What the ratio of a figure at 96 layers to that at 6 must be."""

    row: str
    figure: str
    least: float
    most: float
    source: str

    def ratio(self) -> float:
        variant, change = ROWS[self.row]
        deep, shallow = (measure(variant, depth, change)[self.figure] for depth in (96, 6))
        return deep / shallow


PROMISES = (
    Promise("deep_norm", "sgd", 0.8, 1.2, "2203.00555, section 4: Θ(η) at any depth"),
    Promise("post_norm", "sgd", 20.0, np.inf, "2203.00555, section 4: grows with the depth"),
    Promise("keel", "sign", 0.8, 1.2, "2601.19895: no decay of the skip with the depth"),
    Promise("deep_norm", "sign", 3.0, 5.0, "the root of the depth, √16, under signs"),
    Promise("sub_ln", "gradient", 0.0, 1.2, "2210.06423: no growth with the depth"),
    Promise(
        "res_post_norm without query and key norms",
        "gradient",
        1e4,
        np.inf,
        "2111.09883: logits grow with the stream",
    ),
)


def page() -> str:
    """docs/update_law.md."""
    figures = {"sgd": "gradient step", "sign": "sign step", "gradient": "gradient norm"}
    columns = [
        (f"{words}, {depth} layers", depth, figure)
        for figure, words in figures.items()
        for depth in DEPTHS
    ]
    lines = [
        "# How far one step moves a model",
        "",
        "Made by `python scripts/update_law.py`, whose first lines say what is measured.",
        "",
        "| placement | " + " | ".join(name for name, _, _ in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for row, (variant, change) in ROWS.items():
        cells = [f"{measure(variant, depth, change)[figure]:.2g}" for _, depth, figure in columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines += [
        "",
        "What the papers lead one to expect of the ratio at 96 layers over that at 6:",
        "",
        "| placement | figure | expected | measured | source |",
        "|---|---|---|---|---|",
    ]
    for promise in PROMISES:
        upper = "" if np.isinf(promise.most) else f" … {promise.most:g}"
        wanted = f"{promise.least:g}{upper}" if upper else f"above {promise.least:g}"
        lines.append(
            f"| {promise.row} | {promise.figure} | {wanted} | {promise.ratio():.3g} | "
            f"{promise.source} |"
        )
    return "\n".join([*lines, ""])


def _with_sites(placement: Placement, **changes: Any) -> Placement:
    stacks = tuple(
        (
            name,
            dataclasses.replace(
                stack,
                layers=tuple(
                    tuple(dataclasses.replace(site, **changes) for site in layer)
                    for layer in stack.layers
                ),
            ),
        )
        for name, stack in placement.stacks
    )
    return dataclasses.replace(placement, stacks=stacks)


def main() -> int:
    PAGE.write_text(page())
    print(PAGE.read_text())
    broken = [p for p in PROMISES if not p.least <= p.ratio() <= p.most]
    for promise in broken:
        print(f"does not hold: {promise}")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
