"""What the tests of eight devices compare, computed in one process that simulates them.

Arguments: a JSON object with `settings` (dotted), `cases` and, if wanted, `longer` (a run to
resume) and `fresh` (a run to start); the answer is the last line of the output, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np

from tests.training.conftest import with_values
from zoo.training.config import TrainConfig
from zoo.training.loop import train
from zoo.training.setup import Run, prepare

STEPS = 20


def losses(run: Run, steps: int = STEPS) -> list[float]:
    """The loss of each step; nothing is read back before the end."""
    state, found = run.initial_state(), []
    for index in range(steps):
        state, figures = run.step(state, run.batch(run.data.train_batch(index)), run.inputs)
        found.append(figures["loss"])
    assert int(state["failed_at"]) < 0
    return [float(loss) for loss in jax.device_get(found)]


def shares(tree: Any) -> dict[str, float]:
    """Of each array of at least 1000 numbers, the part that one device holds."""
    return {
        jax.tree_util.keystr(path): leaf.addressable_shards[0].data.size / leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if leaf.size >= 1000
    }


def sharded(run: Run) -> dict[str, dict[str, float]]:
    """`shares` of what a step returns."""
    batch = run.batch(run.data.train_batch(0))
    state, _ = run.step(run.initial_state(), batch, run.inputs)
    return {name: shares(state[name]) for name in ("params", "opt_state", "ema")} | {
        "batch": shares(batch)
    }


def same_row_everywhere(run: Run) -> list[float]:
    """Loss of eight copies of one row under pmap, and of that row as the first device has it."""
    rows = run.data.train_batch(0)
    rows = {name: np.repeat(array[:1], 8, axis=0) for name, array in rows.items()}
    _, figures = run.step(run.initial_state(), run.batch(rows), run.inputs)
    one = run.task.batch({name: array[:1] for name, array in rows.items()}, run.data.spec)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(run.inputs.seed), 0), 0)
    loss = jax.jit(run.core.loss)(run.initial_state()["params"], one, key)
    return [float(figures["loss"]), float(loss.nats / loss.tokens)]


def main(asked: str) -> None:
    """Answer everything that `asked` names."""
    plan = json.loads(asked)

    def config(values: dict[str, Any]) -> TrainConfig:
        made: TrainConfig = with_values(TrainConfig(), plan["settings"] | values)
        return made

    assert jax.device_count() == 8
    answer: dict[str, Any] = {
        "losses": {name: losses(prepare(config(case))) for name, case in plan["cases"].items()},
        "sharded": sharded(prepare(config({"mesh.fsdp": 4, "optim.ema": 0.9}))),
        "same_row": same_row_everywhere(
            prepare(
                config(
                    {
                        "parallel": "pmap",
                        "model.dropout": 0.3,
                        "data.packing": "concat",
                        "data.separate_documents": False,
                    }
                )
            )
        ),
    }
    for name in plan.keys() & {"longer", "fresh"}:
        answer[name] = train(config(plan[name]))["status"]
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
