"""What a run computes, as a short hash: equal where a finished run need not be made again."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection

from zoo.models.config import ModelConfig
from zoo.models.resolve import place
from zoo.settings import flatten
from zoo.training.config import TrainConfig, resolve_optim
from zoo.variants.registry import get_variant


def identity(config: TrainConfig, *, ignore: Collection[str] = ("workdir",)) -> str:
    """A hash of what a run asks for, of its optimizer and of its placement, 12 hex digits.

    Settings that are left at their default are no part of it, so that a setting which is added
    later, and changes nothing by default, leaves what was made before valid.

    Args:
        ignore: dotted settings that change nothing that matters.

    Raises:
        ZooError: on a run that cannot work.
    """
    default = flatten(TrainConfig())
    asked = {key: value for key, value in flatten(config).items() if value != default[key]}
    for name in ignore:
        asked.pop(name, None)
    recipe = get_variant(config.model.variant).recipe
    optim = flatten(resolve_optim(config.optim, recipe, config.steps)[0])
    record = [asked, optim, json.loads(_placement(config.model))]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=256)
def _placement(model: ModelConfig) -> str:
    """As JSON; runs of a comparison differ in much else."""
    return json.dumps(place(model).to_json())
