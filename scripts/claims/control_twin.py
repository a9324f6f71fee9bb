"""The same placement under two names, on other seeds, is not told apart."""

from _claim import Claim, decoder
from _judging import Found, Verdict, favoured, interval, mean, pair


def comparisons(scale):
    optim = {"warmup": round(30 * scale), "schedule": "cosine", "clip_norm": 1.0}
    # Weights are drawn from the name, so a twin's are others.
    names = ("res_post_norm", "reordered_norm")
    steps = round(150 * scale)
    return {"12 layers": decoder(names, depth=12, steps=steps, lr=(1e-3, 3e-3), optim=optim)}


def judge(found: Found) -> Verdict:
    made = found["12 layers"]
    scores = {name: mean(made, name) for name in ("res_post_norm", "reordered_norm")}
    if None in scores.values():
        return Verdict("not seen", scores)
    apart = favoured(made, *scores) is not None
    return Verdict("reversed" if apart else "confirmed", scores, interval(pair(made, *scores)))


CLAIM = Claim(
    name="control_twin",
    statement="A placement is not better than itself.",
    source="control: one placement under its two names",
    expectation="no difference is shown",
    metric="held-out bits a byte, 12 layers, 150 steps, tuned, 3 seeds",
    rule="confirmed: the corrected interval of the difference holds 0; reversed: it does not",
    comparisons=comparisons,
    judge=judge,
    control=True,
    minutes=3,
)
