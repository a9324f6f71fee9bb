"""Dynamic Tanh in place of the norm, which practitioners dispute."""

from _claim import Claim, decoder
from _judging import Found, Verdict, mean

SMALL = 0.05


def comparisons(scale):
    optim = {"warmup": round(40 * scale), "schedule": "cosine", "clip_norm": 1.0}
    more = {"depth": 12, "steps": round(300 * scale), "lr": (1e-3, 3e-3, 1e-2), "optim": optim}
    return {
        norm: decoder(("pre_norm",), model={"norm": norm}, **more) for norm in ("layer_norm", "dyt")
    }


def judge(found: Found) -> Verdict:
    scores = {norm: mean(found[norm], "pre_norm") for norm in ("layer_norm", "dyt")}
    if None in scores.values():
        return Verdict("reversed" if scores["dyt"] is None else "not seen", scores)
    rows = [row.test for made in found.values() for row in made.rows if row.phase == "final"]
    spread = max(rows) - min(rows)
    worse = scores["dyt"] - scores["layer_norm"]
    figures = {**scores, "dyt above layer_norm": worse, "spread of all runs": spread}
    if worse <= SMALL:
        return Verdict("confirmed", figures)
    return Verdict("reversed" if worse > 3 * SMALL else "not seen", figures)


CLAIM = Claim(
    name="dyt",
    statement="Transformers with Dynamic Tanh match those with a norm.",
    source="Zhu et al. 2025, Transformers without Normalization (2503.10622)",
    expectation=f"within {SMALL} bits a byte of LayerNorm, or better, at 12 pre-norm layers",
    metric="held-out bits a byte after 300 steps, rates 1e-3 to 1e-2 tuned, 3 fresh seeds",
    rule=f"confirmed: at most {SMALL} above; reversed: more than {3 * SMALL:.2f} above, or failed",
    comparisons=comparisons,
    judge=judge,
    minutes=8,
)
