"""Which placements stand the largest learning rates: one ramp each."""

from _claim import Claim, decoder
from _judging import Found, Verdict, curve, finals

NAMES = ("post_norm", "deep_norm", "hybrid_norm", "mix_norm", "pre_norm", "keel")
STEPS, PEAK, RISE = 400, 5e-2, 0.3


def comparisons(scale):
    steps = round(STEPS * scale)
    optim = {"warmup": steps, "schedule": "constant", "clip_norm": 1.0}
    return {"ramp": decoder(NAMES, depth=64, steps=steps, lr=(PEAK,), seeds=1, optim=optim)}


def tolerated(made, name) -> float:
    """The rate at which the smoothed loss stands 0.3 nats above its least; the peak if never."""
    (row,) = finals(made, name)
    smooth, least = None, float("inf")
    for each in curve(made, row):
        smooth = each["loss"] if smooth is None else 0.8 * smooth + 0.2 * each["loss"]
        least = min(least, smooth)
        if smooth > least + RISE:
            return PEAK * each["step"] / row.steps
    if row.status != "finished":
        return PEAK * max((each["step"] for each in curve(made, row)), default=0) / row.steps
    return PEAK


def judge(found: Found) -> Verdict:
    rates = {name: tolerated(found["ramp"], name) for name in NAMES}
    post = max(rates["post_norm"], rates["deep_norm"])
    mixed = (rates["hybrid_norm"], rates["mix_norm"])
    if post < min(mixed) and max(mixed) < rates["pre_norm"] <= 1.1 * rates["keel"]:
        return Verdict("confirmed", rates)
    reverse = post > rates["pre_norm"] or post > rates["keel"]
    return Verdict("reversed" if reverse else "not seen", rates)


CLAIM = Claim(
    name="largest_rate",
    statement="The largest tolerable rate grows from post-norm and DeepNorm over Mix-LN and "
    "HybridNorm to pre-norm and KEEL.",
    source="KEEL (2601.19895), table 1",
    expectation="post, DeepNorm < Mix-LN, HybridNorm < pre-norm ≤ KEEL at 64 layers",
    metric=f"rate of a linear ramp to {PEAK} at which the smoothed loss stands {RISE} nats above "
    "its least, one seed",
    rule="confirmed: the order holds (KEEL may be a tenth below pre-norm); reversed: post-norm or "
    "DeepNorm stands more than pre-norm or KEEL",
    comparisons=comparisons,
    judge=judge,
    minutes=8,
)
