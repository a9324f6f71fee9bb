"""Whether task, model and data fit each other."""

from __future__ import annotations

from typing import Any

from zoo.data.base import RowSpec
from zoo.errors import ConfigError, choices
from zoo.models.config import HEADS, ModelConfig
from zoo.tasks import TASKS


def check_task(name: str, model: ModelConfig) -> None:
    """Refuse a model that cannot learn the task `name`, naming the nearest that can.

    Raises:
        ConfigError: nothing is chosen in silence, not even a head that was left open.
    """
    task = TASKS[name]
    architecture, head = model.architecture, model.head or HEADS[model.architecture][0]
    if (architecture, head) not in task.models:
        heads = [fit for own, fit in task.models if own == architecture]
        others = [
            repr(other) for other, each in TASKS.items() if (architecture, head) in each.models
        ]
        other = f", or task = {choices(others)}" if others else ""
        if heads:
            raise ConfigError(
                f"task = {name!r} cannot be learnt with model.head = {head!r}; use model.head = "
                f"{choices(map(repr, heads))}{other}"
            )
        wanted, usual = task.models[0]
        more = "" if usual == _usual(wanted) else f" and model.head = {usual!r}"
        raise ConfigError(
            f"task = {name!r} cannot be learnt by model.architecture = {architecture!r}; use "
            f"model.architecture = {wanted!r}{more}{other}"
        )
    if task.token_types > (model.type_vocab_size or 1):
        raise ConfigError(
            f"task = {name!r} tells {task.token_types} kinds of token apart and "
            f"model.type_vocab_size = {model.type_vocab_size}; use {task.token_types}"
        )


def _usual(architecture: str) -> str:
    """The head of an architecture where none is asked for."""
    return next(heads[0] for own, heads in HEADS.items() if own == architecture)


def ends(spec: RowSpec) -> dict[str, Any]:
    """What data says of a model's ends, as arguments of `zoo.training.config.resolve_run`."""
    return {
        "vocab_size": spec.vocabulary.size or None,
        "num_labels": len(spec.labels) or None,
        "decoder_start_id": spec.vocabulary.begin if spec.target_length else None,
        "image": spec.image,
    }


def check_ends(
    model: ModelConfig,
    *,
    vocab_size: int | None = None,
    num_labels: int | None = None,
    decoder_start_id: int | None = None,
    image: tuple[int, int, int] | None = None,
) -> None:
    """Refuse a model whose ends do not fit the data.

    Args:
        vocab_size, num_labels, decoder_start_id, image: as `ends` gives them; None is not
            looked at.

    Raises:
        ConfigError: naming both sides.
    """
    if model.vocab_size is not None and vocab_size is not None and model.vocab_size < vocab_size:
        raise ConfigError(
            f"model.vocab_size = {model.vocab_size} is smaller than the tokenizer's {vocab_size}; "
            "use that or more, or leave it out"
        )
    if None not in (model.num_labels, num_labels) and model.num_labels != num_labels:
        raise ConfigError(
            f"model.num_labels = {model.num_labels} and the data has {num_labels} labels; "
            "use that, or leave it out"
        )
    start = model.decoder_start_id
    if None not in (start, decoder_start_id) and start != decoder_start_id:
        raise ConfigError(
            f"model.decoder_start_id = {start} and targets begin with {decoder_start_id}; "
            "use that, or leave it out"
        )
    if image is not None:
        height, width, channels = image
        size = f"{height} x {width} x {channels}"
        if height != width:
            raise ConfigError(f"the images are {size}; a vision model takes square ones")
        for field, value in (("image_size", height), ("num_channels", channels)):
            if getattr(model, field) != value:
                raise ConfigError(
                    f"model.{field} = {getattr(model, field)} and the images are {size}; "
                    f"use model.{field} = {value}"
                )
