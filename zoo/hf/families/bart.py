"""BART (1910.13461) and its kin: encoder-decoders with one table of tokens for both stacks."""

from __future__ import annotations

from zoo.hf.families.roberta import unpadded
from zoo.hf.family import ByTensor, Family, Where
from zoo.hf.keys import Entry, Fixed, Key, Settings
from zoo.hf.stacks import alike, depths
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import Map, Tensor, linear, norm, tensor


def _attention(kind: str, layer: str) -> Map:
    return {
        **linear(f"{kind}/branch/q", f"{layer}.q_proj"),
        **linear(f"{kind}/branch/k", f"{layer}.k_proj"),
        **linear(f"{kind}/branch/v", f"{layer}.v_proj"),
        **linear(f"{kind}/branch/o", f"{layer}.out_proj"),
    }


def _stack(stack: str, slot: str) -> Map:
    """One stack's layers, whose norms stand at `slot` of their sites."""
    layer = f"{stack}.layers.{{}}"
    found = {
        **_attention(f"{stack}/self_attention", f"{layer}.self_attn"),
        **norm(f"{stack}/self_attention/residual/{slot}", f"{layer}.self_attn_layer_norm"),
        **linear(f"{stack}/mlp/branch/w1", f"{layer}.fc1"),
        **linear(f"{stack}/mlp/branch/w2", f"{layer}.fc2"),
        **norm(f"{stack}/mlp/residual/{slot}", f"{layer}.final_layer_norm"),
    }
    if stack == "decoder":
        across = "decoder/cross_attention"
        found |= _attention(across, f"{layer}.encoder_attn")
        found |= norm(f"{across}/residual/{slot}", f"{layer}.encoder_attn_layer_norm")
    return found


SHARED = tensor("embedding/tokens", "shared.weight")
UNSHARED = Where(
    "share_embeddings",
    False,
    {
        **tensor("embedding/tokens", "encoder.embed_tokens.weight"),
        **tensor("decoder_embedding/tokens", "decoder.embed_tokens.weight"),
    },
)
TIED = {
    "lm_head.weight": "decoder.embed_tokens.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "encoder.embed_tokens.weight": "shared.weight",
}
POSITIONS = {
    **tensor("embedding/table", "encoder.embed_positions.weight"),
    **tensor("decoder_embedding/table", "decoder.embed_positions.weight"),
}
EMBEDDING_NORMS = {
    **norm("encoder/embedding_norm", "encoder.layernorm_embedding"),
    **norm("decoder/embedding_norm", "decoder.layernorm_embedding"),
}
FINAL_NORMS = {
    **norm("encoder/final_norm", "encoder.layer_norm"),
    **norm("decoder/final_norm", "decoder.layer_norm"),
}
POST_LAYERS = _stack("encoder", "norm_out") | _stack("decoder", "norm_out")
PRE_LAYERS = _stack("encoder", "norm_in") | _stack("decoder", "norm_in")

# A bias that no training moves, and that files may leave out.
LOGITS_BIAS = {
    "head/bias": Tensor(
        "final_logits_bias", load=lambda array, _: array[0], save=lambda array, _: array[None]
    )
}
HAS_LOGITS_BIAS = ByTensor("language_model", "final_logits_bias", "head_bias", True, False)
IGNORED_KEYS = (
    "activation_dropout",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "classifier_dropout",
    # Of old versions: for a head that is not read here, for training and for generation.
    "classif_dropout",
    "_num_labels",
    "output_past",
    "save_step",
    "force_bos_token_to_be_generated",
    "extra_pos_embeddings",
    "do_blenderbot_90_layernorm",
    "unk_token_id",
)


def keys(
    *,
    vocabulary: int,
    width: int = 1024,
    layers: int = 12,
    decoder_layers: int | None = None,
    heads: int = 16,
    hidden: int = 4096,
    start: int | None,
    pre: bool,
    embedding_norm: bool,
    static: bool = False,
    longest: int = 1024,
    activation: str = "gelu",
    attention_dropout: float = 0.0,
    scale: bool = False,
) -> tuple[Entry, ...]:
    """The keys of a family, by what a missing one means there.

    Args:
        decoder_layers: where they are not as many as `layers`, the encoder's.
        pre, embedding_norm, static: where norms stand and whether positions are sines, which
            files of old versions say in words.
    """
    return (
        Key("vocab_size", "vocab_size", vocabulary),
        Key("d_model", "d_model", width),
        *depths(layers, decoder_layers or layers),
        alike("attention_heads", "num_heads", heads),
        alike("ffn_dim", "d_ff", hidden),
        Key("max_position_embeddings", "max_length", longest),
        Key("activation_function", "activation", activation, ACTIVATIONS),
        Key("dropout", "dropout", 0.1, also=("embedding_dropout",)),
        Key("attention_dropout", "attention_dropout", attention_dropout),
        Key("init_std", "init_std", 0.02),
        Key("scale_embedding", "embedding_scale", scale),
        Key("decoder_start_token_id", "decoder_start_id", start),
        Key("tie_word_embeddings", "tie_embeddings", True),
        Fixed("is_decoder", False),
        Fixed("normalize_before", pre),
        Fixed("normalize_embedding", embedding_norm),
        Fixed("add_final_layer_norm", pre),
        Fixed("add_bias_logits", False),
        Fixed("static_position_embeddings", static),
    )


FIELDS: Settings = {
    "architecture": "encoder_decoder",
    "norm": "layer_norm",
    "norm_bias": True,
    "bias": True,
    "init": "normal",
}
POST = {**FIELDS, "variant": "post_norm", "final_norm": False}
PRE = {**FIELDS, "variant": "pre_norm", "final_norm": True}
# Learned positions begin behind two rows that no token has.
LEARNED = {"positions": "learned", "position_offset": 2, "embedding_norm": True}
PLAIN = {"position_offset": 0, "embedding_norm": False}
# Static positions, which files of old versions and of bare trunks hold as tables of either name.
SINES = tuple(
    f"{stack}.embed_positions.{name}"
    for stack in ("encoder", "decoder")
    for name in ("weight", "weights")
)


def _family(
    name: str,
    models: str,
    fields: Settings,
    entries: tuple[Entry, ...],
    weights: Map,
    *,
    logits_bias: bool = True,
) -> Family:
    """A family whose classes begin with `models`."""
    return Family(
        name=name,
        classes={f"{models}ForConditionalGeneration": "language_model", f"{models}Model": "none"},
        fields=fields,
        keys=entries,
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights={**SHARED, **weights},
        heads={"language_model": linear("head", "lm_head") | (LOGITS_BIAS if logits_bias else {})},
        by_tensor=(HAS_LOGITS_BIAS,) if logits_bias else (),
        sines=() if LEARNED["positions"] == fields["positions"] else SINES,
        tied=TIED,
        where=(UNSHARED,),
    )


FAMILIES = (
    _family(
        "bart",
        "Bart",
        POST | LEARNED,
        keys(vocabulary=50265, start=2, pre=False, embedding_norm=True),
        {**POSITIONS, **EMBEDDING_NORMS, **POST_LAYERS},
    ),
    _family(
        "mbart",
        "MBart",
        PRE | LEARNED,
        keys(vocabulary=50265, start=None, pre=True, embedding_norm=True),
        {**POSITIONS, **EMBEDDING_NORMS, **PRE_LAYERS, **FINAL_NORMS},
    ),
    _family(
        "plbart",
        "PLBart",
        POST | LEARNED,
        keys(
            vocabulary=50005,
            width=768,
            layers=6,
            heads=12,
            hidden=3072,
            start=None,
            pre=False,
            embedding_norm=True,
            attention_dropout=0.1,
            scale=True,
        ),
        {**POSITIONS, **EMBEDDING_NORMS, **POST_LAYERS},
    ),
    _family(
        "blenderbot",
        "Blenderbot",
        PRE | PLAIN | {"positions": "learned"},
        (
            *keys(
                vocabulary=8008,
                width=2560,
                layers=2,
                decoder_layers=24,
                heads=32,
                hidden=10240,
                start=1,
                pre=True,
                embedding_norm=False,
                longest=128,
            ),
            Fixed("layernorm_variant", "prelayernorm"),
            Fixed("extra_layer_norm", False),
        ),
        {**POSITIONS, **PRE_LAYERS, **FINAL_NORMS},
    ),
    # BART's layers on positions that are counted from 0, and on a target whose tokens are normed
    # alone. Their scale is that of the source: version 5 of transformers leaves the target's out,
    # which such a norm undoes but for its epsilon.
    _family(
        "blenderbot-small",
        "BlenderbotSmall",
        POST
        | {
            "positions": "learned",
            "position_offset": 0,
            "embedding_norm": True,
            "norm_target_tokens": True,
        },
        (
            *keys(
                vocabulary=50265,
                width=512,
                layers=8,
                hidden=2048,
                start=1,
                pre=False,
                embedding_norm=True,
                longest=512,
            ),
            Fixed("layernorm_variant", "xlm"),
            Fixed("extra_layer_norm", False),
        ),
        {**POSITIONS, **EMBEDDING_NORMS, **POST_LAYERS},
    ),
    _family(
        "pegasus",
        "Pegasus",
        PRE | PLAIN | {"positions": "sinusoidal_halves"},
        keys(vocabulary=50265, start=0, pre=True, embedding_norm=False, static=True),
        {**PRE_LAYERS, **FINAL_NORMS},
    ),
    # M2M-100 (2010.11125) and NLLB (2207.04672).
    _family(
        "m2m_100",
        "M2M100",
        PRE | {"positions": "sinusoidal_fairseq", "embedding_norm": False},
        (
            *keys(
                vocabulary=128112,
                start=2,
                pre=True,
                embedding_norm=False,
                static=True,
                activation="relu",
                attention_dropout=0.1,
                scale=True,
            ),
            unpadded(pad=1),
        ),
        {**PRE_LAYERS, **FINAL_NORMS},
        logits_bias=False,
    ),
)
