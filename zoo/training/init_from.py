"""A run that starts from a checkpoint: what it takes from there, and what it may not change."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax

from zoo.checkpoints import check_identity
from zoo.checkpoints.pretrained import read_config
from zoo.data.config import DataConfig, reads
from zoo.data.tokenizers import BYTES_FILE, NO_FRAME, TOKENIZER_FILE, load_tokenizer
from zoo.errors import ConfigError
from zoo.hf import own, pretrained
from zoo.hf.files import is_workdir, locate, read_json
from zoo.layers import weight
from zoo.models.config import HOW_COMPUTED, ModelConfig
from zoo.models.resolve import place
from zoo.settings import check_types
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig, from_dict
from zoo.training.setup import Run

# What a model may change when it starts from other weights: they mean the same under it.
_FREE = (
    *HOW_COMPUTED,
    "rotary_theta",
    "window",
    "window_pattern",
    # The ends, which are drawn where the checkpoint has others.
    "head",
    "num_labels",
    "pooling",
    "pooler",
    "pooler_first",
    "unit_vectors",
    "classifier_bias",
)


def with_checkpoint(config: TrainConfig, typed: Collection[str] = ()) -> TrainConfig:
    """The run with what it takes from the checkpoint of `init_from`; the same run without one.

    The model is the checkpoint's, with a head that learns the task. Settings that are given (they
    were typed, or are not the default) stay, but those that the weights do not leave free must
    agree. The tokenizer is the checkpoint's, with the special tokens that its file puts around a
    text, unless others are given. A run that goes on takes all this from its own workdir.

    Args:
        typed: dotted fields that were given as flags, which count although they are the default.

    Raises:
        CheckpointError: when the checkpoint is missing or cannot be read.
        ConfigError: naming a setting that contradicts the checkpoint, and both values.
    """
    check_types(config)
    if (Path(config.workdir) / "config.json").exists():
        return _going_on(config, typed)
    if config.init_from is None:
        return config
    folder = locate(_parts(config.init_from)[0])
    return dataclasses.replace(
        config,
        model=_model(config, folder, _given(config.model, typed, "model.")),
        data=_data(config, folder, _given(config.data, typed, "data.")),
    )


def checkpoint_params(run: Run) -> dict[str, Any]:
    """The parameters of `init_from`, placed; a new head is drawn with the run's seed.

    Raises:
        CheckpointError: when the weights do not fit the run's model or are of another placement.
    """
    assert run.config.init_from is not None
    source, step = _parts(run.config.init_from)
    model = pretrained.load_into(run.config.model, source, step=step, seed=run.config.seed)
    check_identity(
        {"placement": model.placement.to_json()}, {"placement": run.model.placement.to_json()}
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, run.template["params"])
    placed: dict[str, Any] = jax.device_put(weight.split(model)[0], shardings)
    return placed


def _going_on(config: TrainConfig, typed: Collection[str]) -> TrainConfig:
    """With what the run of the workdir once took; the checkpoint itself may be gone by now."""
    saved = read_config(config.workdir)
    if saved.get("init_from") != config.init_from:
        raise ConfigError(
            f"{config.workdir} holds a run with init_from = {saved.get('init_from')!r}, this one "
            f"asks for {config.init_from!r}; use another --workdir, or the same value"
        )
    if config.init_from is None:
        return config
    before = from_dict(saved)
    model, data = (
        _with(getattr(before, part), asked, _given(asked, typed, f"{part}."))
        for part, asked in (("model", config.model), ("data", config.data))
    )
    return dataclasses.replace(config, model=model, data=data)


def _parts(source: str) -> tuple[str, int | None]:
    """(folder, step) of `folder` or `folder@step`."""
    folder, at, step = source.rpartition("@")
    if not at or Path(source).is_dir() or "/" in step:
        return source, None
    if not step.isdigit():
        raise ConfigError(f"init_from = {source!r}: after @ stands a step, such as {folder}@100")
    return folder, int(step)


def _given(asked: Any, typed: Collection[str], prefix: str) -> set[str]:
    """The fields of a part of the config that somebody has set."""
    plain = type(asked)()
    names = {field.name for field in dataclasses.fields(asked)}
    return {
        name
        for name in names
        if prefix + name in typed or getattr(asked, name) != getattr(plain, name)
    }


def _with(base: Any, asked: Any, given: Collection[str]) -> Any:
    return dataclasses.replace(base, **{name: getattr(asked, name) for name in given})


def _model(config: TrainConfig, folder: Path, given: set[str]) -> ModelConfig:
    """The checkpoint's model under the settings that are given."""
    theirs = pretrained.read_config(folder)
    head = config.model.head or theirs.head
    if config.model.head is None and config.task in TASKS:
        heads = [own for kind, own in TASKS[config.task].models if kind == theirs.architecture]
        head = head if head in heads or not heads else heads[0]  # type: ignore[assignment]
    if head is not None and head != theirs.head:
        theirs = pretrained.read_config(folder, head)
    free = _FREE if theirs.positions == "learned" else (*_FREE, "max_length")
    for name in sorted(given.difference(free)):
        _check_equal(config, name, theirs)
    made: ModelConfig = _with(theirs, config.model, given.intersection(free) - {"head"})
    if made.pooling != theirs.pooling:
        # A pooler was trained on another vector.
        ends: dict[str, Any] = {"pooler": None, "pooler_first": False}
        made = dataclasses.replace(made, **{n: v for n, v in ends.items() if n not in given})
    # As many as the data has: a head for others is drawn.
    return made if "num_labels" in given else dataclasses.replace(made, num_labels=None)


def _check_equal(config: TrainConfig, name: str, theirs: ModelConfig) -> None:
    asked, own_value = getattr(config.model, name), getattr(theirs, name)
    if name == "variant":
        asked = place(dataclasses.replace(theirs, variant=asked)).variant
    if asked is None or asked == own_value:
        return
    raise ConfigError(
        f"model.{name} = {asked!r}, but the checkpoint of init_from = {config.init_from!r} has "
        f"{own_value!r}; leave it out, or use the same value"
    )


def _data(config: TrainConfig, folder: Path, given: set[str]) -> DataConfig:
    """The data by the checkpoint's tokenizer, framed as the model has seen its texts."""
    data = config.data
    if config.task not in TASKS or not reads(TASKS[config.task].rows, "tokenizer"):
        return data
    if "tokenizer" not in given:
        data = dataclasses.replace(data, tokenizer=_tokenizer(config, folder))
    if "framing" in given or not TASKS[config.task].framed or not data.tokenizer.endswith(".json"):
        return data
    stored = read_json(folder / "config.json")
    if is_workdir(stored):
        return dataclasses.replace(data, framing=from_dict(read_config(folder)).data.framing)
    # A tokenizer of ours puts nothing around a text: there the tasks do.
    ours = stored.get("model_type") == own.MODEL_TYPE
    if ours and load_tokenizer(Path(data.tokenizer).parent).frame == NO_FRAME:
        return data
    return dataclasses.replace(data, framing="tokenizer")


def _tokenizer(config: TrainConfig, folder: Path) -> str:
    if (folder / BYTES_FILE).is_file():
        return "bytes"
    if (folder / TOKENIZER_FILE).is_file():
        return str(folder / TOKENIZER_FILE)
    raise ConfigError(
        f"init_from = {config.init_from!r} has no {TOKENIZER_FILE}; give data.tokenizer: the path "
        "of one, or bytes"
    )
