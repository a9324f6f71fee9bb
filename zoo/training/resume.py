"""Where a run starts: at a checkpoint of its own, from other weights, or afresh."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints import Checkpoints, check_identity
from zoo.checkpoints.pretrained import read_config
from zoo.errors import CheckpointError, ConfigError
from zoo.models.profile import profiled
from zoo.settings import flatten
from zoo.training.config import TrainConfig, resolve_run
from zoo.training.init_from import checkpoint_params
from zoo.training.schedules import extendable
from zoo.training.setup import Run
from zoo.training.step import State

# Settings that a resumed run may change: how it runs and reports, not what it computes.
MAY_DIFFER = (
    "workdir",
    "parallel",
    "mesh.fsdp",
    "log_every",
    "eval_every",
    "data.validation_half",
    "judge",
    "tensorboard",
    "sample_tokens",
    "sample_temperature",
    "sample_prompt",
    "data.cache_dir",
    "data.prefetch",
    "checkpoint.every",
    "checkpoint.keep",
    "checkpoint.keep_best",
    "checkpoint.asynchronous",
)


@dataclasses.dataclass
class Totals:
    """What adds up over all processes of a run."""

    tokens: int = 0
    seconds: float = 0.0


def as_begun(config: TrainConfig) -> TrainConfig:
    """The config with the warm-up that its workdir's run began with, when it asks for none.

    A warm-up that is left open follows the length of the run: asking a run for more steps
    would change steps that it has taken. So it is with the run that has been asked for more.
    """
    if config.optim.warmup is not None or not (Path(config.workdir) / "config.json").exists():
        return config
    saved = read_config(config.workdir)
    if saved.get("steps", config.steps) > config.steps:
        return config
    warmup = saved["optim"]["warmup"]
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, warmup=warmup))


def starting_point(run: Run, workdir: Path) -> tuple[int, State, Totals]:
    """(step, state, totals) to go on from: a checkpoint of this run, other weights, or none."""
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            step = checkpoints.newest_sound(print)
            # Those that were set aside, now or before, tell a run that is lost from a new one.
            if step is None and any((workdir / "checkpoints").glob("*.damaged")):
                raise CheckpointError(
                    f"no checkpoint in {workdir / 'checkpoints'} is sound; delete {workdir} to "
                    "start over, or choose another --workdir"
                )
            if step is not None:
                meta = checkpoints.read_meta(step)
                _check_resume(run, meta)
                state = checkpoints.restore(step, run.template)
                return step, state, Totals(meta["tokens"], meta["seconds"])
    return 0, fresh_state(run), Totals()


def fresh_state(run: Run) -> State:
    """Where a run begins: the weights of another one, or a draw, profiled where that is asked."""
    state = run.initial_state()
    if run.config.init_from is None:
        return state | _profiled(run, state)
    return state | _with_average(run, checkpoint_params(run))


def _profiled(run: Run, state: State) -> State:
    """Parameters (and their average) set from the first batch, where the placement asks for it."""
    if "profile" not in run.model.placement.hooks:
        return {}
    batch = run.spread(run.task.batch(run.data.train_batch(0), run.data.spec))
    key = jax.random.key(run.config.seed)
    params = profiled(run.model, state["params"], run.task.inputs(batch), key)
    return _with_average(run, params)


def refuse_other_run(config: TrainConfig) -> None:
    """Refuse a workdir of a run with other settings, before any text is read.

    Raises:
        ConfigError: naming the first setting that differs and both values.
    """
    if (Path(config.workdir) / "config.json").exists():
        saved = read_config(config.workdir)
        model = saved["model"]
        open_ = {
            field: model.get(field)
            for field in ("num_labels", "decoder_start_id")
            if getattr(config.model, field) is None
        }
        _check_settings(resolve_run(config, vocab_size=model["vocab_size"], **open_), saved)


def _check_settings(config: TrainConfig, settings: dict[str, Any]) -> None:
    """The model first, then all other settings."""
    saved, asked = flatten(settings), flatten(config)
    longer = extendable(config.optim) and config.steps > saved["steps"]
    free = (*MAY_DIFFER, "steps") if longer else MAY_DIFFER
    fields = [field for field in asked if field in saved and field not in free]
    model_first = sorted(fields, key=lambda field: not field.startswith("model."))
    difference = _difference(saved, asked, model_first)
    if difference:
        why = ""
        if difference.startswith("steps ") and config.steps > saved["steps"]:
            why = (
                f" (optim.schedule = {config.optim.schedule!r} follows the length of the run; "
                "under constant or inverse_sqrt it could be given more)"
            )
        raise ConfigError(
            f"{config.workdir} holds a run with {difference}{why}; "
            "use another --workdir, or the same value"
        )


def _check_resume(run: Run, meta: dict[str, Any]) -> None:
    """Refuse a checkpoint of another run, or of other text."""
    _check_settings(run.config, meta["config"])
    wanted = run.model.placement.to_json()
    check_identity({"placement": meta["placement"]}, {"placement": wanted})
    if meta["data_fingerprint"] != run.data.fingerprint:
        raise ConfigError(
            f"{run.config.workdir} was trained on other text than {run.data.label} is now; "
            "use another --workdir"
        )


def _with_average(run: Run, params: dict[str, Any]) -> State:
    """The part of a state that starts as these parameters."""
    begun = {"params": params}
    if "ema" in run.template:
        begun["ema"] = jax.tree.map(jnp.copy, params)
    return begun


def _difference(saved: dict[str, Any], asked: dict[str, Any], fields: list[str]) -> str:
    """The first of `fields` that differs with both values, in words; empty when none does."""
    for field in fields:
        ours, theirs = _plain(asked[field]), saved.get(field)
        if ours != theirs:
            return f"{field} = {theirs!r}, this one asks for {ours!r}"
    return ""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
