"""From a config with open fields to one without, and to the placement of its variant."""

from __future__ import annotations

import dataclasses

from zoo.errors import ConfigError, choices
from zoo.models.checks import validate
from zoo.models.config import HEADS, ModelConfig, shortest_pattern, spread
from zoo.models.rotary import read_scaling, write_scaling
from zoo.models.stages import parts
from zoo.variants.placement import Placement, Presence
from zoo.variants.registry import get_variant
from zoo.variants.variant import Variant


def resolve(config: ModelConfig, placement: Placement | None = None) -> ModelConfig:
    """The same config with nothing left open.

    Args:
        placement: of this architecture and depth; default: `place(config)`.

    Raises:
        ConfigError: on a value, or a combination of values, that cannot work.
        VariantError: when the variant is not known or its options are wrong.
    """
    validate(config)
    placement = place(config) if placement is None else placement
    name = placement.variant
    stacks = parts(config)
    if [own for own, _ in placement.stacks] != list(stacks):
        raise ConfigError(
            f"architecture = {config.architecture!r}: this placement of {name} is of "
            f"{choices(own for own, _ in placement.stacks)}; use an architecture with these stacks"
        )
    for own, stack in placement.stacks:
        depth = stacks[own].depth(own)
        if len(stack.layers) != depth:
            raise ConfigError(
                f"num_layers = {depth}: this placement of {name} has "
                f"{len(stack.layers)} layers; use that"
            )
    if config.parallel_norms == "separate" and not _separable(placement):
        raise ConfigError(
            f"parallel_norms = 'separate': {name} has no plain norm on what its branches read; "
            "leave it out"
        )
    if config.qkv_gain != 1.0 and placement.base_init is not None:
        raise ConfigError(
            f"qkv_gain = {config.qkv_gain}: {name} says itself what its matrices are drawn from "
            f"({placement.base_init}); leave it out"
        )
    qk_norm = _qk_norm(config, placement, name)
    if config.qk_norm_over != "head" and not qk_norm:
        raise ConfigError(
            f"qk_norm_over = {config.qk_norm_over!r} without qk_norm; set qk_norm = True as well"
        )
    # A variant asks the same of the ends of both stacks.
    ends, pairs = placement.stacks[0][1], config.architecture == "encoder_decoder"
    embedding_norm = _end("embedding_norm", config.embedding_norm, ends.embedding_norm, name)
    if config.norm_target_tokens and not embedding_norm:
        raise ConfigError(
            "norm_target_tokens = True without a norm on the embedding; set embedding_norm = True, "
            "with a variant that allows it"
        )
    depth = max(config.depth("encoder"), config.depth("decoder"))
    attention_bias = config.attention_bias or ("all" if config.bias else "none")
    mlp_bias = config.bias if config.mlp_bias is None else config.mlp_bias
    input_bias = mlp_bias if config.mlp_input_bias is None else config.mlp_input_bias
    return dataclasses.replace(
        config,
        variant=name,
        embedding_norm=embedding_norm,
        final_norm=_end("final_norm", config.final_norm, ends.final_norm, name),
        qk_norm=qk_norm,
        window_pattern=shortest_pattern(spread(config.window_pattern, depth)),
        attention_pattern=shortest_pattern(spread(config.attention_pattern, depth)),
        rotary_pattern=shortest_pattern(spread(config.rotary_pattern, depth)),
        rotary_scaling=write_scaling(read_scaling(config.rotary_scaling)),
        attention_bias=attention_bias,
        mlp_bias=mlp_bias,
        mlp_input_bias=input_bias,
        bias=mlp_bias or input_bias or attention_bias != "none",
        head=config.head or HEADS[config.architecture][0],
        head_activation=config.head_activation or config.activation,
        stage_heads=config.heads_of_stages() if config.stage_layers else None,
        stage_trained_windows=config.trained_windows() if config.stage_layers else None,
        num_encoder_layers=config.depth("encoder") if pairs else None,
        num_decoder_layers=config.depth("decoder") if pairs else None,
        decoder_start_id=(config.decoder_start_id or 0) if pairs else None,
        share_embeddings=config.shares_embeddings() if pairs else None,
        **dataclasses.asdict(config.sizes()),
    )


def place(config: ModelConfig, variant: Variant | None = None) -> Placement:
    """The placement of this architecture at this depth; of `config.variant` unless one is given.

    Raises:
        ConfigError, VariantError: as `resolve`.
    """
    validate(config)
    chosen = get_variant(config.variant) if variant is None else variant
    if config.stage_layers is None:
        return _placed(chosen, config)
    placed = {name: _placed(chosen, stage) for name, stage in parts(config).items()}
    stacks = tuple((name, own.stacks[0][1]) for name, own in placed.items())
    return dataclasses.replace(placed["stage1"], stacks=stacks)


def _placed(chosen: Variant, config: ModelConfig) -> Placement:
    """The placement of one stack, or of both of a pair."""
    return chosen.resolve(
        config.architecture,
        num_encoder_layers=config.depth("encoder"),
        num_decoder_layers=config.depth("decoder"),
        d_model=config.d_model,
        d_ff=config.sizes().d_ff,
        num_heads=config.num_heads,
        head_dim=config.sizes().head_dim,
        layout=config.layout,
        attention_pattern=config.attention_pattern,
    )


def _separable(placement: Placement) -> bool:
    """Whether nothing but the branch reads what norm_in gives, and as it is."""
    sites = [site for _, stack in placement.stacks for layer in stack.layers for site in layer]
    plain = all(stack.stream == "plain" for _, stack in placement.stacks)
    return plain and all(
        site.norm_in is not None and site.norm_in.scale == 1.0 and not site.skip_normed
        for site in sites
    )


def _end(field: str, value: bool | None, presence: Presence, variant: str) -> bool:
    if presence == "required" and value is False:
        raise ConfigError(f"{field} = False: {variant} needs it; leave it out or set it to True")
    if presence == "forbidden" and value is True:
        raise ConfigError(f"{field} = True: {variant} forbids it; leave it out or set it to False")
    return presence == "required" if value is None else value


def _qk_norm(config: ModelConfig, placement: Placement, variant: str) -> bool:
    sites = [site for _, stack in placement.stacks for layer in stack.layers for site in layer]
    asked = {site.qk_norm for site in sites} - {None}
    if config.qk_norm is not None and asked and config.qk_norm not in asked:
        needs = "needs" if True in asked else "forbids"
        raise ConfigError(f"qk_norm = {config.qk_norm}: {variant} {needs} it; leave it out")
    return bool(config.qk_norm) if config.qk_norm is not None else True in asked
