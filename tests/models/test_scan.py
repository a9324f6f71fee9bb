"""One compiled layer, every layer by itself, and every rematerialisation: the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.variants.registry import list_variants


def assert_close(got: Any, want: Any, tolerance: float) -> None:
    """Leaf by leaf, relative to its largest number (or 0.01: some gradients are 0 by nature)."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        scale = max(float(np.abs(b).max()), 1e-2)
        np.testing.assert_allclose(a, b, atol=tolerance * scale)


# One block of equal layers, and two blocks. The matrix has every variant, as tests compile; these
# run under XLA's optimisation as well.
@pytest.mark.optimized
@pytest.mark.parametrize("name", ["post_norm", "mix_norm(fraction=0.5)"])
def test_scanned_layers_are_the_unrolled_layers(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    scanned, unrolled = tiny(name), tiny(name, unroll=True)
    assert_close(scanned.run(scanned.params, ids), unrolled.run(scanned.params, ids), 1e-5)


def gradient(case: Any, ids: jax.Array, key: jax.Array | None = None) -> Any:
    @jax.jit
    def run(params: dict[str, Any]) -> jax.Array:
        model = weight.bind(case.model, params)
        logits = jax.nn.log_softmax(model(ids, dropout_key=key))
        return -jnp.take_along_axis(logits[:, :-1], ids[:, 1:, None], -1).mean()

    return jax.value_and_grad(run)(case.params)


@pytest.mark.parametrize(
    "name", [pytest.param("post_norm", marks=pytest.mark.slow), "mix_norm(fraction=0.5)"]
)
def test_rematerialisation_and_unrolling_keep_every_gradient(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    # With dropout on, so that a mask drawn again must be the same mask.
    rates = {"dropout": 0.2, "attention_dropout": 0.2, "stochastic_depth": 0.3}
    key = jax.random.key(3)
    want = gradient(tiny(name, remat="none", **rates), ids, key)
    for changes in ({"remat": "selective"}, {"remat": "full"}, {"unroll": True}):
        assert_close(gradient(tiny(name, **changes, **rates), ids, key), want, 2e-5)


# Every eighth variant: six steps of the matrix move every weight of all of them.
@pytest.mark.slow
@pytest.mark.parametrize("name", list_variants()[::8])
def test_every_weight_of_every_variant_gets_a_finite_gradient(
    name: str, tiny: Callable[..., Any], ids: jax.Array
) -> None:
    case = tiny(name)
    loss, gradients = gradient(case, ids)
    assert np.isfinite(loss)
    moved = weight.map_weights(
        lambda declared, g: (declared, float(jnp.abs(g).max())), case.weights, gradients
    )
    for declared, largest in jax.tree.leaves(moved, is_leaf=lambda leaf: isinstance(leaf, tuple)):
        assert np.isfinite(largest)
        # A shift of all keys moves no softmax: that gradient is 0 by nature.
        if (declared.role, declared.kind) != ("k", "bias"):
            assert largest > 0.0, declared
