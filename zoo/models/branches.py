"""The branch F of a sublayer: attention, MLP, or both side by side."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import nnx

from zoo.errors import ConfigError
from zoo.layers.attention import Attention, Scope
from zoo.layers.experts import Experts
from zoo.layers.linear import Scale
from zoo.layers.linear_attention import LinearAttention
from zoo.layers.mlp import MLP
from zoo.layers.norms import NormSpec
from zoo.layers.past import Past
from zoo.layers.relative import RelativeBias
from zoo.layers.shifted_windows import WindowAttention
from zoo.models.config import ModelConfig
from zoo.models.stages import Stage
from zoo.variants.placement import Multiplier, Site
from zoo.variants.streams.base import filled, make_norm


class ParallelBranch(nnx.Module):
    """Attention and MLP of the same input, added (GPT-J; PaLM, 2204.02311, section 2).

    With separate norms each reads its own norm of x (GPT-NeoX, 2204.06745, section 2.1), which
    then stands here instead of the one that the site has for both.
    """

    def __init__(self, site: Site, config: ModelConfig) -> None:
        self.attention = _attention(site, config)
        self.mlp = _mlp(site, config)
        if config.parallel_norms == "separate" and site.norm_in is not None:
            slot, norm = site.norm_in, config.norm_spec()
            self.attention_norm = make_norm(slot, "norm_in", config.d_model, norm)
            self.mlp_norm = make_norm(slot, "norm_in", config.d_model, norm)

    def __call__(self, x: jax.Array, scope: Scope, **settings: Any) -> jax.Array:
        """[batch, length, d_model] to the same shape; settings as of `Attention`."""
        return self.attention(self._attended(x), scope, **settings) + self._mapped(x)

    def remember(
        self, x: jax.Array, scope: Scope, past: Past | None, **settings: Any
    ) -> tuple[jax.Array, Past]:
        """As that of the attention."""
        mixed, past = self.attention.remember(self._attended(x), scope, past, **settings)
        return mixed + self._mapped(x), past

    def weights(self, x: jax.Array, scope: Scope, **settings: Any) -> jax.Array:
        """Those of the attention."""
        return self.attention.weights(self._attended(x), scope, **settings)

    def values(self, x: jax.Array) -> jax.Array:
        """Those of the attention."""
        return self.attention.values(self._attended(x))

    def _attended(self, x: jax.Array) -> jax.Array:
        """What attention reads."""
        return self.attention_norm(x) if hasattr(self, "attention_norm") else x

    def _mapped(self, x: jax.Array) -> jax.Array:
        """The MLP's part."""
        return self.mlp(self.mlp_norm(x) if hasattr(self, "mlp_norm") else x)


def outside(site: Site, config: ModelConfig) -> Site:
    """What is left of a site around its branch."""
    if site.sublayer != "parallel" or config.parallel_norms == "shared":
        return site
    return dataclasses.replace(site, norm_in=None)


def make_branch(
    site: Site, config: ModelConfig
) -> Attention | LinearAttention | MLP | Experts | ParallelBranch | WindowAttention:
    """What a site is around, with all that the site asks of it.

    Raises:
        ConfigError: on what the site asks for and its branch does not have.
    """
    match site.sublayer:
        case "linear_attention":
            return _linear_attention(site, config)
        case "mlp":
            return _mlp(site, config)
        case "parallel":
            return ParallelBranch(site, config)
        case _:
            attention = _attention(site, config)
            if isinstance(config, Stage):
                return WindowAttention(attention, config.grid)
            return attention


def _linear_attention(site: Site, config: ModelConfig) -> LinearAttention:
    qk_norm = config.qk_norm if site.qk_norm is None else site.qk_norm
    _refuse(
        "linear attention",
        qk_norm=qk_norm,
        inner_norm=site.inner_norm,
        v_norm=site.v_norm,
        qk_unit=site.qk_unit,
        qk_scale=site.qk_scale,
        head_scale=site.head_scale,
        score_scale=site.score_scale,
        scalar_biases=site.scalar_biases,
    )
    return LinearAttention(
        config.d_model,
        num_heads=config.num_heads,
        head_dim=config.sizes().head_dim,
        activation=config.activation,
    )


def _refuse(kind: str, **asked: Any) -> None:
    for field, value in asked.items():
        if value:
            raise ConfigError(f"{field} is asked for, and {kind} has none; leave it out")


def _mlp(site: Site, config: ModelConfig) -> MLP | Experts:
    if config.num_experts is not None:
        asked = (site.inner_norm, site.hidden_scale, site.scalar_biases)
        names = ("inner_norm", "hidden_scale", "scalar_biases")
        _refuse("a mixture of experts", **dict(zip(names, asked, strict=True)))
        return Experts(
            config.d_model,
            config.sizes().d_ff,
            count=config.num_experts,
            chosen=config.experts_per_token,
            renormalised=config.experts_renormalised,
            activation=config.activation,
        )
    return MLP(
        config.d_model,
        config.sizes().d_ff,
        activation=config.activation,
        gated=config.gated,
        bias=config.bias if config.mlp_bias is None else config.mlp_bias,
        input_bias=config.mlp_input_bias,
        inner_norm=_inner_norm(site, config),
        hidden_scale=_scale(site.hidden_scale),
        scalar_biases=site.scalar_biases,
    )


def _attention(site: Site, config: ModelConfig) -> Attention:
    norm, sizes = config.norm_spec(), config.sizes()
    relative = None
    if config.relative_per_layer and site.sublayer != "cross_attention":
        assert config.relative_buckets is not None
        relative = make_relative(config, config.relative_buckets)
    qk_norm = config.qk_norm if site.qk_norm is None else site.qk_norm
    return Attention(
        config.d_model,
        num_heads=config.num_heads,
        num_kv_heads=sizes.num_kv_heads,
        head_dim=sizes.head_dim,
        bias=config.attention_bias or ("all" if config.bias else "none"),
        qk_norm=norm if qk_norm else None,
        qk_norm_over=config.qk_norm_over,
        inner_norm=_inner_norm(site, config),
        dropout=config.attention_dropout,
        implementation=config.attention,
        cross=site.sublayer == "cross_attention",
        v_norm=norm if site.v_norm else None,
        qk_unit=site.qk_unit,
        qk_scale=_scale(site.qk_scale),
        scale=config.attention_scale if site.attention_scale is None else site.attention_scale,
        head_scale=site.head_scale,
        score_scale=site.score_scale,
        scalar_biases=site.scalar_biases,
        softcap=config.attention_softcap,
        relative=relative,
    )


def make_relative(config: ModelConfig, buckets: int) -> RelativeBias:
    """A table of relative positions, of one layer or of a whole stack."""
    return RelativeBias(
        config.num_heads, buckets=buckets, max_distance=config.relative_max_distance
    )


def _inner_norm(site: Site, config: ModelConfig) -> NormSpec | None:
    return None if site.inner_norm is None else filled(site.inner_norm, config.norm_spec())


def _scale(multiplier: Multiplier | None) -> Scale | None:
    return None if multiplier is None else Scale(multiplier.start, multiplier.number)
