"""Encoders, encoder-decoders, vision models and switches of a layer, written out in numpy.

The forward passes below are float64 loops over layers and sublayers. They share with the library
only the Placement and the names of the parameters.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_by_hand import Array, Tree, activate, cut, linear, norm, turn
from tests.models.test_by_hand import mlp as mlp_by_hand
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.tower import text_scope
from zoo.models.transformer import Transformer, build

VOCAB, WIDTH, SOURCE, TARGET = 23, 8, 7, 5
BASE = ModelConfig(
    vocab_size=VOCAB, d_model=WIDTH, num_layers=2, num_heads=2, d_ff=12, max_length=9
)
CASES: dict[str, dict[str, Any]] = {
    "bert": {
        "architecture": "encoder",
        "embedding_norm": True,
        "embedding_scale": False,
        "type_vocab_size": 2,
        "tie_embeddings": True,
    },
    "classifier": {
        "architecture": "encoder",
        "variant": "pre_norm",
        "head": "sequence_classification",
        "num_labels": 3,
        "pooler": "tanh",
        "positions": "rotary",
        "window": 2,
        "window_pattern": "LG",
    },
    "gte": {
        "architecture": "encoder",
        "embedding_norm": True,
        "embedding_scale": False,
        "positions": "rotary",
        "gated": True,
        "mlp_input_bias": False,
        "tie_embeddings": True,
    },
    "original": {
        "architecture": "encoder_decoder",
        "num_encoder_layers": 3,
        "variant": "deep_norm",
        "positions": "sinusoidal",
        "activation": "relu",
        "tie_embeddings": True,
    },
    "modern pair": {
        "architecture": "encoder_decoder",
        "num_decoder_layers": 3,
        "variant": "pre_norm",
        "positions": "rotary",
        "norm": "rms_norm",
        "num_heads": 4,
        "num_kv_heads": 2,
        "gated": True,
        "activation": "silu",
        "bias": False,
        "window": 3,
    },
    "tied target": {
        "architecture": "encoder_decoder",
        "tie_embeddings": True,
        "share_embeddings": False,
    },
    "normed target": {
        "architecture": "encoder_decoder",
        "embedding_norm": True,
        "norm_target_tokens": True,
        "share_embeddings": True,
    },
    "t5": {
        "architecture": "encoder_decoder",
        "variant": "pre_norm",
        "norm": "rms_norm",
        "positions": "none",
        "relative_buckets": 6,
        "relative_max_distance": 5,
        "num_heads": 4,
        "num_kv_heads": 2,
        "share_embeddings": True,
        "logit_scale": 0.3,
    },
    "umt5": {
        "relative_buckets": 8,
        "relative_per_layer": True,
        "window": 3,
        "window_pattern": "LG",
    },
    "mpnet": {
        "architecture": "encoder",
        "relative_buckets": 4,
        "relative_max_distance": 4,
        "tie_embeddings": True,
        "embedding_norm": True,
        "activation": "relu",
        "head_activation": "gelu",
    },
    "vit": {
        "architecture": "vision",
        "vocab_size": None,
        "max_length": None,
        "variant": "pre_norm",
        "image_size": 6,
        "patch_size": 2,
        "num_labels": 4,
    },
    "pooled vit": {
        "architecture": "vision",
        "vocab_size": None,
        "max_length": None,
        "image_size": 6,
        "patch_size": 3,
        "num_channels": 2,
        "positions": "sinusoidal",
        "pooling": "mean",
    },
    "parallel": {
        "layout": "parallel",
        "variant": "pre_norm",
        "positions": "rotary",
        "norm_bias": False,
        "value_residual": True,
        "qk_norm": True,
    },
    "two norms": {
        "layout": "parallel",
        "parallel_norms": "separate",
        "variant": "pre_norm",
        "value_residual": True,
    },
    "capped": {
        "variant": "mix_norm(fraction=0.5)",
        "attention_softcap": 0.7,
        "logit_softcap": 1.5,
        "value_residual": True,
        "num_heads": 4,
        "num_kv_heads": 2,
        "qk_norm": True,
        "qk_norm_over": "width",
        "norm": "rms_norm",
    },
    "per head": {
        "variant": "pre_norm",
        "norm": "rms_norm",
        "qk_norm": True,
        "qk_norm_over": "per_head",
        "num_layers": 1,
    },
}


@dataclasses.dataclass(frozen=True)
class Case:
    model: Transformer
    params: Tree
    weights: Tree
    run: Callable[..., tuple[jax.Array, jax.Array]]


@functools.cache
def case(name: str) -> Case:
    """A model with all that is not drawn moved off its start; `run(inputs)` is compiled."""
    model = build(dataclasses.replace(BASE, **CASES[name]), jax.random.key(0))
    start, weights = weight.split(model)
    leaves, treedef = jax.tree.flatten(start)
    rng = np.random.default_rng(1)
    params = jax.tree.unflatten(
        treedef, [leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    )

    @jax.jit
    def run(**inputs: Any) -> tuple[jax.Array, jax.Array]:
        bound = weight.bind(model, params)
        return bound.hidden(**inputs), bound(**inputs)

    return Case(model, params, weights, run)


def inputs_of(config: ModelConfig) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    if config.architecture == "vision":
        shape = (2, config.image_size, config.image_size, config.num_channels)
        return {"pixel_values": rng.normal(size=shape).astype(np.float32)}
    inputs = {"input_ids": rng.integers(VOCAB, size=(2, SOURCE)).astype(np.int32)}
    if config.architecture != "decoder":
        inputs["attention_mask"] = np.arange(SOURCE) < np.asarray([[SOURCE], [4]])
    if config.type_vocab_size:
        inputs["token_type_ids"] = (np.arange(SOURCE) > np.asarray([[3], [1]])).astype(np.int32)
    if config.architecture == "encoder_decoder":
        inputs["decoder_input_ids"] = rng.integers(VOCAB, size=(2, TARGET)).astype(np.int32)
    return inputs


class Attention:
    """Attention of one stack by hand; it keeps the first layer's values and every softmax."""

    def __init__(self, config: ModelConfig, *, causal: bool, relative: Array | None) -> None:
        self.config, self.causal, self.relative = config, causal, relative
        self.first_values: Array | None = None
        self.maps: dict[str, list[Array]] = {}

    def __call__(
        self, kind: str, y: Array, params: Tree, seen: Array, source: Array | None, layer: int
    ) -> Array:
        config, read = self.config, y if source is None else source
        head_dim = config.d_model // config.num_heads

        def heads(x: Array) -> Array:
            return x.reshape(*x.shape[:-1], -1, head_dim).swapaxes(1, 2)

        q, k, v = (linear(x, params[n]) for x, n in ((y, "q"), (read, "k"), (read, "v")))
        wide = config.qk_norm_over == "width"
        if config.qk_norm and wide:
            q, k = (norm(x, params[n]["norm"], config) for x, n in ((q, "q_norm"), (k, "k_norm")))
        q, k, v = heads(q), heads(k), heads(v)
        if config.qk_norm and not wide:
            q, k = self._each_head(q, params["q_norm"]), self._each_head(k, params["k_norm"])
        keep = seen[:, None, None, :]
        if source is None:
            if config.value_residual:
                self.first_values = v if layer == 0 else self.first_values
                v = (v + self.first_values) / 2
            if config.positions == "rotary":
                q, k = turn(q, config.rotary_theta), turn(k, config.rotary_theta)
            distance = np.arange(y.shape[1])[:, None] - np.arange(y.shape[1])
            keep = keep & (distance >= 0) if self.causal else keep
            pattern = config.window_pattern
            if config.window is not None and pattern[layer % len(pattern)] == "L":
                keep = keep & (np.abs(distance) < config.window)
        k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(head_dim)
        if config.attention_softcap is not None:
            scores = config.attention_softcap * np.tanh(scores / config.attention_softcap)
        if source is None and config.relative_buckets:
            table = params["relative"]["table"] if config.relative_per_layer else self.relative
            reach = config.relative_max_distance
            scores = scores + relative_by_hand(distance, table, reach, causal=self.causal)
        # Finite, for padding that a window leaves with nothing to see.
        scores = np.where(keep, scores, -1e30)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        softmax = scores / scores.sum(-1, keepdims=True)
        self.maps.setdefault(kind, []).append(softmax)
        mixed = (softmax @ v).swapaxes(1, 2)
        return linear(mixed.reshape(*mixed.shape[:2], -1), params["o"])

    def _each_head(self, x: Array, params: Tree) -> Array:
        if self.config.qk_norm_over == "head":
            return norm(x, params, self.config)
        return norm(x, {}, self.config) * params["gain"][:, None, :]


def relative_by_hand(distance: Array, table: Array, reach: int, *, causal: bool) -> Array:
    """[heads, length, length], looked up pair by pair (1910.10683 and its released code)."""
    bias = np.empty((table.shape[1], *distance.shape))
    half = len(table) if causal else len(table) // 2
    for query, key in np.ndindex(distance.shape):
        apart = distance[query, key]
        first = 0 if causal or apart >= 0 else half
        apart = max(apart, 0) if causal else abs(apart)
        bucket = apart
        if apart >= half // 2:
            share = math.log(apart / (half // 2)) / math.log(reach / (half // 2))
            bucket = min(half // 2 + math.floor(share * (half - half // 2)), half - 1)
        bias[:, query, key] = table[first + bucket]
    return bias


def tower(
    case: Case,
    params: Tree,
    weights: Tree,
    x: Array,
    *,
    stack: str,
    seen: Array,
    source: Array | None = None,
    source_seen: Array | None = None,
    behind: Tree | None = None,
) -> tuple[Array, dict[str, list[Array]]]:
    """Embedding norm, layers and final norm, and the softmaxes by kind of sublayer.

    `behind` holds positions that are added to the normed embedding.
    """
    config, placement = case.model.config, case.model.placement.stack(stack)
    relative = params.get("relative", {}).get("table")
    attention = Attention(config, causal=stack == "decoder", relative=relative)
    if config.embedding_norm:
        x = norm(x, params["embedding_norm"], config)
    x = x if behind is None else placed(x, behind, config)
    layers = cut(params["stack"]["blocks"], weights["stack"]["blocks"], len(placement.layers))
    for layer, (sites, own) in enumerate(zip(placement.layers, layers, strict=True)):
        for site, part in zip(sites, own, strict=True):
            slots, f = part.get("residual", {}), part["branch"]
            apart = config.parallel_norms == "separate"
            y = norm(x, slots["norm_in"], config) if site.norm_in and not apart else x
            match site.sublayer:
                case "mlp":
                    branch = mlp_by_hand(y, f, config)
                case "cross_attention":
                    branch = attention(site.sublayer, y, f, source_seen, source, layer)
                case "parallel":
                    for_mlp = norm(x, f["mlp_norm"], config) if apart else y
                    y = norm(x, f["attention_norm"], config) if apart else y
                    branch = attention(site.sublayer, y, f["attention"], seen, None, layer)
                    branch = branch + mlp_by_hand(for_mlp, f["mlp"], config)
                case _:
                    branch = attention(site.sublayer, y, f, seen, None, layer)
            x = site.skip.value * x + site.branch.value * branch
            x = norm(x, slots["norm_out"], config) if site.norm_out else x
    return (norm(x, params["final_norm"], config) if config.final_norm else x), attention.maps


def placed(x: Array, params: Tree, config: ModelConfig) -> Array:
    if config.positions == "learned":
        return x + params["table"][: x.shape[1]]
    if config.positions == "sinusoidal":
        places = np.arange(x.shape[1])[:, None]
        angles = places / 10000 ** (np.arange(0, WIDTH, 2) / WIDTH)
        return x + np.stack([np.sin(angles), np.cos(angles)], -1).reshape(x.shape[1], -1)
    return x


def embedded(ids: Array, table: Array, params: Tree, config: ModelConfig) -> Array:
    scale = math.sqrt(WIDTH) if config.embedding_scale else 1.0
    return placed(scale * table[ids], params, config)


def pair_by_hand(case: Case, params: Tree, inputs: dict[str, Any]) -> tuple[Array, Array, Any]:
    config, weights, seen = case.model.config, case.weights, inputs["attention_mask"]
    source_table = params["embedding"]["tokens"]
    target = params.get("decoder_embedding", {})  # without weights where all is shared
    source, encoder_maps = tower(
        case,
        params["encoder"],
        weights["encoder"],
        embedded(inputs["input_ids"], source_table, params["embedding"], config),
        stack="encoder",
        seen=seen,
    )
    ids, table = inputs["decoder_input_ids"], target.get("tokens", source_table)
    alone = config.norm_target_tokens
    hidden, decoder_maps = tower(
        case,
        params["decoder"],
        weights["decoder"],
        table[ids] if alone else embedded(ids, table, target, config),
        stack="decoder",
        seen=np.ones(ids.shape, bool),
        source=source,
        source_seen=seen,
        behind=target if alone else None,
    )
    head = table.T if config.tie_embeddings else params["head"]["kernel"]
    return (
        hidden,
        config.logit_scale * (hidden @ head),
        {"encoder": encoder_maps, "decoder": decoder_maps},
    )


def text_by_hand(case: Case, params: Tree, inputs: dict[str, Any]) -> tuple[Array, Array, Any]:
    config, ids, table = case.model.config, inputs["input_ids"], params["embedding"]["tokens"]
    x = embedded(ids, table, params["embedding"], config)
    if config.type_vocab_size:
        types = inputs.get("token_type_ids", np.zeros_like(ids))
        x = x + params["embedding"]["types"][types]
    seen = inputs.get("attention_mask", np.ones(ids.shape, bool))
    hidden, maps = tower(case, params, case.weights, x, stack=config.architecture, seen=seen)
    head = params["head"]
    match config.head:
        case "masked_lm":
            y = norm(activate(linear(hidden, head["dense"]), "gelu"), head["norm"], config)
            logits = y @ table.T + head["vocabulary"]["bias"]
        case "sequence_classification":
            pooled = np.tanh(linear(hidden[:, 0], params["pooler"]["dense"]))
            logits = linear(pooled, head["linear"])
        case _:
            logits = hidden @ head["kernel"]
    cap = config.logit_softcap
    return hidden, logits if cap is None else cap * np.tanh(logits / cap), maps


def vision_by_hand(case: Case, params: Tree, inputs: dict[str, Any]) -> tuple[Array, Array, Any]:
    config, images, own = case.model.config, inputs["pixel_values"], params["embedding"]
    side, patches = config.patch_size, []
    for row in range(0, config.image_size, side):
        for column in range(0, config.image_size, side):
            patch = images[:, row : row + side, column : column + side]
            patches.append(linear(patch.reshape(len(images), -1), own["patches"]))
    x = np.stack(patches, axis=1)
    first = config.pooling == "first"
    if first:
        x = np.concatenate([np.repeat(own["class_token"][None], len(images), axis=0), x], axis=1)
    x = placed(x, own, config)
    seen = np.ones(x.shape[:2], bool)
    hidden, maps = tower(case, params, case.weights, x, stack="encoder", seen=seen)
    pooled = hidden[:, 0] if first else hidden.mean(axis=1)
    return hidden, linear(pooled, params["head"]["linear"]), maps


def by_hand(case: Case, inputs: dict[str, Any]) -> tuple[Array, Array, Any]:
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), case.params)
    match case.model.config.architecture:
        case "encoder_decoder":
            return pair_by_hand(case, params, inputs)
        case "vision":
            return vision_by_hand(case, params, inputs)
        case _:
            return text_by_hand(case, params, inputs)


def assert_close(got: jax.Array, want: Array) -> None:
    # A few dozen float32 operations deep; a missing or misplaced one is above 1e-2 here.
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_any_architecture_is_its_loop(name: str) -> None:
    own = case(name)
    inputs = inputs_of(own.model.config)
    hidden, logits = own.run(**inputs)
    want_hidden, want_logits, _ = by_hand(own, inputs)
    assert logits.dtype == jnp.float32
    assert_close(hidden, want_hidden)
    assert_close(logits, want_logits)


def test_token_types_left_out_are_zeros() -> None:
    own = case("bert")
    inputs = inputs_of(own.model.config)
    given = own.run(**inputs)[0]
    zeros = own.run(**inputs | {"token_type_ids": np.zeros((2, SOURCE), np.int32)})[0]
    del inputs["token_type_ids"]
    np.testing.assert_array_equal(own.run(**inputs)[0], zeros)
    assert np.abs(given - zeros).max() > 1e-2


def changed(ids: Array, *places: int) -> Array:
    ids = ids.copy()
    ids[:, list(places)] = (ids[:, list(places)] + 1) % VOCAB
    return ids


@pytest.mark.parametrize("name", ["original", "modern pair"])
def test_padding_of_the_source_never_reaches_the_target(name: str) -> None:
    own = case(name)
    inputs = inputs_of(own.model.config)
    before = own.run(**inputs)[1]
    padded = own.run(**inputs | {"input_ids": changed(inputs["input_ids"], 4, 6)})[1]
    np.testing.assert_array_equal(before[1], padded[1])  # this row ends at place 4
    assert np.abs(before[0] - padded[0]).max() > 1e-4


@pytest.mark.parametrize("name", ["original", "modern pair"])
def test_a_target_sees_the_whole_source_and_its_own_past(name: str) -> None:
    own = case(name)
    inputs = inputs_of(own.model.config)
    before = own.run(**inputs)[1]
    later = own.run(**inputs | {"decoder_input_ids": changed(inputs["decoder_input_ids"], 3)})[1]
    np.testing.assert_array_equal(before[:, :3], later[:, :3])
    assert np.abs(before - later)[:, 3:].max(axis=(0, 2)).min() > 1e-4
    other = own.run(**inputs | {"input_ids": changed(inputs["input_ids"], 3)})[1]
    assert np.abs(before - other).max(axis=2).min() > 1e-5


def test_an_encoder_sees_both_ways_and_no_padding() -> None:
    own = case("bert")
    inputs = inputs_of(own.model.config)
    before = own.run(**inputs)[0]
    after = own.run(**inputs | {"input_ids": changed(inputs["input_ids"], 5)})[0]
    assert np.abs(before - after)[0].max(axis=1).min() > 1e-4
    np.testing.assert_array_equal(before[1, :4], after[1, :4])


def test_attention_maps_are_the_softmaxes_of_every_layer() -> None:
    own = case("original")
    inputs = inputs_of(own.model.config)
    run = jax.jit(lambda **inputs: weight.bind(own.model, own.params).measure(**inputs))
    measure = jax.jit(
        lambda **inputs: weight.bind(own.model, own.params).measure(**inputs, taps="attention")[1]
    )
    maps, want = measure(**inputs), by_hand(own, inputs)[2]
    figures = run(**inputs)[1]
    assert {stack: set(kinds) for stack, kinds in maps.items()} == {
        "encoder": {"self_attention"},
        "decoder": {"self_attention", "cross_attention"},
    }
    for stack, kinds in want.items():
        for kind, layers in kinds.items():
            np.testing.assert_allclose(maps[stack][kind], np.stack(layers), atol=1e-5)
    assert figures["encoder"]["finite"].shape == (3, 2)
    assert figures["decoder"]["finite"].shape == (2, 3)


def test_one_table_serves_source_target_and_head_and_weights_name_their_stack() -> None:
    own = case("original")
    weights = jax.tree.leaves(own.weights)
    assert [w.axes for w in weights if w.role == "emb"] == [("vocab", "embed")]
    assert all(w.role != "head" for w in weights)
    assert {w.stack for w in weights} == {"encoder", "decoder"}
    untied = [w for w in jax.tree.leaves(case("modern pair").weights) if w.role in ("emb", "head")]
    assert sorted((w.role, w.stack) for w in untied) == [
        ("emb", "decoder"),
        ("emb", "encoder"),
        ("head", "decoder"),
    ]


def test_distances_are_of_tokens_whatever_positions_they_take() -> None:
    config = dataclasses.replace(BASE, relative_buckets=8)
    places = jnp.arange(4)
    apart = (places[:, None] - places)[None, None]
    # Padding in front takes no position, and a second document begins again.
    for positions in ([0, 0, 0, 1], [0, 1, 0, 1]):
        scope = text_scope(config, jnp.asarray([positions]), None, None, causal=True)
        np.testing.assert_array_equal(scope.offsets, apart)
    seen = jnp.ones((1, 4), bool)
    one = text_scope(config, jnp.asarray([[7]]), seen, None, causal=True, index=jnp.int32(2))
    np.testing.assert_array_equal(one.offsets, apart[:, :, 2:3])
