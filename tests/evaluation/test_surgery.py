"""Surgery: what is exact is exact, the rest says how far it moved, and nonsense is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.hf.test_families import write
from tests.word_pieces import write_tokenizer
from zoo.cli import main
from zoo.errors import VariantError
from zoo.layers import weight
from zoo.models.transformer import Transformer

IDS = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 9)), jnp.int32)
MASK = jnp.asarray([[1] * 9, [1] * 5 + [0] * 4])
BATCH = {"input_ids": IDS, "attention_mask": MASK}


def trained(variant: str, kind: str = "encoder", **settings: Any) -> Transformer:
    """A model whose every gain, bias and multiplier has moved off its start."""
    small = {"num_layers": 2, "d_model": 16, "num_heads": 2, "rngs": 0}
    model = zoo.create_model(f"{kind}-tiny", variant=variant, **(small | settings))
    params, _ = weight.split(model)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noised = [a + 0.2 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return weight.bind(model, jax.tree.unflatten(tree, noised))


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


# What has the same function somewhere among its weights: (from, to, settings of the model).
EXACT: list[Any] = [
    # Only the proportion of skip and branch counts before a norm.
    ("post_norm", "deep_norm", {}),
    slow("deep_norm", "post_norm", {"norm": "rms_norm"}),
    ("post_norm", "admin", {}),
    slow("post_norm", "deep_scale_lm", {"embedding_norm": True}),
    slow("post_norm", "deep_norm", {"kind": "encoder-decoder"}),
    # N_out behind a sublayer is a norm before the next whose output the skip takes too.
    ("post_norm", "minimax_post_norm", {"embedding_norm": True}),
    ("minimax_post_norm", "post_norm", {"norm": "offset_rms_norm"}),
    slow("minimax_post_norm(attention=(2.0, 1.0), mlp=(1.0, 0.5))", "deep_norm", {}),
    # Constants on the branch, on the norm's output, on scores and logits.
    ("pre_norm", "scaled_residual", {}),
    slow("scaled_residual", "pre_norm", {"layout": "parallel", "kind": "decoder"}),
    slow("pre_norm", "layer_norm_scaling", {"norm": "offset_rms_norm"}),
    slow("pre_norm", "complete_p", {"kind": "decoder"}),
    slow("pre_norm", "layer_scale", {}),
    ("layer_scale", "pre_norm", {}),
    slow("pre_norm", "gpas", {"kind": "vision"}),
    slow("peri_norm", "beam_norm", {}),
]


@pytest.mark.parametrize(("before", "after", "settings"), EXACT)
def test_the_same_function_is_found_where_there_is_one(
    before: str, after: str, settings: dict[str, Any]
) -> None:
    model = trained(before, **settings)
    plain = model.config.architecture in ("encoder", "decoder")
    surgery = zoo.change_variant(model, after, batch=BATCH if plain else None)
    assert surgery.after.startswith(after.partition("(")[0])
    # Float32 over two layers, and epsilons that do not scale along: 1e-5 beside a variance of 1.
    assert surgery.max_change < 3e-5 * max(1.0, surgery.largest), surgery
    assert surgery.largest > 0.1
    assert not surgery.dropped
    assert all("gate" in name for name in surgery.new)


@pytest.mark.parametrize(
    ("norm", "kind"), [("layer_norm", "encoder"), slow("offset_rms_norm", "encoder-decoder")]
)
def test_gains_are_folded_into_the_matrices_that_read_them(norm: str, kind: str) -> None:
    model = trained("pre_norm", kind, norm=norm)
    surgery = zoo.change_variant(model, "pre_norm", fold_gains=True)
    assert surgery.exact, surgery
    assert "mlp norm_in into w1 (layers 0-1)" in surgery.folded
    params, weights = weight.split(surgery.model)
    for own, array in zip(jax.tree.leaves(weights), jax.tree.leaves(params), strict=True):
        if own.role == "norm_in":
            plain = 1.0 - own.offset if own.kind == "gain" else 0.0
            np.testing.assert_array_equal(array, np.full_like(array, plain))


def test_a_shift_that_no_bias_could_hold_stays_where_it_is() -> None:
    model = trained("pre_norm", bias=False)
    surgery = zoo.change_variant(model, "pre_norm", fold_gains=True)
    assert surgery.exact
    assert surgery.folded == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [("post_norm", "pre_norm"), slow("pre_norm", "post_norm"), slow("pre_norm", "peri_norm")],
)
def test_another_function_says_how_far_it_moved(before: str, after: str) -> None:
    model = trained(before, embedding_norm=True)
    surgery = zoo.change_variant(model, after, batch=BATCH)
    old, new = (np.asarray(each(**BATCH), np.float64) for each in (model, surgery.model))
    seen = np.asarray(MASK, bool)
    np.testing.assert_allclose(surgery.max_change, np.abs(new - old)[seen].max(), rtol=1e-3)
    np.testing.assert_allclose(surgery.mean_change, np.abs(new - old)[seen].mean(), rtol=1e-3)
    p, q = (np.exp(each - each.max(-1, keepdims=True)) for each in (old[seen], new[seen]))
    p, q = (each / each.sum(-1, keepdims=True) for each in (p, q))
    np.testing.assert_allclose(surgery.kl, np.mean(np.sum(p * np.log(p / q), -1)), rtol=1e-2)
    assert not surgery.exact
    assert surgery.max_change > 0.1
    assert all(change > 0 for _, change in surgery.layers)
    assert "ANOTHER FUNCTION" in str(surgery)


def test_norms_go_where_what_they_feed_has_gone() -> None:
    model = trained("post_norm", embedding_norm=True)
    surgery = zoo.change_variant(model, "pre_norm", batch=BATCH)
    assert set(surgery.moved) == {
        "embedding_norm to self_attention norm_in (layer 0)",
        "self_attention norm_out to mlp norm_in (layers 0-1)",
        "mlp norm_out to self_attention norm_in (layer 1)",
        "mlp norm_out to final_norm (layer 1)",
    }
    assert (surgery.new, surgery.dropped) == ((), ())
    np.testing.assert_array_equal(
        surgery.model.final_norm.gain[...],
        model.stack.blocks[0].layers[0].sublayers[1].residual.norm_out.gain[...][1],
    )
    back = zoo.change_variant(surgery.model, "post_norm", batch=BATCH)
    assert back.dropped == (
        "self_attention norm_in/bias (layer 0)",
        "self_attention norm_in/gain (layer 0)",
    )
    # There and back again is where it began: nothing was lost on the way.
    np.testing.assert_allclose(back.model(**BATCH), model(**BATCH), atol=1e-4)


def test_what_is_new_starts_as_the_variant_has_it() -> None:
    surgery = zoo.change_variant(trained("pre_norm"), "sub_ln", batch=BATCH)
    assert "mlp branch/inner_norm/gain (layers 0-1)" in surgery.new
    gains = surgery.model.stack.blocks[0].layers[0].sublayers[1].branch.inner_norm.gain[...]
    np.testing.assert_array_equal(gains, np.ones_like(gains))


@pytest.mark.parametrize(
    ("before", "after"),
    [("post_norm", "residual_dual"), ("hyper_connections(streams=2)", "pre_norm")],
)
def test_another_stream_is_refused(before: str, after: str) -> None:
    with pytest.raises(VariantError, match=r"cannot become .* carries the stream") as refused:
        zoo.change_variant(trained(before), after)
    assert "residual_dual" in str(refused.value) or "hyper_connections" in str(refused.value)


def test_a_checkpoint_is_operated_on_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("bert_masked_lm", tmp_path / "bert")
    write_tokenizer(tmp_path / "bert")
    words = ["--from", str(tmp_path / "bert"), "--out", str(tmp_path / "deep"), "--json"]
    with pytest.raises(SystemExit) as stop:
        main(["surgery", *words, "--variant", "deep_norm", "--vocab-size", "50"])
    assert stop.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["before"], found["after"], found["exact"]) == ("post_norm", "deep_norm", True)
    assert (found["vocab_size"], found["family"]) == (50, "postnorm_zoo")
    before, after = (zoo.load_pretrained(tmp_path / name) for name in ("bert", "deep"))
    ids = IDS % 48
    np.testing.assert_allclose(after(ids)[..., :48], before(ids), atol=2e-5)
    assert (tmp_path / "deep" / "tokenizer.json").is_file()
    with pytest.raises(SystemExit) as stop:
        main(["surgery", *words])
    assert stop.value.code == 2
