"""What runs of one structure share, and when two runs are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from zoo.training.config import TrainConfig
from zoo.training.dry_run import cost, dry_run
from zoo.training.identity import identity
from zoo.training.setup import prepare

Configure = Callable[..., TrainConfig]


def test_runs_that_differ_in_rate_decay_seeds_or_data_share_a_program(
    configure: Configure, tmp_path: Path
) -> None:
    one = prepare(configure(seed=1))
    text = tmp_path / "other.txt"
    text.write_text("if self : return value\n" * 900)
    other = prepare(
        configure(seed=2, **{"optim.lr": 0.1, "optim.weight_decay": 0.2, "data.path": str(text)})
    )
    assert one.step is other.step
    assert one.evaluator is other.evaluator
    assert (float(one.inputs.lr), int(one.inputs.seed)) != (
        float(other.inputs.lr),
        int(other.inputs.seed),
    )
    # The rate is the run's own: a step with the shared program moves weights by it.
    moved = []
    for run in (one, other):
        before = run.initial_state()
        kept = jax.tree.map(np.asarray, before["params"])
        state, _ = run.step(before, run.batch(run.data.train_batch(0)), run.inputs)
        change = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), state["params"], kept)
        moved.append(max(map(float, jax.tree.leaves(change))))
    assert moved[1] > 20 * moved[0]


@pytest.mark.parametrize(
    "values",
    [
        {"model.variant": "pre_norm"},
        {"model.num_layers": 3},
        {"steps": 13},
        {"optim.clip_norm": 0.5},
        {"optim.beta2": 0.9},
        {"model.dtype": "bfloat16"},
    ],
)
def test_runs_of_another_structure_do_not(configure: Configure, values: dict[str, object]) -> None:
    assert prepare(configure()).step is not prepare(configure(**values)).step


def test_a_run_is_known_by_what_it_computes(configure: Configure, tmp_path: Path) -> None:
    one = identity(configure())
    assert identity(configure(workdir=str(tmp_path / "elsewhere"))) == one
    for values in ({"seed": 5}, {"optim.lr": 2e-3}, {"model.variant": "pre_norm"}, {"steps": 13}):
        assert identity(configure(**values)) != one
    assert identity(configure(log_every=3), ignore=("workdir", "log_every")) == identity(
        configure(log_every=7), ignore=("workdir", "log_every")
    )


def test_a_cost_is_what_the_dry_run_says(configure: Configure) -> None:
    plan, spent = dry_run(configure()), cost(configure(seed=3))
    assert spent.parameters == sum(plan.parameters.values())
    assert spent.flops_per_step == plan.flops_per_step
    assert spent.memory == sum(plan.memory_bytes.values())
