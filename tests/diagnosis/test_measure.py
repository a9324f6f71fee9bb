"""`zoo.diagnose`: figures of sublayers and weights against plain gradients, optax and numpy."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from zoo.diagnosis.report import Diagnosis, SublayerFigures, WeightFigures
from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, build
from zoo.training.optim_config import OptimConfig

DEPTH = 3
ADAM = OptimConfig(lr=1e-2, weight_decay=0.1, beta1=0.8, beta2=0.9, clip_norm=0.5)
IDS = jax.random.randint(jax.random.key(3), (2, 7), 0, 11)


def tiny(**choices: Any) -> Transformer:
    fields = {"d_model": 8, "num_layers": DEPTH, "num_heads": 2, "max_length": 8, "vocab_size": 11}
    # Two structures of layers: one block of the scan has the first, another the rest.
    config = ModelConfig(**({"variant": "mix_norm(fraction=0.4)"} | fields | choices))
    return build(config, jax.random.key(0))


@functools.cache
def model() -> Transformer:
    return tiny()


@functools.cache
def diagnosis() -> Diagnosis:
    return zoo.diagnose(model(), IDS, optim=ADAM)


@functools.cache
def gradient() -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, gradient of the mean loss) of the same model without a scan, by layer."""
    params = weight.split(model())[0]
    loose = tiny(unroll=True, remat="none")

    def loss(params: dict[str, Any]) -> jax.Array:
        logits = weight.bind(loose, params)(IDS[:, :-1])
        own = optax.softmax_cross_entropy_with_integer_labels(logits, IDS[:, 1:])
        return jnp.mean(own)

    return params, jax.jit(jax.grad(loss))(params)


def by_layer(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """Per layer the arrays of its sublayers: layer 0 is a block, 1 and 2 are the next."""
    blocks = tree["stack"]["blocks"]
    cut = [
        jax.tree.map(lambda array, at=at: np.asarray(array)[at], blocks[block]["layers"]["0"])
        for block, at in (("0", 0), ("1", 0), ("1", 1))
    ]
    return [layer["sublayers"] for layer in cut]


def norm(*arrays: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(a, np.float64))) for a in arrays)))


def test_gradient_norms_are_those_of_an_unrolled_model() -> None:
    grads = by_layer(gradient()[1])
    for layer, (attention, mlp) in enumerate((own["0"], own["1"]) for own in grads):
        own, other = (s for s in diagnosis().sublayers if s.layer == layer)
        assert (own.sublayer, other.sublayer) == ("self_attention", "mlp")
        # float32 sums in another order.
        assert own.grad_norm == pytest.approx(norm(*jax.tree.leaves(attention)), rel=1e-4)
        assert other.grad_norm == pytest.approx(norm(*jax.tree.leaves(mlp)), rel=1e-4)
        for role in "qkvo":
            (found,) = diagnosis().of(role=role, kind="matrix", layer=layer)
            want = norm(attention["branch"][role]["kernel"])
            assert found.grad_norm == pytest.approx(want, rel=1e-4)
    whole = norm(*jax.tree.leaves(gradient()[1]))
    assert diagnosis().grad_norm == pytest.approx(whole, rel=1e-4)
    assert norm(*(w.grad_norm for w in diagnosis().weights)) == pytest.approx(whole, rel=1e-4)


def test_an_update_ratio_is_what_optax_does_to_the_layer() -> None:
    params, grads = gradient()
    scale = min(1.0, 0.5 / norm(*jax.tree.leaves(grads)))
    assert scale < 1.0  # the clipping is seen
    for layer in range(DEPTH):
        own, g = by_layer(params)[layer]["0"]["branch"], by_layer(grads)[layer]["0"]["branch"]
        kernels = {role: own[role]["kernel"] for role in "qkvo"}
        transform = optax.adamw(1e-2, b1=0.8, b2=0.9, eps=1e-8, weight_decay=0.1)
        clipped = {role: scale * g[role]["kernel"] for role in "qkvo"}
        updates, _ = transform.update(clipped, transform.init(kernels), kernels)
        # The step is read off new minus old weights of about 0.3: 1e-7 of rounding in 1e-2.
        for role in "qkvo":
            (found,) = diagnosis().of(role=role, kind="matrix", layer=layer)
            want = norm(updates[role]) / norm(kernels[role])
            assert found.update_ratio == pytest.approx(want, rel=1e-3)
        (attention,) = (
            s for s in diagnosis().sublayers if (s.layer, s.sublayer) == (layer, "self_attention")
        )
        want = norm(*updates.values()) / norm(*kernels.values())
        assert attention.update_ratio == pytest.approx(want, rel=1e-3)


def test_the_optimizer_goes_on_from_a_given_state() -> None:
    params, grads = gradient()
    scale = min(1.0, 0.5 / norm(*jax.tree.leaves(grads)))
    shifted = jax.tree.map(lambda g: 3.0 * jnp.roll(g, 1), grads)
    _, held = optax.scale_by_adam(0.8, 0.9, 1e-8).update(
        shifted, optax.scale_by_adam(0.8, 0.9, 1e-8).init(params), params
    )
    found = zoo.diagnose(model(), IDS, optim=ADAM, opt_state=held)
    direction, _ = optax.scale_by_adam(0.8, 0.9, 1e-8).update(
        jax.tree.map(lambda g: scale * g, grads), held, params
    )
    kernel, table = direction["head"]["kernel"], params["head"]["kernel"]
    (head,) = found.of(role="head")
    want = norm(1e-2 * (kernel + 0.1 * table)) / norm(table)
    assert head.update_ratio == pytest.approx(want, rel=1e-3)
    assert head.update_ratio != pytest.approx(diagnosis().of(role="head")[0].update_ratio, rel=0.01)


def test_loss_and_tokens_are_those_of_the_batch() -> None:
    logits = np.asarray(model()(IDS[:, :-1]), np.float64)
    nats = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(
        logits, np.asarray(IDS[:, 1:, None]), -1
    ).squeeze(-1)
    assert diagnosis().loss == pytest.approx(nats.mean(), rel=1e-5)
    assert (diagnosis().tokens, diagnosis().learning_rate) == (12, 1e-2)


def test_several_batches_count_as_one_large_one() -> None:
    both = zoo.diagnose(
        model(),
        [
            {"inputs": ids[:-1][None], "targets": ids[1:][None], "mask": jnp.ones((1, 6), bool)}
            for ids in IDS
        ],
        optim=ADAM,
    )
    assert both.loss == pytest.approx(diagnosis().loss, rel=1e-5)
    for one, other in zip(both.sublayers, diagnosis().sublayers, strict=True):
        # The mean square over both halves is that over the whole; float32 sums differ.
        assert one.stream_rms == pytest.approx(other.stream_rms, rel=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)


def test_a_frozen_role_does_not_move() -> None:
    found = zoo.diagnose(model(), IDS, optim=OptimConfig(lr=1e-2, freeze=("w1",)))
    assert {w.update_ratio for w in found.of(role="w1", kind="matrix")} == {0.0}
    assert all(w.update_ratio > 0.0 for w in found.of(role="w2", kind="matrix"))


def test_table_picture_and_json_hold_every_sublayer(tmp_path: Path) -> None:
    table = diagnosis().table()
    assert str(diagnosis()) == table
    assert sum("self_attention" in line or "mlp" in line for line in table.splitlines()) == 6
    assert "final_norm" in table
    path = diagnosis().plot(tmp_path / "out" / "depth.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    data = json.loads(json.dumps(diagnosis().to_json()))
    assert SublayerFigures(**data["sublayers"][0]) == diagnosis().sublayers[0]
    ratios = {w.pop("update_ratio") for w in data["weights"] if w["role"] == "head"}
    assert ratios == {diagnosis().of(role="head")[0].update_ratio}
    assert tuple(WeightFigures(**w) for w in data["weights"] if "update_ratio" not in w) == tuple(
        diagnosis().of(role="head")
    )


def test_figures_that_are_not_finite_are_said_and_drawn(tmp_path: Path) -> None:
    params, _ = weight.split(model())
    blocks = params["stack"]["blocks"]
    broken = blocks["1"]["layers"]["0"]["sublayers"]["1"]["branch"]["w2"]["kernel"]
    blocks["1"]["layers"]["0"]["sublayers"]["1"]["branch"]["w2"]["kernel"] = broken.at[0].set(
        jnp.inf
    )
    found = zoo.diagnose(weight.bind(model(), params), IDS, optim=ADAM)
    assert [s.finite for s in found.sublayers] == [True] * 3 + [False] * 3
    assert "nan" in found.table()
    found.plot(tmp_path / "broken.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": IDS[0]}, r"batch of shape \(7,\)"),
        ({"batch": IDS[:, :1]}, "2 or more"),
        ({"batch": {"input_ids": IDS}}, "batch lacks 'inputs'.*it has input_ids"),
        ({"batch": []}, "batch is an empty list"),
        ({"task": "masked_lm"}, "masked_lm.*use language_model"),
        ({"task": "language_modl"}, "did you mean language_model"),
    ],
)
def test_what_does_not_go_with_the_model_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        zoo.diagnose(**({"model": model(), "batch": IDS} | arguments))
