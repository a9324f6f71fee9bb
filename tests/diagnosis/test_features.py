"""`zoo.features`: arrays of every sublayer, held to the model's own equations in numpy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.models.config import ModelConfig
from zoo.models.transformer import Transformer, build

DEPTH, WIDTH, HEADS = 2, 8, 2
IDS = jnp.arange(12).reshape(2, 6) % 11


def tiny(**choices: Any) -> Transformer:
    """Its layers are run one by one, so that nothing is compiled for it alone."""
    config = ModelConfig(
        **{
            "d_model": WIDTH,
            "num_layers": DEPTH,
            "num_heads": HEADS,
            "unroll": True,
            "remat": "none",
        }
        | choices
    )
    return build(config, jax.random.key(0))


def text_model(variant: str, **choices: Any) -> Transformer:
    return tiny(variant=variant, vocab_size=11, max_length=8, **choices)


def layer_norm(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def test_the_stream_of_pre_norm_is_the_sum_of_the_branches_before_it() -> None:
    model = text_model("pre_norm")
    found = zoo.features(model, IDS)
    assert found["stream"].shape == found["branch"].shape == (DEPTH, 2, 2, 6, WIDTH)
    x = np.asarray(model.embedding(IDS, jnp.arange(6)[None]), np.float64)
    sums = x + np.cumsum(np.asarray(found["branch"], np.float64).reshape(-1, *x.shape), axis=0)
    np.testing.assert_allclose(np.asarray(found["stream"]).reshape(sums.shape), sums, atol=1e-5)
    np.testing.assert_allclose(found["hidden"], layer_norm(sums[-1]), atol=1e-5)


def test_the_stream_of_post_norm_is_normed_after_every_add() -> None:
    model = text_model("post_norm")
    found = zoo.features(model, IDS)
    stream, branch = (np.asarray(found[name], np.float64) for name in ("stream", "branch"))
    x = np.asarray(model.embedding(IDS, jnp.arange(6)[None]), np.float64)
    for layer in range(DEPTH):
        for sublayer in range(2):
            x = layer_norm(x + branch[layer, sublayer])
            np.testing.assert_allclose(stream[layer, sublayer], x, atol=1e-5)
    np.testing.assert_array_equal(found["hidden"], found["stream"][-1, -1])


def test_diagnose_reports_the_sizes_of_the_features() -> None:
    model = text_model("deep_norm")
    found = zoo.features(model, IDS[:, :-1])
    stream, branch = (np.asarray(found[name], np.float64) for name in ("stream", "branch"))
    size = np.sqrt((stream**2).mean((2, 3, 4))), np.sqrt((branch**2).mean((2, 3, 4)))
    figures = zoo.diagnose(model, IDS).sublayers
    for index, each in enumerate(figures):
        place = divmod(index, 2)
        assert (each.layer, each.sublayer) == (place[0], ("self_attention", "mlp")[place[1]])
        # float32 sums against float64 ones.
        assert each.stream_rms == pytest.approx(size[0][place], rel=1e-5)
        assert each.branch_rms == pytest.approx(size[1][place], rel=1e-5)
        # DeepNorm's skip is alpha times what the sublayer before left behind.
        if index:
            skip = (2 * DEPTH) ** 0.25 * size[0][divmod(index - 1, 2)]
            assert each.branch_skip_ratio == pytest.approx(size[1][place] / skip, rel=1e-5)


def attention_by_hand(model: Transformer, x: np.ndarray, layer: int) -> np.ndarray:
    """[batch, heads, length, length] of a decoder, from what its attention reads."""
    own = model.stack.blocks[0].layers[0].sublayers[0].branch

    def heads(name: str) -> np.ndarray:
        linear = getattr(own, name)
        y = x @ np.asarray(linear.kernel[...][layer], np.float64)
        y = y + np.asarray(linear.bias[...][layer], np.float64)
        return y.reshape(*y.shape[:-1], HEADS, -1).swapaxes(1, 2)

    scores = heads("q") @ heads("k").swapaxes(-1, -2) / np.sqrt(WIDTH / HEADS)
    scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def test_attention_weights_are_the_softmax_of_each_layer() -> None:
    model = text_model("post_norm")
    found = zoo.features(model, IDS, attention=True)
    maps = np.asarray(found["attention"]["self_attention"])
    assert maps.shape == (DEPTH, 2, HEADS, 6, 6)
    reads = [
        np.asarray(model.embedding(IDS, jnp.arange(6)[None])),
        np.asarray(found["stream"][0, 1]),
    ]
    for layer, x in enumerate(reads):
        want = attention_by_hand(model, np.asarray(x, np.float64), layer)
        np.testing.assert_allclose(maps[layer], want, atol=1e-6)
    entropy = -np.sum(maps * np.log(np.maximum(maps, 1e-30)), axis=-1).mean((1, 2, 3))
    ids = jnp.concatenate([IDS, IDS[:, :1]], axis=1)
    figures = zoo.diagnose(model, ids, attention=True).sublayers
    assert [each.attention_entropy for each in figures] == [
        pytest.approx(entropy[0], rel=1e-5),
        None,
        pytest.approx(entropy[1], rel=1e-5),
        None,
    ]


def test_an_encoder_decoder_has_features_of_both_stacks() -> None:
    model = text_model("deep_norm", architecture="encoder_decoder")
    found = zoo.features(model, IDS, IDS[:, :4], attention=True)
    assert found["encoder"]["stream"].shape == (DEPTH, 2, 2, 6, WIDTH)
    assert found["decoder"]["branch"].shape == (DEPTH, 3, 2, 4, WIDTH)
    assert found["hidden"].shape == (2, 4, WIDTH)
    across = found["decoder"]["attention"]["cross_attention"]
    assert across.shape == (DEPTH, 2, HEADS, 4, 6)
    np.testing.assert_allclose(across.sum(-1), 1.0, atol=1e-6)
    assert set(found["encoder"]["attention"]) == {"self_attention"}


def batch_of(architecture: str) -> dict[str, Any]:
    """A batch of the first task that an architecture can learn."""
    mask = jnp.ones((2, 5), bool)
    match architecture:
        case "encoder":
            return {"inputs": IDS[:, :5], "targets": IDS[:, :5], "mask": mask}
        case "encoder_decoder":
            return {
                "inputs": IDS,
                "attention_mask": jnp.ones_like(IDS, bool),
                "decoder_inputs": IDS[:, :5],
                "targets": IDS[:, 1:],
                "mask": mask,
            }
        case _:
            pixels = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
            return {"pixel_values": pixels, "targets": jnp.asarray([0, 1]), "mask": mask[:, 0]}


@pytest.mark.parametrize("architecture", ["encoder", "encoder_decoder", "vision"])
def test_every_architecture_is_diagnosed(architecture: str) -> None:
    sizes = {"image_size": 8, "patch_size": 4} if architecture == "vision" else {"vocab_size": 11}
    model = tiny(variant="deep_norm", architecture=architecture, **sizes)
    found = zoo.diagnose(model, batch_of(architecture))
    places = [(each.stack, each.layer, each.sublayer) for each in found.sublayers]
    assert places == [
        (stack, layer, site.sublayer)
        for stack, placement in model.placement.stacks
        for layer, sites in enumerate(placement.layers)
        for site in sites
    ]
    assert all(each.grad_norm > 0.0 and each.update_ratio > 0.0 for each in found.sublayers)
    assert all(each.finite for each in found.sublayers)
