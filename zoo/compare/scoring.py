"""What is measured of a run beside its training: figures on unseen data, costs, its layers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

from zoo.checkpoints import Checkpoints
from zoo.compare.config import CompareConfig
from zoo.compare.plan import Spec, test_data
from zoo.compare.results import LAYERS, SCORES, write_json
from zoo.diagnosis.runs import config_of, diagnose_config
from zoo.errors import CheckpointError
from zoo.layers import weight
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig
from zoo.training.dry_run import cost
from zoo.training.evaluate import evaluate, held_out, judgement
from zoo.training.loop import averaged
from zoo.training.setup import prepare
from zoo.training.summary import read_summary


def score(config: CompareConfig, spec: Spec, select: str) -> None:
    """Write `scores.json` of a finished run: costs, and figures that training does not take.

    These are `eval_...`, what the model itself writes or ranks on the data that choices are made
    by, and for final runs `test_...`, all figures on data that no choice has seen.

    Args:
        select: the figure that choices are made by, which a tuning run must have.
    """
    spent = cost(spec.config)
    task = TASKS[spec.config.task]
    figures: dict[str, float] = {}
    summed = f"eval_{select}" in read_summary(spec.config.workdir)
    if task.judge is not None and (spec.row.phase == "final" or not summed):
        figures = _figures(spec, spec.config, sums=False)
    if spec.row.phase == "final":
        unseen = test_data(config, spec.config)
        measured = _figures(spec, unseen, num_beams=config.num_beams if task.searches else 1)
        figures |= {name.replace("eval_", "test_", 1): each for name, each in measured.items()}
    write_json(
        Path(spec.config.workdir) / SCORES,
        {
            "figures": figures,
            "parameters": spent.parameters,
            "flops": spent.flops_per_step * spec.config.steps,
            "memory": spent.memory,
        },
    )


def _figures(
    spec: Spec, config: TrainConfig, *, sums: bool = True, num_beams: int = 1
) -> dict[str, float]:
    """`eval_...` figures of a run's last weights on the held-out part of a config."""
    run = prepare(config)
    with Checkpoints(Path(spec.config.workdir) / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.newest_sound(logging.getLogger(__name__).warning)
        if step is None:
            raise CheckpointError(f"no sound checkpoint in {spec.config.workdir}")
        state = checkpoints.restore(step, run.template)
    params, most = averaged(state), run.config.eval_batches
    figures: dict[str, float] = {}
    if sums:
        batches = map(run.spread, held_out(run.data, run.task, most))
        ratio = run.data.bytes_per_token("validation")
        figures, _ = evaluate(run.evaluator, params, batches, run.task, ratio, step=state["step"])
    model = weight.bind(run.model, jax.device_put(params, jax.devices()[0]))
    model.placement = model.placement.at(int(state["step"]))
    more, _ = judgement(model, run.data, run.task, most, num_beams=num_beams)
    return figures | more


def measure_layers(spec: Spec) -> None:
    """Write `layers.json`: figures of every layer at the end of a run, from the bottom.

    `stream_rms` after the layer's last sublayer; `grad_norm` and `update_ratio` (|step| over
    |weights|) of its sublayers together: the root of the sum of squares, and the mean.
    """
    folder = spec.config.workdir
    diagnosis = diagnose_config(config_of(folder), folder, batches=1)
    layers: dict[tuple[str, int], dict[str, list[float]]] = {}
    for each in diagnosis.sublayers:
        found = layers.setdefault((each.stack, each.layer), {"rms": [], "grad": [], "update": []})
        found["rms"].append(each.stream_rms)
        found["grad"].append(each.grad_norm**2)
        found["update"].append(each.update_ratio)
    rows: dict[str, Any] = {
        "stream_rms": [each["rms"][-1] for each in layers.values()],
        "grad_norm": [sum(each["grad"]) ** 0.5 for each in layers.values()],
        "update_ratio": [sum(each["update"]) / len(each["update"]) for each in layers.values()],
    }
    write_json(Path(folder) / LAYERS, rows)
