"""Weights of a finished or running run, as a model."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from zoo.checkpoints.identity import check_identity
from zoo.checkpoints.store import Checkpoints
from zoo.errors import CheckpointError, choices
from zoo.layers import weight
from zoo.models.config import ModelConfig, place
from zoo.models.transformer import Transformer, declare
from zoo.variants.placement import Placement
from zoo.variants.registry import is_known

_DTYPES = ("float32", "bfloat16")


def load_pretrained(
    folder: str | Path,
    *,
    step: int | None = None,
    dtype: str = "float32",
    sharding: Any = None,
) -> Transformer:
    """The model of a workdir: weights only, its newest sound checkpoint unless `step` is given.

    Scheduled multipliers stand where they stood at that step: the model is the one that was
    trained, whether its schedule had ended or not.

    Args:
        folder: a workdir of `zoo train`.
        dtype: compute dtype of the model; its parameters stay float32.
        sharding: a `jax.sharding.Sharding` for every parameter; default: the default device.

    Raises:
        CheckpointError: when the folder holds no checkpoint or a damaged one, or when the name
            of its variant stands for something else here.
    """
    model, reached = load_run(folder, step=step, dtype=dtype, sharding=sharding)
    model.placement = model.placement.at(reached)
    return model


def load_run(
    folder: str | Path,
    *,
    step: int | None = None,
    dtype: str = "float32",
    sharding: Any = None,
) -> tuple[Transformer, int]:
    """(the model with its schedules, the step of its weights); as `load_pretrained`."""
    if dtype not in _DTYPES:
        raise CheckpointError(f"dtype = {dtype!r}; use {choices(_DTYPES)}")
    config = _model_config(folder, dtype)
    with Checkpoints(Path(folder) / "checkpoints", read_only=True) as checkpoints:
        # A warning is on the terminal unless the caller has said where warnings go.
        warn = logging.getLogger(__name__).warning
        chosen = checkpoints.newest_sound(warn) if step is None else step
        if chosen is None:
            raise CheckpointError(f"no sound checkpoint in {folder}")
        meta = checkpoints.read_meta(chosen)
        path = checkpoints.folder / str(chosen)
        model = declare(config, _stored_placement(meta["placement"], config, path))
        shapes, _ = weight.split(model)
        template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
        )
        part = "ema" if meta.get("ema") else "params"
        return weight.bind(model, checkpoints.restore(chosen, template, part=part)), chosen


def _stored_placement(stored: Mapping[str, Any], config: ModelConfig, path: Path) -> Placement:
    """The placement that the weights were trained under.

    It is rebuilt from what was stored, so a variant that was registered for the run need not be
    known here. A name that is known must still mean the same.
    """
    known = is_known(config.variant)
    wanted = place(config).to_json() if known else {**stored, "variant": config.variant}
    check_identity(stored, wanted)
    try:
        return Placement.from_json(stored)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the placement stored in {path} cannot be read ({error}); "
            "another release may have written it"
        ) from error


def _model_config(folder: str | Path, dtype: str) -> ModelConfig:
    saved = read_config(folder).get("model")
    known = [field.name for field in dataclasses.fields(ModelConfig)]
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"{Path(folder) / 'config.json'} describes no model")
    for name in saved:
        if name not in known:
            raise CheckpointError(
                f"{Path(folder) / 'config.json'} has an unknown setting model.{name}; "
                "another release may have written it"
            )
    return ModelConfig(**{**saved, "dtype": dtype})


def read_config(folder: str | Path) -> dict[str, Any]:
    """The resolved config of a workdir, as nested dicts.

    Raises:
        CheckpointError: when the folder is no workdir, or its config is damaged.
    """
    path = Path(folder) / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no workdir of zoo train: it has no config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, Mapping) or "config" not in content:
        raise CheckpointError(f"{path} has no entry `config`; zoo train writes it")
    return dict(content["config"])
