"""Vocabulary resize: old rows stay, new ones stand at the mean."""

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
from zoo.errors import ConfigError
from zoo.layers import weight

IDS = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 9)), jnp.int32)


def model(architecture: str = "decoder", **settings: Any) -> Any:
    small = {"d_model": 16, "num_layers": 1, "num_heads": 2, "rngs": 0}
    made = zoo.create_model(f"{architecture}-tiny", **(small | settings))
    params, _ = weight.split(made)
    # Zero biases would say nothing of theirs.
    noise = iter(range(10_000))
    return weight.bind(
        made,
        jax.tree.map(
            lambda a: a + 0.3 * jax.random.normal(jax.random.key(next(noise)), a.shape), params
        ),
    )


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("decoder", {"head_bias": True}),
        ("decoder", {"tie_embeddings": True}),
        ("encoder", {"tie_embeddings": True}),
        pytest.param("encoder", {}, marks=pytest.mark.slow),
        pytest.param("encoder-decoder", {"share_embeddings": False}, marks=pytest.mark.slow),
    ],
)
def test_old_words_keep_their_logits_and_new_ones_get_the_mean(
    architecture: str, settings: dict[str, Any]
) -> None:
    before = model(architecture, **settings)
    after = zoo.resize_vocabulary(before, 260)
    given = {"decoder_input_ids": IDS} if architecture == "encoder-decoder" else {}
    old, new = (np.asarray(each(IDS, **given)) for each in (before, after))
    assert new.shape == (2, 9, 260)
    np.testing.assert_allclose(new[..., :256], old, atol=1e-5)
    # The draw is 3e-5 of the rows' own spread.
    np.testing.assert_allclose(
        new[..., 256:], np.broadcast_to(old.mean(-1, keepdims=True), (2, 9, 4)), atol=2e-3
    )


def test_new_rows_follow_the_seed_and_old_ones_are_equal_to_the_bit() -> None:
    before = model()
    tables = [
        np.asarray(zoo.resize_vocabulary(before, 300, seed=seed).embedding.tokens[...])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(tables[0], tables[1])
    np.testing.assert_array_equal(tables[0][:256], before.embedding.tokens[...])
    assert np.abs(tables[0][256:] - tables[2][256:]).min() > 0
    # Of the covariance of the old ones: 1e-9 of their variance, within a third for 44 rows.
    spread = np.std(tables[0][256:] - tables[0][:256].mean(0), axis=0)
    ratio = np.mean(spread**2) / np.mean(np.var(tables[0][:256], axis=0))
    assert 0.6e-9 < ratio < 1.6e-9


def test_words_of_the_sphere_stay_on_it() -> None:
    made = zoo.create_model("decoder-tiny", variant="ngpt", d_model=16, num_layers=1, rngs=0)
    table = np.asarray(zoo.resize_vocabulary(made, 260).embedding.tokens[...])
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1.0, atol=1e-5)


def test_shrinking_is_refused_unless_asked_and_ids_stay_inside() -> None:
    before = model(pad_id=100)
    with pytest.raises(ConfigError, match=r"vocab_size = 200 .* 56 of 256"):
        zoo.resize_vocabulary(before, 200)
    small = zoo.resize_vocabulary(before, 200, shrink=True)
    np.testing.assert_array_equal(small.embedding.tokens[...], before.embedding.tokens[...][:200])
    with pytest.raises(ConfigError, match=r"pad_id = 100"):
        zoo.resize_vocabulary(before, 100, shrink=True)
    with pytest.raises(ConfigError, match="no vocabulary"):
        zoo.resize_vocabulary(zoo.create_model("vision-tiny", rngs=0), 100)


@pytest.mark.parametrize("case", ["bert_masked_lm", "marian"])
def test_a_resized_checkpoint_is_exported_and_comes_back(case: str, tmp_path: Path) -> None:
    write(case, tmp_path / "theirs")
    before = zoo.load_pretrained(tmp_path / "theirs")
    after = zoo.resize_vocabulary(before, before.config.vocab_size + 5)
    assert zoo.save_pretrained(after, tmp_path / "ours") == before.origin.family
    again = zoo.load_pretrained(tmp_path / "ours")
    assert again.config == after.config
    jax.tree.map(np.testing.assert_array_equal, weight.split(again)[0], weight.split(after)[0])


def test_a_changed_model_keeps_the_rules_of_its_checkpoint(tmp_path: Path) -> None:
    write("gpt2", tmp_path)
    prompt = jnp.asarray([[6, 7, 8]])
    written = zoo.generate(zoo.load_pretrained(tmp_path), prompt, max_new_tokens=1)
    likeliest = int(written[0, -1])
    (tmp_path / "generation_config.json").write_text(f'{{"suppress_tokens": [{likeliest}]}}')
    before = zoo.load_pretrained(tmp_path)
    for after in (
        before,
        zoo.resize_vocabulary(before, before.config.vocab_size + 5),
        zoo.change_variant(before, "pre_norm").model,
    ):
        assert int(zoo.generate(after, prompt, max_new_tokens=1)[0, -1]) != likeliest


def test_a_padding_token_without_a_row_is_not_written(tmp_path: Path) -> None:
    write("llama", tmp_path / "a")
    file = tmp_path / "a" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token_id": 47}))
    before = zoo.load_pretrained(tmp_path / "a")
    for rows, written in ((47, None), (48, 47)):
        small = zoo.resize_vocabulary(before, rows, shrink=True)
        assert zoo.save_pretrained(small, tmp_path / "b") == "llama"
        # Transformers cannot make an embedding whose padding row is beyond it.
        assert json.loads((tmp_path / "b" / "config.json").read_text())["pad_token_id"] == written
