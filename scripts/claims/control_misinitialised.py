"""DeepNorm with the initial gain of a published baseline, whose exponent has the wrong sign."""

import dataclasses

from _claim import Claim, decoder
from _judging import Found, Verdict, favoured, interval, mean, pair

import zoo
from zoo.variants.registry import get_variant, register_variant

RIGHT, WRONG = "deep_norm", "deep_norm_misinitialised"
FROZEN_ALPHA = 2.8284  # (2N)^(1/4) at N = 32, whatever the depth


def misinitialised() -> None:
    own = get_variant(RIGHT)

    def law(context, *, p):
        site = own.law(context, p=p)
        gains = tuple((role, 1.0 / gain) for role, gain in site.init_gains)
        skip = dataclasses.replace(site.skip, value=FROZEN_ALPHA)
        return dataclasses.replace(site, init_gains=gains, skip=skip)

    if WRONG not in zoo.list_variants():
        register_variant(dataclasses.replace(own, name=WRONG, aliases=(), law=law))


def comparisons(scale):
    misinitialised()
    optim = {"warmup": round(40 * scale), "schedule": "cosine", "clip_norm": 1.0}
    steps, rates = round(200 * scale), (3e-4, 1e-3, 3e-3)
    names = (RIGHT, WRONG)
    made = decoder(names, depth=48, steps=steps, lr=rates, optim=optim, extend=1)
    return {"48 layers": made}


def judge(found: Found) -> Verdict:
    made = found["48 layers"]
    scores = {name: mean(made, name) for name in (RIGHT, WRONG)}
    word = {RIGHT: "confirmed", WRONG: "reversed"}.get(favoured(made, RIGHT, WRONG), "not seen")
    return Verdict(word, scores, interval(pair(made, RIGHT, WRONG)))


CLAIM = Claim(
    name="control_misinitialised",
    statement="DeepNorm drawn with the inverse of its initial gain is worse than DeepNorm.",
    source="control: the baseline in the public code of Mix-LN and LayerNorm Scaling",
    expectation="worse at 48 layers, each at its best rate",
    metric="held-out bits a byte after 200 steps, rates 3e-4 to 3e-3 tuned, 3 fresh seeds",
    rule="confirmed: the corrected interval of the difference excludes 0, or only its runs are "
    "lost; reversed: the same the other way round",
    comparisons=comparisons,
    judge=judge,
    control=True,
    minutes=12,
)
