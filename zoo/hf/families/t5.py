"""T5 (1910.10683), its multilingual kin and their encoders: pre-norm with relative positions."""

from __future__ import annotations

from zoo.hf.family import ByTensor, Family, Where
from zoo.hf.keys import CannotExpress, Entry, Fixed, Key, Rule, Settings, refused
from zoo.hf.tables import ACTIVATIONS
from zoo.hf.weights import Map, linear, norm, tensor


def _attention(kind: str, layer: str) -> Map:
    return {
        **linear(f"{kind}/branch/q", f"{layer}.q"),
        **linear(f"{kind}/branch/k", f"{layer}.k"),
        **linear(f"{kind}/branch/v", f"{layer}.v"),
        **linear(f"{kind}/branch/o", f"{layer}.o"),
    }


def _stack(stack: str, ours: str) -> Map:
    """The weights of one stack, which we call by names that begin with `ours`."""
    layer = f"{stack}.block.{{}}.layer"
    relative = "SelfAttention.relative_attention_bias.weight"
    last = 2 if stack == "decoder" else 1
    found = {
        **_attention(f"{ours}self_attention", f"{layer}.0.SelfAttention"),
        **norm(f"{ours}self_attention/residual/norm_in", f"{layer}.0.layer_norm"),
        **tensor(f"{ours}relative/table", f"{stack}.block.0.layer.0.{relative}"),
        **tensor(f"{ours}self_attention/branch/relative/table", f"{layer}.0.{relative}"),
        **linear(f"{ours}mlp/branch/w1", f"{layer}.{last}.DenseReluDense.wi"),
        **linear(f"{ours}mlp/branch/w2", f"{layer}.{last}.DenseReluDense.wo"),
        **norm(f"{ours}mlp/residual/norm_in", f"{layer}.{last}.layer_norm"),
        **norm(f"{ours}final_norm", f"{stack}.final_layer_norm"),
    }
    if stack == "decoder":
        found |= _attention(f"{ours}cross_attention", f"{layer}.1.EncDecAttention")
        found |= norm(f"{ours}cross_attention/residual/norm_in", f"{layer}.1.layer_norm")
    return found


def _gated(stack: str, ours: str) -> Map:
    dense = f"{stack}.block.{{}}.layer.{2 if stack == 'decoder' else 1}.DenseReluDense"
    return {
        **linear(f"{ours}mlp/branch/gate", f"{dense}.wi_0"),
        **linear(f"{ours}mlp/branch/w1", f"{dense}.wi_1"),
    }


# `gated-gelu` means the approximation by tanh; new files name that once more.
_MLPS = {f"{gate}{name}": name for gate in ("", "gated-") for name in ACTIVATIONS} | {
    "gated-gelu": "gelu_new"
}


def _read_mlp(theirs: Settings) -> Settings:
    said, again = theirs["feed_forward_proj"], theirs["dense_act_fn"]
    if not isinstance(said, str) or said not in _MLPS:
        raise refused("feed_forward_proj", said, _MLPS)
    if again not in (None, _MLPS[said]):
        raise refused("dense_act_fn", again, [_MLPS[said]])
    gated = said.startswith("gated-")
    if theirs["is_gated_act"] not in (None, gated):
        raise refused("is_gated_act", theirs["is_gated_act"], [gated])
    return {"gated": gated, "activation": ACTIVATIONS[_MLPS[said]]}


def _write_mlp(ours: Settings) -> Settings:
    wanted = (ours["gated"], ours["activation"])
    for said, name in [("gated-gelu", "gelu_new"), *_MLPS.items()]:
        if wanted == (said.startswith("gated-"), ACTIVATIONS[name]):
            return {"feed_forward_proj": said, "dense_act_fn": name, "is_gated_act": wanted[0]}
    raise CannotExpress(f"activation = {wanted[1]!r}: feed_forward_proj can say {list(_MLPS)}")


def _read_head(theirs: Settings) -> Settings:
    """Logits are scaled unless `tie_word_embeddings` or its later word says no, and with that the
    head may be a matrix of its own, which the file then holds."""
    tied, scaled, width = (theirs[name] for name in _HEAD)
    scaled = tied if scaled is None else scaled
    if scaled and not tied:
        raise refused("scale_decoder_outputs", scaled, [False])
    sound = isinstance(width, int) and width > 0
    return {
        "tie_embeddings": scaled,
        "logit_scale": width**-0.5 if sound and scaled else 1.0,
    }


def _write_head(ours: Settings) -> Settings:
    scale, usual = ours["logit_scale"], ours["d_model"] ** -0.5
    if scale not in (1.0, usual):
        raise CannotExpress(f"logit_scale = {scale!r}: it has 1.0 and {usual!r}")
    return {
        "tie_word_embeddings": ours["tie_embeddings"],
        "scale_decoder_outputs": scale == usual,
    }


_HEAD: Settings = {"tie_word_embeddings": True, "scale_decoder_outputs": None, "d_model": 512}
_SCALED_HEAD = (Rule(_HEAD, _read_head, _write_head),)


def _read_depths(theirs: Settings) -> Settings:
    layers, decoder = theirs["num_layers"], theirs["num_decoder_layers"]
    return {
        "num_encoder_layers": layers,
        "num_decoder_layers": layers if decoder is None else decoder,
    }


def _keys(
    *, vocabulary: int, hidden: int, layers: int, heads: int, mlp: str, pair: bool
) -> tuple[Entry, ...]:
    """The keys of a family, by what a missing one means there."""
    depths: tuple[Entry, ...] = (Key("num_layers", "num_layers", layers),)
    if pair:
        depths = (
            Rule(
                {"num_layers": layers, "num_decoder_layers": None},
                _read_depths,
                lambda ours: {
                    "num_layers": ours["num_encoder_layers"],
                    "num_decoder_layers": ours["num_decoder_layers"],
                },
            ),
            Key("decoder_start_token_id", "decoder_start_id", None),
        )
    return (
        Key("vocab_size", "vocab_size", vocabulary),
        Key("d_model", "d_model", 512),
        Key("d_kv", "head_dim", 64),
        Key("d_ff", "d_ff", hidden),
        *depths,
        Key("num_heads", "num_heads", heads),
        Key("relative_attention_num_buckets", "relative_buckets", 32),
        Key("relative_attention_max_distance", "relative_max_distance", 128),
        Key("dropout_rate", "dropout", 0.1, also=("embedding_dropout", "attention_dropout")),
        Key("layer_norm_epsilon", "norm_eps", 1e-6),
        Rule(
            {"feed_forward_proj": mlp, "dense_act_fn": None, "is_gated_act": None},
            _read_mlp,
            _write_mlp,
        ),
        Fixed("is_decoder", False),
    )


_FIELDS: Settings = {
    "variant": "pre_norm",
    "norm": "rms_norm",
    "embedding_norm": False,
    "final_norm": True,
    "embedding_scale": False,
    "positions": "none",
    "bias": False,
    "attention_scale": 1.0,
    "init": "normal",
    # Distances have no end; this is far beyond what fits a memory.
    "max_length": 2**15,
}
# `n_positions` is the length of training; no released code reads `scalable_attention`.
_IGNORED_KEYS = ("n_positions", "classifier_dropout", "output_past", "scalable_attention")
_TIED = {
    "lm_head.weight": "shared.weight",
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
}


def _families(
    name: str,
    models: str,
    sizes: Settings,
    *,
    per_layer: bool = False,
    scales: bool = True,
) -> tuple[Family, Family]:
    """The encoder-decoders whose classes begin with `models`, and their encoders.

    Args:
        per_layer: whether each layer has a table of distances.
        scales: whether a tied head's logits are scaled.
    """
    fields = _FIELDS | {"relative_per_layer": per_layer}
    # Without a word about it, a head is a matrix of its own where the file holds one.
    there = ... if scales else False
    pair = Family(
        name=name,
        classes={f"{models}ForConditionalGeneration": "language_model", f"{models}Model": "none"},
        fields={
            **fields,
            "architecture": "encoder_decoder",
            "share_embeddings": True,
            "tie_embeddings": False,
        },
        keys=(*_keys(**sizes, pair=True), *(_SCALED_HEAD if scales else ())),
        ignored_keys=(*_IGNORED_KEYS, *(() if scales else ("tie_word_embeddings",))),
        weights={
            **tensor("embedding/tokens", "shared.weight"),
            **_stack("encoder", "encoder/"),
            **_stack("decoder", "decoder/"),
        },
        heads={"language_model": linear("head", "lm_head")},
        by_tensor=(ByTensor("language_model", "lm_head.weight", "tie_embeddings", there, True),),
        # A table that the first files have and nothing reads.
        ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
        tied=_TIED,
        where=(
            Where("gated", True, _gated("encoder", "encoder/") | _gated("decoder", "decoder/")),
        ),
    )
    encoder = Family(
        name=f"{name}_encoder",
        model_type=name,
        classes={
            f"{models}EncoderModel": "none",
            f"{models}ForTokenClassification": "token_classification",
        },
        fields={**fields, "architecture": "encoder", "tie_embeddings": True},
        keys=_keys(**sizes, pair=False),
        ignored_keys=(
            *_IGNORED_KEYS,
            "num_decoder_layers",
            "tie_word_embeddings",
            "scale_decoder_outputs",
        ),
        prefix="transformer.",
        weights={**tensor("embedding/tokens", "shared.weight"), **_stack("encoder", "")},
        heads={"token_classification": linear("head/linear", "classifier")},
        tied=_TIED,
        where=(Where("gated", True, _gated("encoder", "")),),
    )
    return pair, encoder


_MULTILINGUAL = {
    "vocabulary": 250112,
    "hidden": 1024,
    "layers": 8,
    "heads": 6,
    "mlp": "gated-gelu",
}
FAMILIES = (
    *_families(
        "t5",
        "T5",
        {"vocabulary": 32128, "hidden": 2048, "layers": 6, "heads": 8, "mlp": "relu"},
    ),
    *_families("mt5", "MT5", _MULTILINGUAL, scales=False),
    *_families("umt5", "UMT5", _MULTILINGUAL, per_layer=True),
)
