"""What a placement changes while it trains goes on after a stop, and is judged where it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.training.test_resume import arrays, assert_identical
from zoo.training.config import TrainConfig
from zoo.training.evaluate import evaluate_workdir
from zoo.training.loop import train
from zoo.variants.placement import Multiplier, Ramp

Configure = Callable[..., TrainConfig]


@pytest.mark.live
@pytest.mark.parametrize(
    "variant",
    [
        "branch_norm(steps=10)",
        "ngpt",
        pytest.param("pro_res(steps=3)", marks=pytest.mark.slow),
        pytest.param("rezero", marks=pytest.mark.slow),
        pytest.param("hyper_connections(streams=2)", marks=pytest.mark.slow),
        pytest.param("gpas", marks=pytest.mark.slow),
        pytest.param("dlcl", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_half_way_ends_as_one_that_was_not(
    configure: Configure, tmp_path: Path, variant: str
) -> None:
    values = {"model.variant": variant, "checkpoint.every": 3, "eval_every": 6}
    whole = configure(values, steps=6, workdir=str(tmp_path / "whole"))
    train(whole)
    half = configure(values, steps=3, workdir=str(tmp_path / "half"))
    train(half)
    # The schedule of the rate is constant, so the same run may be given more steps.
    train(dataclasses.replace(half, steps=6))
    assert_identical(arrays(half), arrays(whole))
    assert_identical(arrays(whole, 3), arrays(half, 3))


def test_a_schedule_is_judged_where_it_stands(configure: Configure) -> None:
    config = configure({"model.variant": "branch_norm(steps=40)"}, steps=8)
    summary = train(config)
    # Held-out figures of the run, of its files, and of a model that knows nothing of steps.
    assert evaluate_workdir(config.workdir, max_batches=config.eval_batches)["eval_loss"] == (
        pytest.approx(summary["eval_loss"], rel=1e-6)
    )
    model = zoo.load_pretrained(config.workdir)
    branches = {site.branch for layer in model.placement.stack("decoder").layers for site in layer}
    assert branches == {Multiplier(8 / 40)}


def test_weights_may_start_a_run_of_the_same_schedule(configure: Configure, tmp_path: Path) -> None:
    config = configure({"model.variant": "branch_norm(steps=40)"}, steps=4)
    train(config)
    values = {"model.variant": "branch_norm(steps=40)", "init_from": config.workdir}
    again = configure(values, steps=2, workdir=str(tmp_path / "again"))
    assert train(again)["status"] == "finished"


@pytest.mark.parametrize("learned", [None, "scalar"])
def test_a_settled_multiplier_is_the_scheduled_one_at_that_step(learned: Any) -> None:
    ramp = Ramp(steps=10, floor=0.2, start=2, power=2.0)
    scheduled = Multiplier(0.5, learned, ramp=ramp)
    for step, factor in ((0, 0.2), (7, 0.2 + 0.8 * 0.25), (12, 1.0), (99, 1.0)):
        settled = scheduled.at(step)
        assert settled.ramp is None
        assert settled.start == (scheduled.start if learned else settled.value)
        assert settled.number == pytest.approx(scheduled.number * factor)
