"""A norm on the branch's output alone needs norms on queries and keys."""

import dataclasses

from _claim import Claim, decoder
from _judging import Found, Verdict, curve, favoured, finals, interval, mean, pair

import zoo
from zoo.variants.registry import get_variant, register_variant

WITH = "res_post_norm"
WITHOUT = "res_post_norm_without_qk_norm"


def without_qk_norm() -> None:
    own = get_variant(WITH)

    def law(context):
        return dataclasses.replace(own.law(context), qk_norm=False)

    if WITHOUT not in zoo.list_variants():
        register_variant(dataclasses.replace(own, name=WITHOUT, aliases=(), law=law))


def comparisons(scale):
    without_qk_norm()
    optim = {"warmup": round(30 * scale), "schedule": "cosine", "clip_norm": 1.0}
    steps = round(200 * scale)
    return {"24 layers": decoder((WITH, WITHOUT), depth=24, steps=steps, lr=(3e-3,), optim=optim)}


def first_gradient(made, name) -> float:
    norms = sorted(curve(made, row)[0]["grad_norm"] for row in finals(made, name))
    return norms[len(norms) // 2]


def judge(found: Found) -> Verdict:
    made = found["24 layers"]
    norms = {name: first_gradient(made, name) for name in (WITH, WITHOUT)}
    scores = {name: mean(made, name) for name in (WITH, WITHOUT)}
    figures = {f"first gradient, {name}": norm for name, norm in norms.items()}
    figures |= {f"bits a byte, {name}": score for name, score in scores.items()}
    explodes, better = norms[WITHOUT] > 10 * norms[WITH], favoured(made, WITH, WITHOUT)
    confirmed = explodes and better == WITH
    word = "confirmed" if confirmed else "reversed" if better == WITHOUT else "not seen"
    return Verdict(word, figures, interval(pair(made, WITH, WITHOUT)))


CLAIM = Claim(
    name="reordered_norm_needs_qk_norm",
    statement="With the norm on the branch's output alone, training needs query and key norms.",
    source="Liu et al. 2021, Swin v2 (2111.09883); OLMo 2 (2501.00656)",
    expectation="without them the first gradient is tens of times larger and the loss higher",
    metric="norm of the first gradient; held-out bits a byte, 24 layers, 200 steps at 3e-3, "
    "3 seeds",
    rule="confirmed: first gradient over 10 times larger without, and better with; "
    "reversed: better without",
    comparisons=comparisons,
    judge=judge,
    minutes=5,
)
