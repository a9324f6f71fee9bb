"""Post-norm and its stabilised kin at three times the depth that it was made for."""

from _claim import MULTI30K, Claim, translation
from _judging import Found, Verdict, favoured, mean

POST, PRE = "post_norm", "pre_norm"
STABILISED = ("deep_norm", "admin", "b2t", "residual_dual")


def comparisons(scale):
    names = (POST, PRE, *STABILISED)
    return {"18 + 18 layers": translation(names, depth=18, steps=round(600 * scale))}


def judge(found: Found) -> Verdict:
    made = found["18 + 18 layers"]
    scores = {name: mean(made, name) for name in (POST, PRE, *STABILISED)}
    better = {name: favoured(made, POST, name) for name in STABILISED}
    figures = scores | {
        f"shown better, {POST} and {name}": found or "neither" for name, found in better.items()
    }
    behind = sum(found == name for name, found in better.items())
    if sum(found == POST for found in better.values()) > behind:
        return Verdict("reversed", figures)
    return Verdict("confirmed" if behind == len(STABILISED) else "not seen", figures)


CLAIM = Claim(
    name="translation_deep",
    statement="At 18 + 18 layers post-norm falls behind the placements that stabilise it.",
    source="Liu et al. 2020, Admin (2004.08249); Xie et al. 2023, ResiDual (2304.14802); "
    "Takase et al. 2022, B2T (2206.00330); Wang et al. 2022, DeepNet (2203.00555)",
    expectation="DeepNorm, Admin, B2T and ResiDual each translate better than post-norm",
    metric="sacrebleu of 4 beams on test_2016_flickr, English to German, 600 steps, rates "
    "5e-4 to 4e-3 tuned by halving on held-out loss, 3 fresh seeds",
    rule="confirmed: each of the four is shown better by the corrected interval, or post-norm "
    "fails where it does not; reversed: more are shown worse than better",
    comparisons=comparisons,
    judge=judge,
    minutes=120,
    files=MULTI30K,
)
