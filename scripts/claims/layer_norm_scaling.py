"""LayerNorm Scaling against pre-norm, which practitioners dispute."""

from _claim import Claim, decoder
from _judging import Found, Verdict, favoured, interval, mean, pair

SCALED, PLAIN = NAMES = ("layer_norm_scaling", "pre_norm")


def comparisons(scale):
    optim = {"warmup": round(40 * scale), "schedule": "cosine", "clip_norm": 1.0}
    rates = (1e-3, 3e-3, 1e-2)
    steps = round(300 * scale)
    return {"24 layers": decoder(NAMES, depth=24, steps=steps, lr=rates, optim=optim, extend=1)}


def judge(found: Found) -> Verdict:
    made = found["24 layers"]
    scores = {name: mean(made, name) for name in NAMES}
    word = {SCALED: "confirmed", PLAIN: "reversed"}.get(favoured(made, SCALED, PLAIN), "not seen")
    return Verdict(word, scores, interval(pair(made, SCALED, PLAIN)))


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
