"""Weights of a finished or running run, as a model."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
from flax.traverse_util import flatten_dict

from zoo.checkpoints.identity import check_identity
from zoo.checkpoints.store import Checkpoints
from zoo.errors import CheckpointError, ConfigError, choices
from zoo.layers import weight
from zoo.models.config import Head, ModelConfig
from zoo.models.init import initial_params
from zoo.models.resolve import place
from zoo.models.transformer import Transformer, declare
from zoo.variants.placement import Placement
from zoo.variants.registry import is_known

_DTYPES = ("float32", "bfloat16")
_LOG = logging.getLogger(__name__)


def load_pretrained(
    folder: str | Path,
    *,
    step: int | None = None,
    head: Head | Literal["auto"] = "auto",
    num_labels: int | None = None,
    dtype: str = "float32",
    sharding: Any = None,
) -> Transformer:
    """The model of a workdir: weights only, its newest sound checkpoint unless `step` is given.

    Scheduled multipliers stand where they stood at that step: the model is the one that was
    trained, whether its schedule had ended or not.

    Args:
        folder: a workdir of `zoo train`.
        head: what stands on the stack; `auto`: what was trained. Another head, or one with
            another number of labels, is drawn (with seed 0) and the rest is the run's.
        num_labels: classes of a classification head; default: as trained.
        dtype: compute dtype of the model; its parameters stay float32.
        sharding: a `jax.sharding.Sharding` for every parameter; default: the default device.

    Raises:
        CheckpointError: when the folder holds no checkpoint or a damaged one, or when the name
            of its variant stands for something else here.
        ConfigError: on a head that the architecture does not carry, or labels that it has not.
    """
    model, reached = load_run(folder, step=step, dtype=dtype, sharding=sharding)
    model.placement = model.placement.at(reached)
    return with_head(model, head, num_labels, sharding)


def with_head(
    model: Transformer, head: Head | Literal["auto"], num_labels: int | None, sharding: Any
) -> Transformer:
    """The model with the head that is asked for, drawn (with seed 0) if it is not its own.

    Raises:
        ConfigError: on a head that the architecture does not carry, or labels that it has not.
    """
    own = model.config.head if head == "auto" else head
    check_labels(own, num_labels)
    labels = model.config.num_labels if num_labels is None else num_labels
    config = dataclasses.replace(model.config, head=own, num_labels=labels)
    return model if config == model.config else with_ends(model, config, 0, sharding)


def with_ends(model: Transformer, config: ModelConfig, seed: int, sharding: Any) -> Transformer:
    """The model under a config that differs in its ends, or in what is no part of its weights.

    A head of another kind, or for other labels, and whatever else the model lacks is drawn.

    Raises:
        CheckpointError: on weights that do not fit the config.
    """
    made = declare(config, model.placement)
    kept, _ = weight.split(model)
    shapes, weights = weight.split(made)
    own = made.config.head
    other = (own, made.config.num_labels) != (model.config.head, model.config.num_labels)
    new = {
        name: tree
        for name, tree in shapes.items()
        if (name == "head" and other) or name not in kept
    }
    declared = {name: weights[name] for name in new}
    drawn = initial_params(new, declared, made.config, made.placement, jax.random.key(seed))
    said = (f"new, drawn with seed {seed}", new), ("left out", set(kept) - set(shapes))
    for what, tree in said:
        if tree:
            _LOG.warning("%s, for head = %s: %s", what, own, ", ".join(sorted(tree)))
    if sharding is not None:
        drawn = jax.device_put(drawn, sharding)
    params = {name: kept[name] for name in shapes if name not in new} | drawn
    _check_shapes(shapes, params)
    return weight.bind(made, params)


def _check_shapes(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    theirs = {path: leaf.shape for path, leaf in flatten_dict(found).items()}
    for path, leaf in flatten_dict(wanted).items():
        if theirs.get(path) != leaf.shape:
            raise CheckpointError(
                f"{'.'.join(path)} is {theirs.get(path)} in the checkpoint; this model needs "
                f"{leaf.shape}"
            )


def check_labels(head: Head | None, num_labels: int | None) -> None:
    """Raise ConfigError where labels are counted for a head that has none."""
    if num_labels is not None and (head is None or not head.endswith("_classification")):
        raise ConfigError(f"num_labels = {num_labels}: head = {head!r} has no labels; leave it out")


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
    config = model_config(read_config(folder).get("model"), Path(folder) / "config.json", dtype)
    with Checkpoints(Path(folder) / "checkpoints", read_only=True) as checkpoints:
        # A warning is on the terminal unless the caller has said where warnings go.
        chosen = checkpoints.newest_sound(_LOG.warning) if step is None else step
        if chosen is None:
            raise CheckpointError(f"no sound checkpoint in {folder}")
        meta = checkpoints.read_meta(chosen)
        path = checkpoints.folder / str(chosen)
        model = declare(config, stored_placement(meta["placement"], config, path))
        shapes, _ = weight.split(model)
        template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
        )
        part = "ema" if meta.get("ema") else "params"
        return weight.bind(model, checkpoints.restore(chosen, template, part=part)), chosen


def stored_placement(stored: Mapping[str, Any], config: ModelConfig, path: Path) -> Placement:
    """The placement that the weights were trained under.

    It is rebuilt from what was stored, so a variant that was registered for the run need not be
    known here. A name that is known must still mean the same.
    """
    known = is_known(config.variant)
    wanted = place(config).to_json() if known else {**stored, "variant": config.variant}
    check_identity(stored, wanted)
    return read_placement(stored, path)


def read_placement(stored: Mapping[str, Any], path: Path) -> Placement:
    """A placement as it was stored, whatever the name of its variant means here."""
    try:
        return Placement.from_json(stored)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the placement stored in {path} cannot be read ({error}); "
            "another release may have written it"
        ) from error


def model_config(saved: Any, path: Path, dtype: str | None) -> ModelConfig:
    """The settings of a model that were saved in a file, with another compute dtype if given."""
    known = [field.name for field in dataclasses.fields(ModelConfig)]
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"{path} describes no model")
    for name in saved:
        if name not in known:
            raise CheckpointError(
                f"{path} has an unknown setting model.{name}; another release may have written it"
            )
    # JSON has no tuples.
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    return ModelConfig(**values | ({} if dtype is None else {"dtype": dtype}))


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
