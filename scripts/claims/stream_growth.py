"""How the stream grows over the layers of a trained model."""

from _claim import Claim, decoder
from _judging import Found, Verdict, finals

from zoo.compare.results import read_layers

NAMES = ("pre_norm", "peri_norm", "layer_norm_scaling")


def comparisons(scale):
    optim = {"warmup": round(40 * scale), "schedule": "cosine", "clip_norm": 1.0}
    steps = round(300 * scale)
    made = decoder(NAMES, depth=24, steps=steps, lr=(3e-3,), seeds=1, optim=optim, layers=True)
    return {"24 layers": made}


def judge(found: Found) -> Verdict:
    made = found["24 layers"]
    tops = {}
    for name in NAMES:
        layers = read_layers(finals(made, name)[0], made.workdir / "runs")
        if layers is None:
            return Verdict("not seen", {f"{name}, whose run was lost": None})
        tops[name] = layers["stream_rms"][-1]
    pre, peri, scaled = (tops[name] for name in NAMES)
    if pre > 1.5 * peri and peri > scaled:
        return Verdict("confirmed", tops)
    return Verdict("reversed" if pre < peri and pre < scaled else "not seen", tops)


CLAIM = Claim(
    name="stream_growth",
    statement="The stream's variance grows fastest over pre-norm's layers, linearly with peri-norm "
    "and slowest with LayerNorm Scaling.",
    source="Kim et al. 2025, Peri-LN; Sun et al. 2025, The Curse of Depth",
    expectation="root mean square at the top: pre-norm far above peri-norm, that above LayerNorm "
    "Scaling",
    metric="root mean square of the stream after the last of 24 layers, 300 steps at "
    "3e-3, one seed",
    rule="confirmed: pre-norm over 1.5 times peri-norm, and that above LayerNorm Scaling; "
    "reversed: pre-norm is the smallest",
    comparisons=comparisons,
    judge=judge,
    minutes=3,
)
