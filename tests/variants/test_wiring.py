"""One sublayer of every plain variant, some with options, against its formula in numpy."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import weight
from zoo.layers.norms import NormKind
from zoo.variants.registry import get_variant
from zoo.variants.residual import Residual

WIDTH, LAYERS, EPS = 6, 8, 1e-3
MIX = np.random.default_rng(0).normal(size=(WIDTH, WIDTH))

Array = np.ndarray
Function = Callable[[Array], Array]


def branch(x: Array) -> Array:
    return np.tanh(x @ MIX)


def jax_branch(x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ jnp.asarray(MIX, x.dtype))


# Each reads `f`, the norms n["norm_in"] ... and the learned multipliers m["branch"] ...
Formula = Callable[[Array, Function, dict[str, Function], dict[str, Array]], Array]
FORMULAE: dict[tuple[str, int], Formula] = {
    ("post_norm", 0): lambda x, f, n, m: n["norm_out"](x + f(x)),
    ("pre_norm", 0): lambda x, f, n, m: x + f(n["norm_in"](x)),
    ("deep_norm", 0): lambda x, f, n, m: n["norm_out"](16**0.25 * x + f(x)),
    ("deep_norm(p=0.5)", 3): lambda x, f, n, m: n["norm_out"](4.0 * x + f(x)),
    ("sub_ln", 0): lambda x, f, n, m: x + f(n["norm_in"](x)),
    ("sandwich_norm", 0): lambda x, f, n, m: x + n["norm_branch"](f(n["norm_in"](x))),
    ("peri_norm", 0): lambda x, f, n, m: x + n["norm_branch"](f(n["norm_in"](x))),
    ("res_post_norm", 0): lambda x, f, n, m: x + n["norm_branch"](f(x)),
    ("rezero", 0): lambda x, f, n, m: x + m["branch"] * f(x),
    ("mix_norm", 0): lambda x, f, n, m: n["norm_out"](x + f(x)),
    ("mix_norm", 1): lambda x, f, n, m: n["norm_out"](x + f(x)),
    ("mix_norm", 2): lambda x, f, n, m: x + f(n["norm_in"](x)),
    ("mix_norm", 7): lambda x, f, n, m: x + f(n["norm_in"](x)),
}


def norm_by_hand(kind: NormKind, params: dict[str, Array]) -> Function:
    def norm(x: Array) -> Array:
        if kind == "layer_norm":
            x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
        return x * params["gain"] + params.get("bias", 0.0)

    return norm


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize(("spec", "layer"), FORMULAE)
def test_sublayer_is_its_formula(spec: str, layer: int, kind: NormKind) -> None:
    residual = Residual(
        spec, num_layers=LAYERS, d_model=WIDTH, layer=layer, sublayer="mlp", norm=kind, eps=EPS
    )
    # Every gain, bias and learned multiplier gets a value of its own.
    rng = np.random.default_rng(1)
    shapes, weights = weight.split(residual.access)
    params = jax.tree.map(lambda a: rng.normal(1.0, 0.3, a.shape), shapes)
    residual.access = weight.bind(
        residual.access, jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    )
    norms = {k: norm_by_hand(kind, v) for k, v in params.items() if isinstance(v, dict)}
    learned = {k: v for k, v in params.items() if not isinstance(v, dict)}
    x = rng.normal(size=(2, 3, WIDTH))
    want = FORMULAE[spec, layer](x, branch, norms, learned)
    got = residual(jnp.asarray(x, jnp.float32), jax_branch)
    np.testing.assert_allclose(got, want, atol=3e-6)
    assert all(w.role == name for name, w in weights.items() if name in learned)


def test_every_slot_and_multiplier_of_a_site_is_in_the_formula() -> None:
    # A slot that a formula above leaves out would have made it fail; one that the
    # variant lacks would have raised KeyError. What is left: the ends of the stack.
    ends = {name: get_variant(name) for name, _ in FORMULAE}
    final = {name.partition("(")[0]: variant.final_norm for name, variant in ends.items()}
    assert final == {
        "post_norm": "forbidden",
        "pre_norm": "required",
        "deep_norm": "forbidden",
        "sub_ln": "required",
        "sandwich_norm": "required",
        "peri_norm": "required",
        "res_post_norm": "required",
        "rezero": "free",
        "mix_norm": "required",
    }
    assert get_variant("peri_norm").embedding_norm == "required"
    assert get_variant("sandwich_norm").embedding_norm == "forbidden"


@pytest.mark.parametrize("spec", ["sandwich_norm", "peri_norm", "res_post_norm"])
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_a_normed_branch_has_the_size_of_its_gain_for_every_token(spec: str, gain: float) -> None:
    residual = Residual(
        spec, num_layers=2, d_model=64, norm="rms_norm", eps=1e-12, sublayer="mlp", layer=0
    )
    params, _ = weight.split(residual.access)
    params["norm_branch"]["gain"] = jnp.full(64, gain)
    residual.access = weight.bind(residual.access, params)
    x = jax.random.normal(jax.random.key(0), (2, 5, 64))
    scale = jnp.asarray([1e-3, 1.0, 1e3, 5.0, 0.1])[None, :, None]  # of the raw branch
    added = residual(x, lambda y: scale * jnp.sin(3 * y)) - x
    rms = jnp.sqrt(jnp.mean(added**2, axis=-1))
    np.testing.assert_allclose(rms, gain, rtol=1e-4)


def test_rezero_adds_nothing_at_first() -> None:
    residual = Residual("rezero", num_layers=3, d_model=WIDTH)
    x = jax.random.normal(jax.random.key(0), (1, 2, WIDTH))
    np.testing.assert_array_equal(residual(x, jax_branch), x)
