"""The original placement against pre-norm at the depth that it was made for."""

from _claim import MULTI30K, Claim, translation
from _judging import Found, Verdict, favoured, interval, mean, pair

NAMES = ("post_norm", "pre_norm", "deep_norm")
MARGIN = 0.5


def comparisons(scale):
    return {"6 + 6 layers": translation(NAMES, depth=6, steps=round(1200 * scale))}


def judge(found: Found) -> Verdict:
    made = found["6 + 6 layers"]
    scores = {name: mean(made, name) for name in NAMES}
    post, pre = scores["post_norm"], scores["pre_norm"]
    ends = interval(pair(made, "post_norm", "pre_norm"))
    if post is not None and (pre is None or post >= pre - MARGIN):
        return Verdict("confirmed", scores, ends)
    behind = favoured(made, "post_norm", "pre_norm") == "pre_norm"
    return Verdict("reversed" if behind else "not seen", scores, ends)


CLAIM = Claim(
    name="translation_shallow",
    statement="At 6 + 6 layers the original recipe (post-norm, warm-up, label smoothing, Xavier) "
    "translates as well as pre-norm.",
    source="Vaswani et al. 2017 (1706.03762); Wang et al. 2019, Learning Deep Transformer Models "
    "for Machine Translation (1906.01787)",
    expectation="BLEU of post-norm at most 0.5 below that of pre-norm, or above it",
    metric="sacrebleu of 4 beams on test_2016_flickr, English to German, 1,200 steps, rates "
    "5e-4 to 4e-3 tuned by halving on held-out loss, 3 fresh seeds",
    rule=f"confirmed: post-norm's mean is at most {MARGIN} below pre-norm's; reversed: it is "
    "further below and the corrected interval of the difference excludes 0, or it lost a run",
    comparisons=comparisons,
    judge=judge,
    minutes=45,
    files=MULTI30K,
)
