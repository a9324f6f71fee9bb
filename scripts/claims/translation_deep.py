"""Post-norm and its stabilised kin at three times the depth that it was made for."""

from _claim import MULTI30K, Claim, Found, Verdict, mean, pair, translation

POST, PRE = "post_norm", "pre_norm"
STABILISED = ("deep_norm", "admin", "b2t", "residual_dual")


def comparisons(scale):
    names = (POST, PRE, *STABILISED)
    return {"18 + 18 layers": translation(names, depth=18, steps=round(600 * scale))}


def judge(found: Found) -> Verdict:
    made = found["18 + 18 layers"]
    scores = {name: mean(made, name) for name in (POST, PRE, *STABILISED)}
    verdicts = {}
    for name in STABILISED:
        if scores[name] is None:
            verdicts[name] = "a better" if scores[POST] is not None else "no verdict"
        elif scores[POST] is None:
            verdicts[name] = "b better"
        else:
            verdicts[name] = pair(made, POST, name).verdict
    figures = scores | {f"{POST} against {name}": word for name, word in verdicts.items()}
    ahead = sum(word == "b better" for word in verdicts.values())
    behind = sum(word == "a better" for word in verdicts.values())
    if behind > ahead:
        return Verdict("reversed", figures)
    return Verdict("confirmed" if ahead == len(STABILISED) else "not seen", figures)


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
