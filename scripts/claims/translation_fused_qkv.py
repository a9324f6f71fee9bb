"""The original placement once more, its queries, keys and values drawn as one matrix."""

from _claim import MULTI30K, Claim, translation
from _judging import Found, Verdict, favoured, interval, mean, pair

NAMES = ("post_norm", "pre_norm")
FUSED = {"qkv_gain": 2**-0.5}


def comparisons(scale):
    made = translation(NAMES, depth=6, steps=round(1200 * scale), model=FUSED)
    return {"6 + 6 layers, q, k, v as one": made}


def judge(found: Found) -> Verdict:
    (made,) = found.values()
    scores = {name: mean(made, name) for name in NAMES}
    ends = interval(pair(made, *NAMES))
    post, pre = scores["post_norm"], scores["pre_norm"]
    if post is None:
        return Verdict("reversed", scores, ends)
    if post >= 10 and (pre is None or pre - post <= 8):
        return Verdict("confirmed", scores, ends)
    behind = favoured(made, *NAMES) == "pre_norm" and pre is not None and pre - post >= 16
    return Verdict("reversed" if behind else "not seen", scores, ends)


CLAIM = Claim(
    name="translation_fused_qkv",
    statement="What holds post-norm back at 6 + 6 layers is the size of the first queries, keys "
    "and values: drawn as one matrix, by 1/sqrt(2) smaller, half of the distance to pre-norm is "
    "gone.",
    source="found here, after `translation_shallow` (16 BLEU behind with Glorot's draw of each); "
    "torch.nn.Transformer draws the three as one matrix, fairseq each with a gain of 1/sqrt(2)",
    expectation="post-norm at 10 BLEU or above and at most 8 behind pre-norm",
    metric="sacrebleu of 4 beams on test_2016_flickr, English to German, 1,200 steps, rates "
    "5e-4 to 4e-3 tuned by halving on held-out loss, 3 fresh seeds, model.qkv_gain = 2**-0.5",
    rule="confirmed: as expected; reversed: post-norm lost a run, or is at least 16 behind and "
    "shown to be; else not seen",
    comparisons=comparisons,
    judge=judge,
    minutes=30,
    files=MULTI30K,
)
