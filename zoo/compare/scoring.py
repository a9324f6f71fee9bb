"""What is measured of a run beside its training: figures on unseen data, costs, its layers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from zoo.compare.config import CompareConfig
from zoo.compare.origins import made_with
from zoo.compare.plan import Spec, test_data
from zoo.compare.results import LAYERS, SCORES
from zoo.diagnosis.runs import config_of, diagnose_state, newest_state
from zoo.files import write_json
from zoo.models.tower import Transformer
from zoo.tasks import TASKS
from zoo.training.dry_run import cost
from zoo.training.evaluate import evaluate, held_out, judgement, read_as_trained
from zoo.training.loop import averaged, trained_model
from zoo.training.setup import Run, open_run_data, prepare
from zoo.training.step import State
from zoo.training.summary import read_summary


class Trained:
    """A run that is over, opened where it is asked for and once."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.folder = spec.config.workdir

    @functools.cached_property
    def run(self) -> Run:
        return prepare(config_of(self.folder))

    @functools.cached_property
    def state(self) -> State:
        return newest_state(self.run, self.folder)


def score(config: CompareConfig, trained: Trained, select: str) -> None:
    """Write `scores.json` of a finished run: costs, and figures that training does not take.

    These are `eval_...`, what the model itself writes or ranks on the data that choices are made
    by, and for final runs `test_...`, all figures on data that no choice has seen.

    Args:
        select: the figure that choices are made by, which a tuning run must have.
    """
    spec, folder = trained.spec, Path(trained.folder)
    figures: dict[str, float] = {}
    made: dict[str, Any] = {}
    final, task = spec.row.phase == "final", TASKS[spec.config.task]
    judged = task.judge is not None and (final or f"eval_{select}" not in read_summary(folder))
    if final or judged:
        run, state = trained.run, trained.state
        model = trained_model(run, state)
        if judged:
            figures, _ = judgement(model, run.data, task, run.config.eval_batches)
        if final:
            asked = test_data(config, spec.config)
            unseen = prepare(read_as_trained(asked, folder))
            # As `Origins` has it, who knows settings only.
            made = made_with(config, spec.config, open_run_data(asked).fingerprint)
            measured = _figures(unseen, state, model, num_beams=made["num_beams"])
            figures |= {name.replace("eval_", "test_", 1): each for name, each in measured.items()}
    spent = cost(spec.config)
    write_json(
        folder / SCORES,
        {
            "figures": figures,
            **({"made_with": made} if final else {}),
            "parameters": spent.parameters,
            "flops": spent.flops_per_step * spec.config.steps,
            "memory": spent.memory,
        },
    )


def _figures(run: Run, state: State, model: Transformer, *, num_beams: int) -> dict[str, float]:
    """All `eval_...` figures of a state on the held-out part of a run."""
    most = run.config.eval_batches
    figures, _ = evaluate(
        run.evaluator,
        averaged(state),
        map(run.spread, held_out(run.data, run.task, most)),
        run.task,
        run.data.bytes_per_token("validation"),
        step=state["step"],
    )
    more, _ = judgement(model, run.data, run.task, most, num_beams=num_beams)
    return figures | more


def measure_layers(trained: Trained) -> None:
    """Write `layers.json`: figures of every layer at the end of a run, from the bottom.

    `stream_rms` after the layer's last sublayer; `grad_norm` and `update_ratio` (|step| over
    |weights|) of its sublayers together: the root of the sum of squares, and the mean.
    """
    diagnosis = diagnose_state(trained.run, trained.state, batches=1)
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
    write_json(Path(trained.folder) / LAYERS, rows)
