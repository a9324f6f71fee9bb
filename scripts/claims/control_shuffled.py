"""On text whose bytes are shuffled there is nothing to learn but their frequencies."""

import math
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
from _claim import Claim, decoder
from _judging import Found, Verdict, mean

NAMES = ("post_norm", "pre_norm", "deep_norm")
SIZE = 2_000_000


def shuffled() -> Path:
    """A file of the standard library's first bytes in a random order, the same every time."""
    path = Path(tempfile.gettempdir()) / "postnorm-zoo-shuffled.txt"
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = b"".join(file.read_bytes() for file in files).decode("utf-8", "replace")
    text = text.encode("ascii", "replace")[:SIZE]
    order = np.random.default_rng(0).permutation(len(text))
    path.write_bytes(np.frombuffer(text, np.uint8)[order].tobytes())
    return path


def comparisons(scale):
    optim = {"warmup": round(30 * scale), "schedule": "cosine", "clip_norm": 1.0}
    return {
        "12 layers": decoder(
            NAMES,
            depth=12,
            steps=round(150 * scale),
            lr=(1e-3, 3e-3),
            optim=optim,
            data={"path": str(shuffled())},
        )
    }


def judge(found: Found) -> Verdict:
    made = found["12 layers"]
    counts = np.bincount(np.frombuffer(shuffled().read_bytes(), np.uint8))
    shares = counts[counts > 0] / counts.sum()
    entropy = -sum(float(share) * math.log2(share) for share in shares)
    scores = {name: mean(made, name) for name in NAMES}
    figures = {**scores, "entropy of the bytes": entropy}
    if None in scores.values():
        return Verdict("not seen", figures)
    below = any(score < entropy - 0.02 for score in scores.values())
    return Verdict("reversed" if below else "confirmed", figures)


CLAIM = Claim(
    name="control_shuffled",
    statement="No placement predicts shuffled bytes better than their frequencies do.",
    source="control: the same text, its bytes shuffled",
    expectation="no run ends below the entropy of single bytes",
    metric="held-out bits a byte, 12 layers, 150 steps, tuned, 3 seeds",
    rule="confirmed: every mean is above the entropy less 0.02 bits; reversed: one is below",
    comparisons=comparisons,
    judge=judge,
    control=True,
    minutes=4,
)
