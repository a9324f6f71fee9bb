"""Every variant on every architecture: it runs, it trains, it survives a checkpoint.

The default suite takes each pair once in float32; compute dtype, rematerialisation, windows and
dropout rotate over the pairs in a second, lighter pass. The full product is slow.
"""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.models.matrix import ARCHITECTURES, Outcome, run, unmoved
from zoo.checkpoints import Checkpoints
from zoo.layers import weight
from zoo.variants.placement import Placement
from zoo.variants.registry import list_variants

PAIRS = list(itertools.product(list_variants(), ARCHITECTURES))
# The architecture on which a variant meets its own optimizer.
ADAMW = {variant: ARCHITECTURES[index % 4] for index, variant in enumerate(list_variants())}
OTHER: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16"},
    "remat": {"remat": "full"},
    "window": {"window": 3, "window_pattern": "LG"},
    "dropout": {"dropout": 0.1, "attention_dropout": 0.1, "stochastic_depth": 0.1},
    "rms norm": {"norm": "rms_norm", "bias": False, "gated": True, "activation": "silu"},
}

# No gradient reaches them: the first sublayer reads one block, and a softmax over one is 1
# whatever the query.
UNREACHED = {
    (
        "attention_residuals",
        f"{stack}['stack']['blocks']['0']['layers']['0']['sublayers']['0']['residual']['depth']"
        f"['{array}'] in layers [False  True  True]",
    )
    for stack in ("", "['encoder']", "['decoder']")
    for array in ("gain", "query")
}


@functools.lru_cache(maxsize=1)
def once(variant: str, architecture: str) -> Outcome:
    return run(variant, architecture, adamw=ADAMW[variant] == architecture)


@pytest.mark.parametrize(("variant", "architecture"), PAIRS)
def test_a_pair_runs_and_trains_and_comes_back(
    variant: str, architecture: str, tmp_path: Path
) -> None:
    outcome = once(variant, architecture)
    assert np.isfinite(outcome.loss)
    assert outcome.finite, "the first gradient is not finite"
    np.testing.assert_allclose(
        outcome.logits, outcome.unrolled, atol=1e-5 * max(1.0, np.abs(outcome.logits).max())
    )
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(outcome.after))
    assert [each for each in unmoved(outcome) if (variant, each) not in UNREACHED] == []
    placement = outcome.model.placement
    assert Placement.from_json(json.loads(json.dumps(placement.to_json()))) == placement
    with Checkpoints(tmp_path, asynchronous=False) as checkpoints:
        checkpoints.save(1, outcome.after, {}, wait=True)
        shapes, _ = weight.split(outcome.model)
        back = checkpoints.restore(1, shapes)
    jax.tree.map(np.testing.assert_array_equal, back, outcome.after)


def rotated() -> list[Any]:
    """A third of the variants, each on one architecture with one of the other settings."""
    names = list(OTHER)
    return [
        pytest.param(variant, ARCHITECTURES[index % 4], names[index % len(names)])
        for index, variant in enumerate(list_variants()[::3])
    ]


def check_other(variant: str, architecture: str, name: str) -> None:
    changes = dict(OTHER[name])
    if architecture == "vision":
        changes = {key: value for key, value in changes.items() if "window" not in key}
    outcome = run(variant, architecture, **changes)
    assert np.isfinite(outcome.loss)
    assert outcome.finite, "the first gradient is not finite"
    # A scan and a loop round alike but for the order of sums; bfloat16 has 8 bits.
    near = 5e-2 if name == "bfloat16" else 1e-5
    largest = max(1.0, np.abs(outcome.logits).max())
    np.testing.assert_allclose(outcome.logits, outcome.unrolled, atol=near * largest)


@pytest.mark.parametrize(("variant", "architecture", "name"), rotated())
def test_another_setting_goes_with_the_pair(variant: str, architecture: str, name: str) -> None:
    check_other(variant, architecture, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize(("variant", "architecture"), PAIRS)
def test_every_setting_goes_with_every_pair(variant: str, architecture: str, name: str) -> None:
    check_other(variant, architecture, name)
