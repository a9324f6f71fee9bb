"""A dry run's figures against closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zoo.training.config import TrainConfig
from zoo.training.dry_run import dry_run

Configure = Callable[..., TrainConfig]


def test_compute_is_that_of_the_matrices_and_of_attention(configure: Configure) -> None:
    """6 FLOP a token and weight of a matrix (Kaplan et al. 2020), and 12 a token, key and width."""
    config = configure({"optim.accumulate": 2, "model.window": 8})
    width, layers, length, vocabulary = 16, 2, 32, 256
    matrices = layers * 12 * width**2 + width * vocabulary
    attention = layers * 2 * length * width
    tokens = config.data.batch_size * length
    assert dry_run(config).flops_per_step == pytest.approx(6 * tokens * (matrices + attention))


def test_a_mixture_costs_what_the_chosen_experts_do(configure: Configure) -> None:
    """Two of four experts of a width are a gated MLP of twice that width, beside the choice."""
    gated = {"model.gated": True, "model.bias": False}
    config = configure(gated | {"model.d_ff": 64})
    dense = dry_run(config)
    mixture = dry_run(configure(gated | {"model.d_ff": 32, "model.num_experts": 4}))
    tokens = config.data.batch_size * 32
    width, layers, experts = 16, 2, 4
    choice = 6 * tokens * layers * width * experts
    assert mixture.flops_per_step == pytest.approx(dense.flops_per_step + choice)
