"""Variants: laws with options, and the context that the laws may look at."""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from zoo.errors import VariantError, choices, near_matches
from zoo.variants.placement import (
    BaseInit,
    Hook,
    Option,
    Placement,
    Presence,
    Site,
    StackPlacement,
)

Architecture = Literal["encoder", "decoder", "encoder_decoder", "vision"]
Stack = Literal["encoder", "decoder"]
Layout = Literal["sequential", "parallel"]

# Deeper stacks are refused: a placement tells of each layer, which alone takes minutes.
MOST_LAYERS = 10_000
# The sublayers of a layer, per architecture and stack.
SUBLAYERS: dict[Architecture, dict[Stack, tuple[str, ...]]] = {
    "encoder": {"encoder": ("self_attention", "mlp")},
    "decoder": {"decoder": ("self_attention", "mlp")},
    "vision": {"encoder": ("self_attention", "mlp")},
    "encoder_decoder": {
        "encoder": ("self_attention", "mlp"),
        "decoder": ("self_attention", "cross_attention", "mlp"),
    },
}


@dataclasses.dataclass(frozen=True)
class Context:
    """What a law may look at.

    Attributes:
        architecture, stack: of the model, and of this stack within it.
        num_encoder_layers, num_decoder_layers: N and M of the papers, counted in
            layers; 0 for a stack that the architecture lacks.
        sublayers: the sublayers of one layer of this stack, in order.
        sublayer: the one that is asked about.
        layer_index: from 0, or None when a sublayer is resolved by itself.
        d_model, d_ff, num_heads, head_dim: widths; 0 when not known.
        attention_pattern: S (softmax) or L (linear attention) per layer, repeated over the depth.
    """

    architecture: Architecture
    stack: Stack
    num_encoder_layers: int
    num_decoder_layers: int
    sublayers: tuple[str, ...]
    sublayer: str
    layer_index: int | None
    d_model: int = 0
    d_ff: int = 0
    num_heads: int = 0
    head_dim: int = 0
    attention_pattern: str = "S"

    def in_layer(self, layer: int) -> Context:
        """The context of one layer, in which linear attention may stand for the other kind."""
        linear = self.attention_pattern[layer % len(self.attention_pattern)] == "L"
        kinds = {"self_attention": "linear_attention"} if linear else {}
        sublayers = tuple(kinds.get(each, each) for each in self.sublayers)
        return dataclasses.replace(self, layer_index=layer, sublayers=sublayers)

    @property
    def num_layers(self) -> int:
        """Layers of this stack."""
        return self.num_encoder_layers if self.stack == "encoder" else self.num_decoder_layers

    @property
    def num_sublayers(self) -> int:
        """Sublayers of this whole stack."""
        return self.num_layers * len(self.sublayers)

    @property
    def sublayer_index(self) -> int:
        """The sublayer's index from 0 in the whole stack."""
        return self.layer * len(self.sublayers) + self.sublayers.index(self.sublayer)

    @property
    def layer(self) -> int:
        """The layer's index from 0; a law that asks for it cannot be resolved without one."""
        if self.layer_index is None:
            raise VariantError("layer = None: this variant's law needs the layer; give layer=0, 1…")
        return self.layer_index


@dataclasses.dataclass(frozen=True)
class Paper:
    """Where a variant comes from.

    Attributes:
        title, year, venue: as published.
        authors: `Last, First` each, a team in braces, `others` for the rest of a long list.
        arxiv: its number there, empty for what is not there.
        key: of the BibTeX entry.
        url: where to read what has no arXiv number: proceedings, a repository, a model card.
    """

    title: str
    authors: tuple[str, ...]
    year: int
    arxiv: str
    key: str
    venue: str = ""
    url: str = ""

    @property
    def link(self) -> str:
        """Where to read it."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url

    def bibtex(self) -> str:
        lines = [
            f"  title = {{{self.title}}},",
            f"  author = {{{' and '.join(self.authors)}}},",
            f"  year = {{{self.year}}},",
        ]
        if self.arxiv:
            lines += [f"  eprint = {{{self.arxiv}}},", "  archivePrefix = {arXiv},"]
        else:
            lines.append(f"  url = {{{self.url}}},")
        if self.venue:
            lines.append(f"  note = {{{self.venue}}},")
        return "\n".join([f"@article{{{self.key},", *lines, "}"])


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the paper trains the variant; a setting left None in a run takes these.

    Attributes:
        warmup: warm-up updates of the paper (a run takes at most a quarter of its own).
        warmup_fraction: warm-up as a share of the run, where the paper says so.
        lr, schedule, beta2, weight_decay, clip_norm: None where the paper gives no
            advice that is particular to the placement.
        source: where the figures come from.
    """

    warmup: int | None = None
    warmup_fraction: float | None = None
    lr: float | None = None
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt", "wsd"] | None = None
    beta2: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    source: str = ""


Law = Callable[..., Site]
Ends = Callable[..., StackPlacement]
Provenance = Literal["first_hand", "second_hand"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named placement.

    Attributes:
        name: canonical name, lower case with underscores.
        summary: one line for tables.
        equation: of one sublayer, in plain text.
        law: `law(context, **options) -> Site`.
        embedding_norm, final_norm: what the ends of every stack require.
        ends: `ends(context, **options) -> StackPlacement` without layers, for a stack that
            has more to its ends than these two, or whose stream has settings.
        options: names and defaults of the law's options.
        given: the options that were asked for with another value than their default.
        aliases: other names of exactly this placement.
        stream: a name in `zoo.variants.streams`.
        check: `check(**options)`, raising VariantError on a value that makes no sense; it may
            return those that have more than one spelling in their canonical one.
        failure: what is known of when it fails, for `describe`.
        base_init, hooks: as in `Placement`.
        provenance: whether the equations were read in the paper or its code, or in other texts.
        note: where this differs from a publication, or what was not to be found in one.
        used_by: published models with this placement.
    """

    name: str
    summary: str
    equation: str
    law: Law
    paper: Paper
    recipe: Recipe = Recipe()
    embedding_norm: Presence = "free"
    final_norm: Presence = "free"
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    stream: str = "plain"
    check: Callable[..., Mapping[str, Option] | None] | None = None
    failure: str = ""
    ends: Ends | None = None
    base_init: BaseInit | None = None
    hooks: tuple[Hook, ...] = ()
    provenance: Provenance = "first_hand"
    note: str = ""
    used_by: tuple[str, ...] = ()
    given: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Variant {self.spec}>"

    @property
    def values(self) -> dict[str, Option]:
        """What the law is called with: every option, given or not."""
        return {**self.options, **self.given}

    @property
    def spec(self) -> str:
        """The one way to write it: `name`, or `name(option=value)` for options that were given."""
        inside = ", ".join(f"{name}={value!r}" for name, value in self.given.items())
        return f"{self.name}({inside})" if inside else self.name

    def with_options(self, **options: Option) -> Variant:
        """The same variant with other option values; unknown names and wrong types are refused."""
        values = self.values
        for name, value in options.items():
            if name not in values:
                raise VariantError(
                    f"{self.name} has no option {name!r}{near_matches(name, values)}; "
                    f"its options: {choices(values)}"
                )
            values[name] = _like(self.name, name, value, self.options[name])
        if self.check is not None:
            values |= self.check(**values) or {}
        given = {name: value for name, value in values.items() if value != self.options[name]}
        return dataclasses.replace(self, given=given)

    def site(self, context: Context) -> Site:
        """The resolved site of one sublayer."""
        site = self.law(context, **self.values)
        return dataclasses.replace(
            site,
            init_gains=tuple(sorted(site.init_gains)),
            lr_multipliers=tuple(sorted(site.lr_multipliers)),
            decay_multipliers=tuple(sorted(site.decay_multipliers)),
        )

    def stack_ends(self, context: Context) -> StackPlacement:
        """The ends of one stack: a placement without layers."""
        if self.ends is not None:
            return self.ends(context, **self.values)
        return StackPlacement(embedding_norm=self.embedding_norm, final_norm=self.final_norm)

    def stack(self, context: Context) -> StackPlacement:
        """One resolved stack."""
        layers = tuple(
            tuple(
                self.site(dataclasses.replace(own, sublayer=sublayer)) for sublayer in own.sublayers
            )
            for own in map(context.in_layer, range(context.num_layers))
        )
        return dataclasses.replace(self.stack_ends(context), layers=layers, stream=self.stream)

    def resolve(
        self,
        architecture: Architecture,
        *,
        num_encoder_layers: int = 0,
        num_decoder_layers: int = 0,
        d_model: int = 0,
        d_ff: int = 0,
        num_heads: int = 0,
        head_dim: int = 0,
        layout: Layout = "sequential",
        attention_pattern: str = "S",
    ) -> Placement:
        """The placement of a whole model.

        Args:
            layout: `parallel`: attention and MLP are one sublayer, so a layer counts as one.
            attention_pattern: as in `Context`.
        """
        resolved = []
        for stack, own in SUBLAYERS[architecture].items():
            sublayers = ("parallel",) if layout == "parallel" else own
            context = Context(
                architecture=architecture,
                stack=stack,
                num_encoder_layers=num_encoder_layers,
                num_decoder_layers=num_decoder_layers,
                sublayers=sublayers,
                sublayer=sublayers[0],
                layer_index=0,
                d_model=d_model,
                d_ff=d_ff,
                num_heads=num_heads,
                head_dim=head_dim or (d_model // num_heads if num_heads else 0),
                attention_pattern=attention_pattern,
            )
            resolved.append((stack, self.stack(context)))
        return Placement(self.spec, tuple(resolved), base_init=self.base_init, hooks=self.hooks)


def _like(variant: str, name: str, value: Option, default: Option) -> Option:
    """`value` in the type of `default`; an int may stand for a float and nothing else mixes."""
    if isinstance(default, float) and _is_number(value):
        return float(value)  # type: ignore[arg-type]
    if isinstance(default, tuple) and isinstance(value, tuple | list):
        if len(value) == len(default) and all(_is_number(each) for each in value):
            return tuple(float(each) for each in value)
    elif type(value) is type(default) and not isinstance(default, float):
        return value
    kinds: dict[type, str] = {bool: "a bool", float: "a finite number", int: "an int", str: "text"}
    kind = kinds.get(type(default), "")
    if isinstance(default, tuple):
        kind = f"{len(default)} finite numbers"
    raise VariantError(f"{variant}({name}={value!r}): {name} takes {kind}, as {default!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fold_name(name: str) -> str:
    """A name without what spellings differ in: case, `_`, `-` and spaces."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name` or `name(option=value, ...)`; the one parser of this notation.

    Raises:
        VariantError: when the text is neither.
    """
    name, bracket, inside = spec.strip().partition("(")
    if not bracket:
        return name.strip(), {}
    accepted = "accepted: name or name(option=value, ...)"
    try:
        call = ast.parse(f"f({inside}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("not one call with options by name")
        options = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        if None in options or len(options) < len(call.keywords):
            raise ValueError("an option without a name, or twice")
    except (SyntaxError, TypeError, ValueError) as error:
        raise VariantError(f"variant = {spec!r} cannot be read; {accepted}") from error
    return name.strip(), {str(option): value for option, value in options.items()}
