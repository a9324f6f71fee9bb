"""Models that were made here are written as the family that they are of."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

import zoo
from zoo.layers import weight

SIZES = {
    "vocab_size": 32,
    "d_model": 16,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 4,
    "d_ff": 16,
    "max_length": 16,
}


@pytest.mark.parametrize(
    ("name", "family", "changes"),
    [
        ("llama2-7b", "llama", {}),
        ("mistral-7b", "mistral", {"window": 8}),
        ("qwen3-0.6b", "qwen3", {}),
        ("olmo2-1b", "olmo2", {}),
        ("gemma2-2b", "gemma2", {"window": 8}),
    ],
)
def test_a_preset_is_written_as_its_family(
    name: str, family: str, changes: dict[str, int], tmp_path: Path
) -> None:
    model = zoo.create_model(name, rngs=1, **(SIZES | changes))
    assert zoo.save_pretrained(model, tmp_path / "out", family=family) == family
    back = zoo.load_pretrained(tmp_path / "out")
    jax.tree.map(np.testing.assert_array_equal, weight.split(back)[0], weight.split(model)[0])
