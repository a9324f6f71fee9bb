"""Finding variants by name: canonical names, aliases, ambiguous words, and users' own."""

from __future__ import annotations

from zoo.errors import VariantError, choices, near_matches
from zoo.variants.plain import PLAIN
from zoo.variants.streams import STREAM_VARIANTS
from zoo.variants.variant import Variant, fold_name, parse_spec

# Words that the literature uses for several of these; never guessed.
_AMBIGUOUS = {
    "post": ("post_norm", "res_post_norm", "deep_norm"),
    "pre": ("pre_norm", "sandwich_norm", "peri_norm"),
    "norm": ("post_norm", "pre_norm"),
    "layernorm": ("post_norm", "pre_norm"),
    "ln": ("post_norm", "pre_norm"),
    "sandwich": ("sandwich_norm", "peri_norm"),
    "respost": ("res_post_norm", "swin_v2_norm"),
    "residualpostnorm": ("res_post_norm", "post_norm"),
    "doublenorm": ("sandwich_norm", "peri_norm"),
    "bertnorm": ("post_norm",),
    "sublayernorm": ("sub_ln", "post_norm"),
    "mix": ("mix_norm",),
    "deep": ("deep_norm", "glm_deep_norm"),
    # A name of weights: the norm before the MLP in LLaMA, after attention in OLMo 2 and Gemma,
    # the one whose output is also the skip in MiniMax-01.
    "postattentionlayernorm": ("pre_norm", "res_post_norm", "sandwich_norm", "minimax_post_norm"),
}

_registered: dict[str, Variant] = {}


def register_variant(variant: Variant) -> Variant:
    """Make a variant of one's own known by its name and aliases, and return it.

    Raises:
        VariantError: when a name is taken, ambiguous, or not made of letters, digits and `_`.
    """
    known = _owners()
    for name in (variant.name, *variant.aliases):
        if not name.replace("_", "").isalnum() or name != name.lower():
            raise VariantError(f"variant name {name!r}: use lower-case letters, digits and _")
        if fold_name(name) in _AMBIGUOUS:
            raise VariantError(f"variant name {name!r} is ambiguous; choose another")
        owner = known.get(fold_name(name))
        if owner is not None and owner != variant:
            raise VariantError(f"variant name {name!r} is taken by {owner.name}; choose another")
    if variant not in known.values():
        _registered[variant.name] = variant
    return variant


def list_variants() -> list[str]:
    """Canonical names, in the order of the tables."""
    return [variant.name for variant in _all()]


def get_variant(spec: str | Variant) -> Variant:
    """The variant of a name or `name(option=value)`; case, hyphens and underscores fold.

    Raises:
        VariantError: naming the candidates of an ambiguous word, or the near matches of
            a misspelt one.
    """
    if isinstance(spec, Variant):
        return spec
    if not isinstance(spec, str):
        raise VariantError(f"variant = {spec!r}: use a name, name(option=value) or a Variant")
    name, options = parse_spec(spec)
    owners = _owners()
    folded = fold_name(name)
    if folded in owners:
        return owners[folded].with_options(**options)
    if folded in _AMBIGUOUS:
        candidates = _AMBIGUOUS[folded]
        raise VariantError(f"variant = {name!r} is ambiguous; say {choices(candidates)}")
    words = [word for variant in _all() for word in (variant.name, *variant.aliases)]
    hint = near_matches(name.lower().replace("-", "_"), words)
    raise VariantError(f"variant = {name!r} is not known{hint}; known: {choices(list_variants())}")


def is_known(spec: str) -> bool:
    """Whether the name in `name(option=value)` belongs to a variant in this process."""
    name, _ = parse_spec(spec)
    return fold_name(name) in _owners()


def is_own(spec: str) -> bool:
    """Whether a variant is not the zoo's: other processes do not know it until they register it."""
    return get_variant(spec).name in _registered


def _owners() -> dict[str, Variant]:
    """Every name and alias, folded."""
    return {fold_name(name): owner for owner in _all() for name in (owner.name, *owner.aliases)}


def _all() -> list[Variant]:
    return [*PLAIN, *STREAM_VARIANTS, *_registered.values()]
