"""Which settings of a model cannot work, alone or together."""

from __future__ import annotations

import math

from zoo.errors import ConfigError, choices
from zoo.models.config import HEADS, ModelConfig
from zoo.settings import check_types
from zoo.variants.variant import MOST_LAYERS

# The most of anything that is counted, so that no product of sizes leaves 64 bits and no list of
# layers fills the memory: what lies beyond is a damaged file or a slip of the keyboard.
_MOST = 2**24


def validate(config: ModelConfig) -> None:
    """Raise ConfigError at the first value that cannot work."""
    if not isinstance(config.variant, str):
        raise ConfigError(
            f"variant = {config.variant!r}: a config holds a name; register the variant with "
            "zoo.register_variant, or give it to zoo.create_model"
        )
    check_types(config)
    for field in ("d_model", "num_layers", "num_heads", "image_size", "patch_size", "num_channels"):
        _positive(field, getattr(config, field))
    _check_architecture(config)
    optional = ("vocab_size", "max_length", "num_kv_heads", "head_dim", "d_ff", "window")
    more = ("num_labels", "type_vocab_size", "relative_buckets", "relative_max_distance")
    widths = ("embedding_width", "output_embedding_width")
    for field in (*optional, *more, *widths, "layer_groups", "num_experts"):
        if getattr(config, field) is not None:
            _positive(field, getattr(config, field))
    heads, width = config.num_heads, config.d_model
    if config.head_dim is None and width % heads:
        raise ConfigError(
            f"num_heads = {heads} does not divide d_model = {width}; "
            f"use {choices(_divisors(width))}, or set head_dim"
        )
    sizes = config.sizes()
    _positive("num_heads x head_dim", heads * sizes.head_dim)
    kv_heads = sizes.num_kv_heads
    if heads % kv_heads:
        raise ConfigError(
            f"num_kv_heads = {kv_heads} does not divide num_heads = {heads}; "
            f"use {choices(_divisors(heads))}"
        )
    groups, depths = config.layer_groups, {config.depth("encoder"), config.depth("decoder")} - {0}
    if groups is not None and any(depth % groups for depth in depths):
        raise ConfigError(
            f"layer_groups = {groups} does not divide num_layers = {max(depths)}; use "
            f"{choices(_divisors(math.gcd(*depths)))}"
        )
    _check_stages(config)
    _check_positions(config)
    for field in ("dropout", "embedding_dropout", "attention_dropout", "stochastic_depth"):
        rate = getattr(config, field)
        if not 0.0 <= rate < 1.0:
            raise ConfigError(f"{field} = {rate}: a rate lies in [0, 1)")
    for field in ("norm_eps", "init_std", "qkv_gain", "rotary_theta", "logit_scale"):
        if not getattr(config, field) > 0.0:
            raise ConfigError(f"{field} = {getattr(config, field)}: must be above 0")
    if config.embedding_std is not None and not config.embedding_std > 0.0:
        raise ConfigError(f"embedding_std = {config.embedding_std}: must be above 0")
    if not config.window_pattern or set(config.window_pattern) - {"L", "G"}:
        raise ConfigError(
            f"window_pattern = {config.window_pattern!r}: use the letters L (local) and G (global)"
        )
    _check_mixtures(config)
    if config.window is None and "G" in config.window_pattern:
        raise ConfigError(
            f"window_pattern = {config.window_pattern!r} without a window; set window as well"
        )
    longest = sizes.max_length
    # Without a table of positions a text may be written on beyond it, where the window tells.
    bounded = config.positions == "learned" and config.stage_layers is None
    if config.window is not None and config.window > longest and bounded:
        raise ConfigError(
            f"window = {config.window} is longer than max_length = {longest}; use at most {longest}"
        )
    for field in ("attention_softcap", "logit_softcap"):
        cap = getattr(config, field)
        if cap is not None and not cap > 0.0:
            raise ConfigError(f"{field} = {cap}: must be above 0, or None for no cap")
    if config.attention == "fused" and config.attention_softcap is not None:
        raise ConfigError(
            f"attention = 'fused' with attention_softcap = {config.attention_softcap}: the fused "
            "kernels have no cap; use attention = 'auto' or attention_softcap = None"
        )
    if config.attention == "fused" and config.attention_dropout:
        raise ConfigError(
            f"attention = 'fused' with attention_dropout = {config.attention_dropout}: the fused "
            "kernels have no dropout; use attention = 'auto' or attention_dropout = 0"
        )


def _check_stages(config: ModelConfig) -> None:
    """A model in stages: what it needs, and what it has no place for."""
    layers, architecture = config.stage_layers, config.architecture
    lists = ("stage_heads", "stage_trained_windows")
    if layers is None:
        for field in lists:
            if getattr(config, field) is not None:
                raise ConfigError(
                    f"{field} = {getattr(config, field)} without stage_layers; set stage_layers "
                    "as well"
                )
        return
    if architecture != "vision":
        raise ConfigError(
            f"stage_layers = {layers} with architecture = {architecture!r}: stages merge patches; "
            "use architecture = 'vision'"
        )
    if not layers or min(layers) < 1 or sum(layers) != config.num_layers:
        raise ConfigError(
            f"stage_layers = {layers} with num_layers = {config.num_layers}: every stage has a "
            "layer or more, and together they are num_layers"
        )
    for field in lists:
        value = getattr(config, field)
        if value is not None and len(value) != len(layers):
            raise ConfigError(
                f"{field} = {value}: stage_layers = {layers} has {len(layers)} stages"
            )
    top = len(layers) - 1
    for field, first in (("d_model", config.d_model), ("d_ff", config.sizes().d_ff)):
        _positive(f"{field} of the last of {len(layers)} stages", first * 2**top)
    heads = config.heads_of_stages()
    for number, own in enumerate(heads):
        width = config.d_model * 2**number
        if own < 1 or width % own:
            raise ConfigError(
                f"stage_heads = {heads}: {own} does not divide the width {width} of stage "
                f"{number + 1}; use {choices(_divisors(width))}"
            )
    if config.window is None:
        raise ConfigError("window = None with stage_layers: attention is within windows; set it")
    trained = config.trained_windows()
    if min(trained) < 0 or 1 in trained or max(trained) > _MOST:
        raise ConfigError(
            f"stage_trained_windows = {trained}: a side is 2 or more, or 0 for that of `window`"
        )
    if config.resolution() < 2**top:
        raise ConfigError(
            f"image_size = {config.image_size} has {config.resolution()} patches of patch_size = "
            f"{config.patch_size} to a side; {len(layers)} stages need {2**top}"
        )
    wanted = {
        "pooling": ("mean",),
        "positions": ("none",),
        "layout": ("sequential",),
        "window_pattern": ("L",),
        "attention_pattern": ("S",),
        "num_heads": (heads[0],),
        "num_kv_heads": (None, heads[0]),
        "head_dim": (None, config.d_model // heads[0]),
        "layer_groups": (None,),
        "value_residual": (False,),
    }
    for field, accepted in wanted.items():
        if getattr(config, field) not in accepted:
            raise ConfigError(
                f"{field} = {getattr(config, field)!r} with stage_layers = {layers}: a model in "
                f"stages has {choices(map(repr, accepted))}"
            )


def _check_positions(config: ModelConfig) -> None:
    head_dim, width = config.sizes().head_dim, config.d_model
    if not 0.0 < config.rotary_fraction <= 1.0:
        raise ConfigError(f"rotary_fraction = {config.rotary_fraction}: a share lies in (0, 1]")
    turned = config.rotary_width()
    if config.positions == "rotary" and (turned % 2 or not turned):
        whole = f"head_dim = {head_dim} is odd"
        part = f"rotary_fraction = {config.rotary_fraction} of head_dim = {head_dim} is {turned}"
        raise ConfigError(
            f"{whole if turned == head_dim else part}; rotary positions need an even number above 0"
        )
    if not config.rotary_pattern or set(config.rotary_pattern) - set("RLN"):
        raise ConfigError(
            f"rotary_pattern = {config.rotary_pattern!r}: use the letters R (rotary_theta), "
            "L (rotary_local_theta) and N (none)"
        )
    local = config.rotary_local_theta
    if local is not None and not local > 0.0:
        raise ConfigError(f"rotary_local_theta = {local}: must be above 0")
    if (local is not None) != ("L" in config.rotary_pattern):
        raise ConfigError(
            f"rotary_local_theta = {local} with rotary_pattern = {config.rotary_pattern!r}: it is "
            "the base of layers that the pattern calls L; set both or neither"
        )
    if config.rotary_scaling is not None and not config.rotary_theta > 1.0:
        raise ConfigError(
            f"rotary_scaling = {config.rotary_scaling!r} with rotary_theta = "
            f"{config.rotary_theta}: it needs a base above 1"
        )
    if config.positions != "rotary" and (config.rotary_pattern != "R" or config.rotary_scaling):
        raise ConfigError(
            f"rotary_pattern = {config.rotary_pattern!r} and rotary_scaling = "
            f"{config.rotary_scaling!r} with positions = {config.positions!r}; use "
            "positions = 'rotary', or leave them out"
        )
    summed = config.summed_width()
    if config.positions.startswith("sinusoidal") and summed % 2:
        field = "d_model" if summed == width else "embedding_width"
        raise ConfigError(f"{field} = {summed} is odd; sinusoidal positions need it even")
    if config.positions == "sinusoidal_fairseq" and summed < 4:
        raise ConfigError(
            f"positions = 'sinusoidal_fairseq' with a width of {summed}: it needs a slowest wave "
            "beside the fastest; use a width of 4 or more"
        )
    if config.relative_per_layer and config.relative_buckets is None:
        raise ConfigError(
            "relative_per_layer = True without relative_buckets; set relative_buckets as well"
        )
    buckets, farthest = config.relative_buckets, config.relative_max_distance
    if buckets is not None and (buckets < 4 or buckets % 2):
        raise ConfigError(
            f"relative_buckets = {buckets}: half of them stand for each direction; use an even "
            "number of 4 or more"
        )
    if buckets is not None and farthest <= buckets // 2:
        raise ConfigError(
            f"relative_max_distance = {farthest}: {buckets // 2} of relative_buckets = {buckets} "
            f"stand for one distance each; use {buckets // 2 + 1} or more"
        )
    if config.position_offset < 0:
        raise ConfigError(f"position_offset = {config.position_offset}: must be at least 0")
    if config.count_positions == "unpadded" and config.pad_id is None:
        raise ConfigError("count_positions = 'unpadded' without a pad_id; set pad_id as well")
    # Tokens that are not counted stand one before the first.
    if config.count_positions != "all" and config.position_offset == 0:
        raise ConfigError(
            f"count_positions = {config.count_positions!r} with position_offset = 0: tokens that "
            "are not counted stand one before the first; use position_offset = 1 or more"
        )
    vocabulary = config.sizes().vocab_size
    if config.pad_id is not None and not 0 <= config.pad_id < vocabulary:
        raise ConfigError(f"pad_id = {config.pad_id}; ids run from 0 to {vocabulary - 1}")


def _check_mixtures(config: ModelConfig) -> None:
    """Linear attention and experts: what they go with."""
    pattern = config.attention_pattern
    if not pattern or set(pattern) - {"S", "L"}:
        raise ConfigError(
            f"attention_pattern = {pattern!r}: use the letters S (softmax) and L (linear)"
        )
    if "L" in pattern:
        wrong = {
            "architecture": config.architecture != "decoder",
            "layout": config.layout == "parallel",
            "value_residual": config.value_residual,
        }
        for field in (field for field, is_wrong in wrong.items() if is_wrong):
            raise ConfigError(
                f"attention_pattern = {pattern!r} with {field} = {getattr(config, field)!r}: "
                "linear attention is for decoders with sequential layers and no value_residual"
            )
    if config.num_experts is None:
        return
    if not 1 <= config.experts_per_token <= config.num_experts:
        raise ConfigError(
            f"experts_per_token = {config.experts_per_token} of num_experts = "
            f"{config.num_experts}; use 1 to {config.num_experts}"
        )
    biased = config.bias if config.mlp_bias is None else config.mlp_bias
    if not config.gated or biased or config.mlp_input_bias:
        raise ConfigError(
            f"num_experts = {config.num_experts}: experts are gated and have no biases; set gated "
            "= True, mlp_bias = False and mlp_input_bias = False"
        )


def _check_architecture(config: ModelConfig) -> None:
    """Refuse what this architecture has no place for, naming what it has."""
    architecture = config.architecture
    pairs, vision = architecture == "encoder_decoder", architecture == "vision"
    if config.head is not None and config.head not in HEADS[architecture]:
        raise ConfigError(
            f"head = {config.head!r}: architecture = {architecture!r} carries "
            f"{choices(HEADS[architecture])}"
        )
    for field in ("num_encoder_layers", "num_decoder_layers"):
        value = getattr(config, field)
        if value is not None and not pairs:
            raise ConfigError(
                f"{field} = {value}: {architecture!r} has one stack; use num_layers, or "
                "architecture = 'encoder_decoder'"
            )
        if value is not None:
            _positive(field, value)
    start, vocabulary = config.decoder_start_id, config.sizes().vocab_size
    if start is not None and not pairs:
        raise ConfigError(
            f"decoder_start_id = {start}: {architecture!r} has no target; leave it out, or use "
            "architecture = 'encoder_decoder'"
        )
    if config.share_embeddings is not None and not pairs:
        raise ConfigError(
            f"share_embeddings = {config.share_embeddings}: {architecture!r} has one table; leave "
            "it out, or use architecture = 'encoder_decoder'"
        )
    if config.norm_target_tokens and not pairs:
        raise ConfigError(
            f"norm_target_tokens = True: {architecture!r} has no target; leave it out, or use "
            "architecture = 'encoder_decoder'"
        )
    if start is not None and not 0 <= start < vocabulary:
        raise ConfigError(f"decoder_start_id = {start}; ids run from 0 to {vocabulary - 1}")
    if config.parallel_norms == "separate" and config.layout != "parallel":
        raise ConfigError(
            f"parallel_norms = 'separate' with layout = {config.layout!r}, whose sublayers have "
            "norms of their own; use layout = 'parallel', or leave it out"
        )
    if config.layout == "parallel" and pairs:
        raise ConfigError(
            "layout = 'parallel' with architecture = 'encoder_decoder': cross-attention stands "
            "between attention and MLP; use layout = 'sequential', or another architecture"
        )
    for field in ("type_vocab_size", "embedding_width", "output_embedding_width"):
        if getattr(config, field) is not None and architecture not in ("encoder", "decoder"):
            raise ConfigError(
                f"{field} = {getattr(config, field)}: only a model of one text stack has it; "
                "leave it out"
            )
    if config.pooler and architecture != "encoder" and not (vision and config.pooling == "first"):
        raise ConfigError(
            f"pooler = {config.pooler!r} with architecture = {architecture!r} and pooling = "
            f"{config.pooling!r}: it stands on the vector of an encoder, or on the first token of "
            "'vision'; use one of these, or pooler = None"
        )
    if config.pooler_first and (config.pooler is None or config.pooling != "mean"):
        raise ConfigError(
            f"pooler_first = True with pooler = {config.pooler!r} and pooling = "
            f"{config.pooling!r}: it stands in front of a mean; set pooler and pooling = 'mean', "
            "or leave it out"
        )
    head = config.head or HEADS[architecture][0]
    poolable = ("sequence_classification", "image_classification", "none")
    if config.pooler and head not in poolable:
        raise ConfigError(
            f"pooler = {config.pooler!r} with head = {head!r}, which reads every token: use "
            f"head = {choices(map(repr, poolable))}, or pooler = None"
        )
    if config.head_transform and (pairs or head != "language_model"):
        raise ConfigError(
            f"head_transform = True with head = {head!r} on architecture = {architecture!r}: it "
            "is for a decoder's language_model, and a masked_lm has masked_lm_transform; use False"
        )
    plain = head in ("language_model", "masked_lm") and not config.transforms()
    if plain and config.tie_embeddings and config.token_width() != config.head_width():
        raise ConfigError(
            f"tie_embeddings = True with embedding_width = {config.embedding_width}: the head "
            f"reads d_model = {config.d_model}; use embedding_projected = 'tokens', "
            "head_transform = True (masked_lm_transform) or tie_embeddings = False"
        )
    output = config.output_embedding_width
    if plain and output is not None:
        raise ConfigError(
            f"output_embedding_width = {output}: a dense layer in the head makes it; set "
            "head_transform = True (masked_lm_transform), or leave it out"
        )
    if config.tie_embeddings and output not in (None, config.token_width()):
        raise ConfigError(
            f"output_embedding_width = {output} with tie_embeddings = True: the head is the "
            f"tokens' table, of width {config.token_width()}; use tie_embeddings = False, or leave "
            "it out"
        )
    if not vision and (config.distillation_token or config.pooling == "first_and_mean"):
        raise ConfigError(
            f"pooling = {config.pooling!r} and distillation_token = {config.distillation_token} "
            f"with architecture = {architecture!r}: texts are pooled as 'first' or 'mean', and "
            "have no such token"
        )
    if config.distillation_token and config.pooling == "mean":
        raise ConfigError(
            "distillation_token = True with pooling = 'mean': it stands beside a class token; use "
            "pooling = 'first'"
        )
    if vision:
        places = config.sizes().max_length
        if config.max_length not in (None, places):
            raise ConfigError(
                f"max_length = {config.max_length} with architecture = 'vision': its images have "
                f"{places} places; leave it out"
            )
        if config.image_size % config.patch_size and config.stage_layers is None:
            raise ConfigError(
                f"patch_size = {config.patch_size} does not divide image_size = "
                f"{config.image_size}; use {choices(_divisors(config.image_size))}"
            )
        if config.positions == "rotary":
            raise ConfigError(
                "positions = 'rotary' with architecture = 'vision': patches have two coordinates; "
                "use 'learned', 'sinusoidal' or 'none'"
            )
        if config.relative_buckets is not None:
            raise ConfigError(
                f"relative_buckets = {config.relative_buckets} with architecture = 'vision': "
                "patches have two coordinates; leave it out"
            )
        if config.window is not None and config.stage_layers is None:
            raise ConfigError(
                f"window = {config.window} with architecture = 'vision': patches have two "
                "coordinates; leave it out, or set stage_layers"
            )
        if config.tie_embeddings:
            raise ConfigError(
                "tie_embeddings = True with architecture = 'vision': patches are no words; "
                "use False"
            )


def _positive(field: str, value: int) -> None:
    most = MOST_LAYERS if field.endswith("layers") else _MOST
    if not 1 <= value <= most:
        raise ConfigError(f"{field} = {value}: must be at least 1 and at most {most:,}")


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
