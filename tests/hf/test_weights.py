"""Tensors of a file into weights whose layers are stacked."""

from __future__ import annotations

import numpy as np

from zoo.hf.tensors import Tensors
from zoo.hf.weights import Slot, Tensor, load
from zoo.layers.weight import Weight
from zoo.models.config import ModelConfig


def test_a_scalar_of_each_layer_finds_its_place() -> None:
    own = Weight("skip", "multiplier", (), layers=range(3))
    slot = Slot(("skip",), "mlp/skip", own, (3,), Tensor("layers.{}.skip"))
    arrays = {f"layers.{layer}.skip": np.float32(layer + 0.5).reshape(()) for layer in range(3)}
    tensors = Tensors(dict.fromkeys(arrays, ()), arrays.__getitem__)
    params, used = load([slot], tensors, ModelConfig(), None)
    np.testing.assert_array_equal(params[("skip",)], [0.5, 1.5, 2.5])
    assert used == set(arrays)
