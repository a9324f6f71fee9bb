"""DeepNorm bounds how far a step moves a model, whatever its depth."""

import update_law
from _claim import Claim
from _judging import Found, Verdict

DEPTHS = (6, 24, 96)


def judge(_: Found) -> Verdict:
    moved = {
        name: [update_law.measure(name, depth)["sgd"] for depth in DEPTHS]
        for name in ("deep_norm", "post_norm")
    }
    ratios = {name: values[-1] / values[0] for name, values in moved.items()}
    figures = {f"{name}, 96 to 6 layers": ratio for name, ratio in ratios.items()}
    flat, grows = 0.5 <= ratios["deep_norm"] <= 2.0, ratios["post_norm"] >= 10.0
    if flat and grows:
        return Verdict("confirmed", figures)
    reverse = ratios["deep_norm"] > ratios["post_norm"]
    return Verdict("reversed" if reverse else "not seen", figures)


CLAIM = Claim(
    name="update_size",
    statement="One step moves a DeepNorm model by Θ(η) at any depth; post-norm's grows with it.",
    source="Wang et al. 2022, DeepNet (2203.00555), section 4; Liu et al. 2020, Admin",
    expectation="96 layers move as far as 6 with DeepNorm, tens of times further with post-norm",
    metric="relative change of the stack's output after one step of gradient descent, 3 seeds",
    rule="confirmed: ratio of 96 to 6 layers within 0.5 to 2 and at least 10; "
    "reversed: DeepNorm's is the larger",
    comparisons=lambda scale: {},
    judge=judge,
    minutes=2,
)
