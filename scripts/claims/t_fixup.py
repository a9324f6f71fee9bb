"""No norm and no warm-up, with T-Fixup's initialisation and without it."""

import dataclasses

from _claim import Claim, decoder
from _judging import Found, Verdict, frequencies, mean

import zoo
from zoo.variants.registry import get_variant, register_variant

SCALED, UNSCALED = "t_fixup", "t_fixup_unscaled"
DEPTHS = (6, 32)
LEARNT, WORSE = 0.5, 0.3


def register_unscaled() -> None:
    """The same network, drawn as one with norms is."""
    own = get_variant(SCALED)

    def law(context):
        return dataclasses.replace(own.law(context), init_gains=())

    def ends(context):
        return dataclasses.replace(own.ends(context), init_gains=())

    if UNSCALED not in zoo.list_variants():
        register_variant(dataclasses.replace(own, name=UNSCALED, aliases=(), law=law, ends=ends))


def comparisons(scale):
    register_unscaled()
    optim = {"warmup": 0, "schedule": "constant", "clip_norm": 1.0}
    steps, names = round(200 * scale), (SCALED, UNSCALED)
    return {
        f"{depth} layers": decoder(names, depth=depth, steps=steps, lr=(1e-3,), optim=optim)
        for depth in DEPTHS
    }


def judge(found: Found) -> Verdict:
    names = (SCALED, UNSCALED)
    scores = {label: {name: mean(made, name) for name in names} for label, made in found.items()}
    figures = {f"{name}, {label}": scores[label][name] for name in names for label in scores}
    figures["byte frequencies"] = plateau = frequencies(comparisons(1.0)[f"{DEPTHS[0]} layers"])
    scaled, unscaled = (scores[f"{DEPTHS[-1]} layers"][name] for name in names)
    all_scaled = [each[SCALED] for each in scores.values()]
    learns = None not in all_scaled and max(all_scaled) <= plateau - LEARNT
    worse = unscaled is None or (scaled is not None and unscaled >= scaled + WORSE)
    if learns and worse:
        return Verdict("confirmed", figures)
    better = unscaled is not None and (scaled is None or unscaled <= scaled - WORSE)
    return Verdict("reversed" if better else "not seen", figures)


CLAIM = Claim(
    name="t_fixup",
    statement="With T-Fixup's initialisation a Transformer trains without norms and without "
    "warm-up; the same network drawn as usual does not.",
    source="Huang et al. 2020, Improving Transformer Optimization Through Better Initialization",
    expectation="T-Fixup learns at 6 and at 32 layers; without its gains 32 layers are far worse",
    metric="held-out bits a byte after 200 steps at a constant rate of 1e-3, no warm-up, 3 seeds",
    rule=f"confirmed: T-Fixup ends {LEARNT} bits or more below byte frequencies at both depths and "
    f"{WORSE} or more below the unscaled network at 32 layers; reversed: {WORSE} or more above it",
    comparisons=comparisons,
    judge=judge,
    minutes=5,
)
