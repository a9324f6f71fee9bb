"""Where a run starts: at a checkpoint of its own, from other weights, or afresh."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints import Checkpoints, check_identity
from zoo.checkpoints.pretrained import load_pretrained, read_config
from zoo.errors import CheckpointError, ConfigError
from zoo.layers import weight
from zoo.training.config import flatten
from zoo.training.schedules import extendable
from zoo.training.setup import Run
from zoo.training.step import State

# Settings that a resumed run may change: how it runs and reports, not what it computes.
_MAY_DIFFER = (
    "workdir",
    "parallel",
    "mesh.fsdp",
    "log_every",
    "eval_every",
    "init_from",
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


def starting_point(run: Run, workdir: Path) -> tuple[int, State, Totals]:
    """(step, state, totals) to go on from: a checkpoint of this run, other weights, or none."""
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            found = checkpoints.steps()
            step = checkpoints.newest_sound(print)
            if found and step is None:
                raise CheckpointError(
                    f"no checkpoint in {workdir / 'checkpoints'} is sound; delete {workdir} to "
                    "start over, or choose another --workdir"
                )
            if step is not None:
                meta = checkpoints.read_meta(step)
                _check_resume(run, meta)
                state = checkpoints.restore(step, run.template)
                return step, state, Totals(meta["tokens"], meta["seconds"])
    if (workdir / "config.json").exists():
        _check_resume(run, {"config": read_config(workdir)})
    state = run.initial_state()
    if run.config.init_from is not None:
        state |= _loaded(run, run.config.init_from)
    return 0, state, Totals()


def _check_resume(run: Run, meta: dict[str, Any]) -> None:
    """Refuse a workdir that belongs to another run: identity first, then every setting."""
    if "placement" in meta:
        wanted = run.model.placement.to_json()
        check_identity({"placement": meta["placement"]}, {"placement": wanted})
    saved = _flat(meta["config"])
    asked = flatten(run.config)
    for field in asked:
        if field in _MAY_DIFFER or field not in saved:
            continue
        ours, theirs = _plain(asked[field]), saved[field]
        if field == "steps" and extendable(run.config.optim) and ours > theirs:
            continue
        if ours != theirs:
            raise ConfigError(
                f"{run.config.workdir} holds a run with {field} = {theirs!r}, this one asks for "
                f"{ours!r}; use another --workdir, or the same value"
            )
    known = meta.get("data_fingerprint")
    if known is not None and known != run.data.fingerprint:
        raise ConfigError(
            f"{run.config.workdir} was trained on other text than {run.data.label} is now; "
            "use another --workdir"
        )


def _loaded(run: Run, source: str) -> State:
    """Parameters (and their average) from another run's weights."""
    folder, _, step = source.partition("@")
    if step and not step.isdigit():
        raise ConfigError(f"init_from = {source!r}: after @ stands a step, such as {folder}@100")
    model = load_pretrained(folder, step=int(step) if step else None)
    check_identity(
        {"placement": model.placement.to_json()}, {"placement": run.model.placement.to_json()}
    )
    params, wanted = weight.split(model)[0], weight.split(run.model)[0]
    ours, theirs = jax.tree.map(jnp.shape, params), jax.tree.map(jnp.shape, wanted)
    if ours != theirs:
        raise CheckpointError(
            f"init_from = {source!r} holds {_first_difference(ours, theirs)}; "
            "use the same model settings"
        )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, run.template["params"])
    loaded = {"params": jax.device_put(params, shardings)}
    if "ema" in run.template:
        loaded["ema"] = jax.tree.map(jnp.copy, loaded["params"])
    return loaded


def _first_difference(ours: Any, theirs: Any, path: str = "") -> str:
    for name in sorted({*ours, *theirs}):
        here = f"{path}.{name}" if path else name
        if name not in ours:
            return f"no {here}"
        if name not in theirs:
            return f"{here}, which this model lacks"
        if isinstance(ours[name], dict) and isinstance(theirs[name], dict):
            found = _first_difference(ours[name], theirs[name], here)
            if found:
                return found
        elif ours[name] != theirs[name]:
            return f"{here} of shape {ours[name]}, this model has {theirs[name]}"
    return ""


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
