"""Post-norm needs warm-up at rates that pre-norm takes without."""

from _claim import Claim, decoder
from _judging import Found, Verdict, mean

NAMES = ("post_norm", "pre_norm")
WORSE, SAME = 0.3, 0.1


def comparisons(scale):
    def made(warmup: int):
        optim = {"warmup": warmup, "schedule": "constant", "clip_norm": 1.0}
        return decoder(NAMES, depth=6, steps=round(300 * scale), lr=(3e-3,), optim=optim)

    return {"without warm-up": made(0), "with warm-up": made(round(100 * scale))}


def judge(found: Found) -> Verdict:
    scores = {label: {name: mean(made, name) for name in NAMES} for label, made in found.items()}
    figures = {f"{name} {label}": scores[label][name] for name in NAMES for label in scores}
    if None in scores["with warm-up"].values() or scores["without warm-up"]["pre_norm"] is None:
        return Verdict("not seen", figures)
    lost = {}
    for name in NAMES:
        without, warm = (scores[label][name] for label in ("without warm-up", "with warm-up"))
        lost[name] = float("inf") if without is None else without - warm
    figures |= {f"{name}, lost without": value for name, value in lost.items()}
    if lost["post_norm"] >= WORSE and lost["pre_norm"] <= SAME:
        return Verdict("confirmed", figures)
    return Verdict("reversed" if lost["pre_norm"] > lost["post_norm"] else "not seen", figures)


CLAIM = Claim(
    name="warmup",
    statement="Post-norm needs learning-rate warm-up; pre-norm does not.",
    source="Xiong et al. 2020, On Layer Normalization in the Transformer (2002.04745)",
    expectation="without warm-up post-norm ends far above itself with it, and pre-norm does not",
    metric="held-out bits a byte, 6 layers, 300 steps at a constant rate of 3e-3, warm-up 0 or "
    "100, 3 seeds",
    rule=f"confirmed: post-norm loses {WORSE} bits or more without, pre-norm {SAME} or less; "
    "reversed: pre-norm loses more",
    comparisons=comparisons,
    judge=judge,
    minutes=4,
)
