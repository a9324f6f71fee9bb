"""DeepNorm trains at a hundred layers, where post-norm does not."""

from _claim import Claim, decoder
from _judging import Found, Verdict, frequencies, interval, mean, pair

DEEP, POST = "deep_norm", "post_norm"
# Bits a byte by which a model must beat the frequencies of single bytes to count as training.
LEARNS = 0.15


def comparisons(scale):
    names = (POST, DEEP, "pre_norm", "keel")
    optim = {"warmup": round(50 * scale), "schedule": "cosine", "clip_norm": 1.0}
    return {
        "100 layers": decoder(names, depth=100, steps=round(200 * scale), lr=(1e-3,), optim=optim)
    }


def judge(found: Found) -> Verdict:
    made = found["100 layers"]
    scores = {name: mean(made, name) for name in (POST, DEEP, "pre_norm", "keel")}
    gap = pair(made, DEEP, POST)
    plateau = frequencies(comparisons(1.0)["100 layers"])
    trains = scores[DEEP] is not None and scores[DEEP] < plateau - LEARNS
    stuck = scores[POST] is None or scores[POST] >= plateau - LEARNS
    word = "confirmed" if trains and stuck else "not seen"
    if stuck is False and not trains:
        word = "reversed"
    figures = {**scores, "byte frequencies": plateau}
    return Verdict(word, figures, interval(gap))


CLAIM = Claim(
    name="deep_norm_depth",
    statement="DeepNorm trains very deep models at rates where post-norm fails.",
    source="Wang et al. 2022, DeepNet (2203.00555), section 5",
    expectation="at 100 layers post-norm stays at byte frequencies, DeepNorm leaves them",
    metric="held-out bits a byte after 200 steps at rate 1e-3, warm-up 50, 3 seeds",
    rule=f"confirmed: DeepNorm {LEARNS} bits below byte frequencies and post-norm not; "
    "reversed: the other way round",
    comparisons=comparisons,
    judge=judge,
    minutes=10,
)
