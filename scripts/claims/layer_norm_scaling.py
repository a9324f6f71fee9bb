"""LayerNorm Scaling against pre-norm, which practitioners dispute."""

from _claim import Claim, Found, Verdict, decoder, interval, mean, pair

NAMES = ("pre_norm", "layer_norm_scaling")


def comparisons(scale):
    optim = {"warmup": round(40 * scale), "schedule": "cosine", "clip_norm": 1.0}
    rates = (1e-3, 3e-3, 1e-2)
    return {"24 layers": decoder(NAMES, depth=24, steps=round(300 * scale), lr=rates, optim=optim)}


def judge(found: Found) -> Verdict:
    made = found["24 layers"]
    scores = {name: mean(made, name) for name in NAMES}
    gap = pair(made, "layer_norm_scaling", "pre_norm")
    words = {"a better": "confirmed", "b better": "reversed"}
    return Verdict(words.get(gap.verdict, "not seen"), scores, interval(gap))


CLAIM = Claim(
    name="layer_norm_scaling",
    statement="Scaling each norm's output by 1/√l gives pre-norm a lower loss.",
    source="Sun et al. 2025, The Curse of Depth (2502.05795)",
    expectation="LayerNorm Scaling ends below pre-norm at 24 layers, each at its best rate",
    metric="held-out bits a byte after 300 steps, rates 1e-3 to 1e-2 tuned, 3 fresh seeds",
    rule="confirmed or reversed: the corrected interval of the difference excludes 0",
    comparisons=comparisons,
    judge=judge,
    minutes=10,
)
