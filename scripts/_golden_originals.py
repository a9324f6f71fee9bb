"""The post-norm originals as transformers has them: GPT-1, BERT and BART."""

from __future__ import annotations

from typing import Any

from _golden_transformers import LAYERS, sizes
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


def gpt_1() -> Golden:
    """The first GPT: post-norm, learned positions, tanh gelu, one matrix for q, k and v."""
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    width = {"n_embd": D_MODEL, "n_layer": LAYERS, "n_head": NUM_HEADS, "n_positions": LENGTH}
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=VOCAB, **width))
    randomise(model)
    body, ids = model.transformer, tokens(1)

    def conv(module: Any) -> Tree:
        """Its Conv1D is a Linear whose weight is [in, out], as ours."""
        return {"kernel": single(module.weight), "bias": single(module.bias)}

    def sublayers(layer: Any) -> list[Tree]:
        joint = conv(layer.attn.c_attn)
        branch = {
            name: {part: array[..., start : start + D_MODEL] for part, array in joint.items()}
            for name, start in zip("qkv", range(0, 3 * D_MODEL, D_MODEL), strict=True)
        }
        branch["o"] = conv(layer.attn.c_proj)
        mlp = {"w1": conv(layer.mlp.c_fc), "w2": conv(layer.mlp.c_proj)}
        return [
            {"branch": branch, "residual": {"norm_out": norm(layer.ln_1)}},
            {"branch": mlp, "residual": {"norm_out": norm(layer.ln_2)}},
        ]

    params = {
        "embedding": {
            "tokens": single(body.tokens_embed.weight),
            "table": single(body.positions_embed.weight),
        },
        "stack": blocks([sublayers(layer) for layer in body.h]),
    }
    config = base_config(
        variant="post_norm",
        num_layers=LAYERS,
        d_ff=4 * D_MODEL,
        activation="gelu_tanh",
        embedding_scale=False,
        tie_embeddings=True,
    )
    return Golden(
        config=config,
        params=params,
        inputs={"input_ids": ids.numpy()},
        outputs={"hidden": body(ids).last_hidden_state, "logits": model(ids).logits},
    )


def bert() -> Golden:
    """Post-norm both ways, with token types, a norm on the embedding and BERT's own head."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    settings = sizes(type_vocab_size=2, layer_norm_eps=1e-12, tie_word_embeddings=True)
    for name in ("num_key_value_heads", "head_dim", "rms_norm_eps"):
        del settings[name]
    model = BertForMaskedLM(BertConfig(**settings))
    randomise(model)
    body, head, embeddings = model.bert, model.cls.predictions, model.bert.embeddings
    ids, kinds = tokens(1), tokens(2, 2)
    seen = torch.ones_like(ids)
    seen[1, 4:] = 0

    def sublayers(layer: Any) -> list[Tree]:
        own, out = layer.attention.self, layer.attention.output
        mlp = {"w1": linear(layer.intermediate.dense), "w2": linear(layer.output.dense)}
        return [
            {
                "branch": attention(own.query, own.key, own.value, out.dense),
                "residual": {"norm_out": norm(out.LayerNorm)},
            },
            {"branch": mlp, "residual": {"norm_out": norm(layer.output.LayerNorm)}},
        ]

    params = {
        "embedding": {
            "tokens": single(embeddings.word_embeddings.weight),
            "types": single(embeddings.token_type_embeddings.weight),
            "table": single(embeddings.position_embeddings.weight),
        },
        "embedding_norm": norm(embeddings.LayerNorm),
        "stack": blocks([sublayers(layer) for layer in body.encoder.layer]),
        "head": {
            "dense": linear(head.transform.dense),
            "norm": norm(head.transform.LayerNorm),
            "vocabulary": {"bias": single(head.bias)},
        },
    }
    config = base_config(
        architecture="encoder",
        variant="post_norm",
        num_layers=LAYERS,
        type_vocab_size=2,
        embedding_norm=True,
        embedding_scale=False,
        norm_eps=1e-12,
        tie_embeddings=True,
    )
    arguments = {"attention_mask": seen, "token_type_ids": kinds}
    return Golden(
        config=config,
        params=params,
        inputs={"input_ids": ids.numpy(), **{k: v.numpy() for k, v in arguments.items()}},
        outputs={
            "hidden": body(ids, **arguments).last_hidden_state,
            "logits": model(ids, **arguments).logits,
        },
    )


def bart() -> Golden:
    """A post-norm encoder-decoder with one table for both sides and the head."""
    from transformers import BartConfig, BartForConditionalGeneration

    width: dict[str, int] = {}
    for side in ("encoder", "decoder"):
        width |= {f"{side}_layers": 2, f"{side}_attention_heads": NUM_HEADS}
        width |= {f"{side}_ffn_dim": D_FF}
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCAB,
            d_model=D_MODEL,
            max_position_embeddings=LENGTH,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
            decoder_start_token_id=0,
            forced_eos_token_id=None,
            attn_implementation="eager",
            **width,
        )
    )
    randomise(model)
    body = model.model
    source, ids = tokens(1), tokens(2)

    def attend(module: Any, around: Any) -> Tree:
        branch = attention(module.q_proj, module.k_proj, module.v_proj, module.out_proj)
        return {"branch": branch, "residual": {"norm_out": norm(around)}}

    def sublayers(layer: Any) -> list[Tree]:
        mlp = {"w1": linear(layer.fc1), "w2": linear(layer.fc2)}
        found = [attend(layer.self_attn, layer.self_attn_layer_norm)]
        if hasattr(layer, "encoder_attn"):
            found.append(attend(layer.encoder_attn, layer.encoder_attn_layer_norm))
        return [*found, {"branch": mlp, "residual": {"norm_out": norm(layer.final_layer_norm)}}]

    def side(module: Any) -> Tree:
        return {
            "embedding_norm": norm(module.layernorm_embedding),
            "stack": blocks([sublayers(layer) for layer in module.layers]),
        }

    def positions(module: Any) -> Any:
        return single(module.embed_positions.weight)[2:]  # two rows for padding, as fairseq has

    config = base_config(
        architecture="encoder_decoder",
        variant="post_norm",
        num_encoder_layers=2,
        num_decoder_layers=2,
        embedding_norm=True,
        embedding_scale=False,
        tie_embeddings=True,
    )
    return Golden(
        config=config,
        params={
            "embedding": {
                "tokens": single(body.shared.weight),
                "table": positions(body.encoder),
            },
            "decoder_embedding": {"table": positions(body.decoder)},
            "encoder": side(body.encoder),
            "decoder": side(body.decoder),
        },
        inputs={"input_ids": source.numpy(), "decoder_input_ids": ids.numpy()},
        outputs={
            "hidden": body(source, decoder_input_ids=ids).last_hidden_state,
            "logits": model(source, decoder_input_ids=ids).logits,
        },
    )


MAKERS: dict[str, Maker] = {
    "post_norm_gpt_1": gpt_1,
    "post_norm_bert": bert,
    "post_norm_bart": bart,
}
