"""DeepNorm and Sub-LN as their authors wrote them (torchscale), as our parameters.

torchscale multiplies its initial weights by beta and gamma; shared weights do not see that.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from _golden_tree import (
    D_FF,
    D_MODEL,
    LENGTH,
    NUM_HEADS,
    VOCAB,
    Golden,
    Maker,
    Tree,
    attention,
    base_config,
    blocks,
    linear,
    norm,
    randomise,
    single,
    tokens,
)

# fairseq's positions start at 2, below which it keeps a row for padding.
_FIRST_POSITION = 2


def _import_without_extras() -> None:
    """torchscale imports timm and fairscale for drop path and sharding, which nothing here uses."""

    def unused(*_: Any, **__: Any) -> None:
        raise AssertionError("drop path and sharding are off in every golden")

    timm, layers = types.ModuleType("timm.models"), types.ModuleType("timm.models.layers")
    layers.drop_path = unused
    fairscale, nn = types.ModuleType("fairscale"), types.ModuleType("fairscale.nn")
    nn.checkpoint_wrapper = nn.wrap = unused
    for module in (types.ModuleType("timm"), timm, layers, fairscale, nn):
        sys.modules[module.__name__] = module


def _arguments(stack: str, layers: int) -> dict[str, int]:
    sizes = {"embed_dim": D_MODEL, "attention_heads": NUM_HEADS, "ffn_embed_dim": D_FF}
    return {f"{stack}_{name}": size for name, size in {**sizes, "layers": layers}.items()}


def _sublayers(layer: Any, *, post: bool) -> list[Tree]:
    slot = "norm_out" if post else "norm_in"

    def attend(part: Any, around: Any) -> Tree:
        branch = attention(part.q_proj, part.k_proj, part.v_proj, part.out_proj)
        if part.inner_attn_ln is not None:
            branch["inner_norm"] = norm(part.inner_attn_ln)
        return {"branch": branch, "residual": {slot: norm(around)}}

    sublayers = [attend(layer.self_attn, layer.self_attn_layer_norm)]
    if getattr(layer, "encoder_attn", None) is not None:
        sublayers.append(attend(layer.encoder_attn, layer.encoder_attn_layer_norm))
    mlp = {"w1": linear(layer.ffn.fc1), "w2": linear(layer.ffn.fc2)}
    if layer.ffn.ffn_layernorm is not None:
        mlp["inner_norm"] = norm(layer.ffn.ffn_layernorm)
    return [*sublayers, {"branch": mlp, "residual": {slot: norm(layer.final_layer_norm)}}]


def _stack(module: Any, *, post: bool) -> Tree:
    return blocks([_sublayers(layer, post=post) for layer in module.layers])


def _embedding(module: Any) -> Tree:
    table = single(module.embed_positions.weight)[_FIRST_POSITION:]
    return {"tokens": single(module.embed_tokens.weight), "table": table}


def _embed() -> Mapping[str, Any]:
    import torch
    from torchscale.component.embedding import PositionalEmbedding

    return {
        "embed_tokens": torch.nn.Embedding(VOCAB, D_MODEL),
        "embed_positions": PositionalEmbedding(LENGTH + _FIRST_POSITION, D_MODEL),
    }


def _config(variant: str, **changes: Any) -> dict[str, Any]:
    shared = {"variant": variant, "positions": "learned", "embedding_scale": True}
    return base_config(**shared, activation="relu", norm="layer_norm", norm_eps=1e-5, **changes)


def _switches(variant: str) -> dict[str, bool | str | int]:
    deep = _is_post(variant)
    return {
        "deepnorm": deep,
        "subln": not deep,
        "activation_fn": "relu",
        "no_scale_embedding": False,
        "vocab_size": VOCAB,
    }


def decoder(variant: str) -> Golden:
    """Three layers, with a norm on the embedding."""
    _import_without_extras()
    from torchscale.architecture.config import DecoderConfig
    from torchscale.architecture.decoder import Decoder

    arguments = DecoderConfig(
        **_arguments("decoder", 3), **_switches(variant), layernorm_embedding=True
    )
    model = Decoder(arguments, **_embed())
    randomise(model)
    ids = tokens(1)
    params: Tree = {
        "embedding": _embedding(model),
        "embedding_norm": norm(model.layernorm_embedding),
        "stack": _stack(model, post=_is_post(variant)),
        "head": linear(model.output_projection),
    }
    if model.layer_norm is not None:
        params["final_norm"] = norm(model.layer_norm)
    return Golden(
        config=_config(variant, num_layers=3, embedding_norm=True),
        params=params,
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": model(ids, features_only=True)[0], "logits": model(ids)[0]},
    )


def encoder(variant: str) -> Golden:
    """Three layers that see both ways, no head."""
    _import_without_extras()
    from torchscale.architecture.config import EncoderConfig
    from torchscale.architecture.encoder import Encoder

    model = Encoder(EncoderConfig(**_arguments("encoder", 3), **_switches(variant)), **_embed())
    randomise(model)
    ids = tokens(1)
    params: Tree = {"embedding": _embedding(model), "stack": _stack(model, post=_is_post(variant))}
    if model.layer_norm is not None:
        params["final_norm"] = norm(model.layer_norm)
    return Golden(
        config=_config(variant, architecture="encoder", num_layers=3, head="none"),
        params=params,
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": model(ids, features_only=True)["encoder_out"]},
    )


def encoder_decoder(variant: str) -> Golden:
    """Three layers and two, with embeddings of their own."""
    _import_without_extras()
    from torchscale.architecture.config import EncoderDecoderConfig
    from torchscale.architecture.encoder_decoder import EncoderDecoder

    sizes = _arguments("encoder", 3) | _arguments("decoder", 2)
    source, target = _embed(), _embed()
    model = EncoderDecoder(
        EncoderDecoderConfig(**sizes, **_switches(variant)),
        encoder_embed_tokens=source["embed_tokens"],
        encoder_embed_positions=source["embed_positions"],
        decoder_embed_tokens=target["embed_tokens"],
        decoder_embed_positions=target["embed_positions"],
    )
    randomise(model)
    source_ids, ids = tokens(1), tokens(2)
    post = _is_post(variant)
    params: Tree = {
        "embedding": _embedding(model.encoder),
        "encoder": {"stack": _stack(model.encoder, post=post)},
        "decoder_embedding": _embedding(model.decoder),
        "decoder": {"stack": _stack(model.decoder, post=post)},
        "head": linear(model.decoder.output_projection),
    }
    if not post:
        params["encoder"]["final_norm"] = norm(model.encoder.layer_norm)
        params["decoder"]["final_norm"] = norm(model.decoder.layer_norm)
    return Golden(
        config=_config(
            variant, architecture="encoder_decoder", num_encoder_layers=3, num_decoder_layers=2
        ),
        params=params,
        inputs={"input_ids": source_ids.numpy(), "decoder_input_ids": ids.numpy()},
        outputs={
            "hidden": model(source_ids, ids, features_only=True)[0],
            "logits": model(source_ids, ids)[0],
        },
    )


def _is_post(variant: str) -> bool:
    return variant == "deep_norm"


def _bound(maker: Callable[[str], Golden], variant: str) -> Maker:
    return lambda: maker(variant)


MAKERS: dict[str, Maker] = {
    f"{variant}_{maker.__name__}": _bound(maker, variant)
    for variant in ("deep_norm", "sub_ln")
    for maker in (decoder, encoder, encoder_decoder)
}
