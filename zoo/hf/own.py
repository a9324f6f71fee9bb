"""Our own format: what no family has words for, as a folder of two kinds of file.

`config.json` holds `model_type: postnorm_zoo`, `model` (the fields of `ModelConfig`) and
`placement` (what the variant came to, as in every checkpoint of ours). The safetensors hold every
parameter under its path in the model, `stack.blocks.0.layers.0.sublayers.0.branch.q.kernel`, with
the layers stacked on the first axis as they are in memory, in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.tree_util import tree_leaves_with_path, tree_map_with_path

from zoo.checkpoints.pretrained import model_config, read_placement, with_head
from zoo.errors import CheckpointError
from zoo.hf.files import weight_files
from zoo.hf.tensors import Tensors, copy, open_tensors, room
from zoo.layers import weight
from zoo.models.config import Head
from zoo.models.tower import Origin
from zoo.models.transformer import Transformer, declare

MODEL_TYPE = "postnorm_zoo"


def describe(model: Transformer) -> dict[str, Any]:
    """The `config.json` of a model."""
    return {
        "model_type": MODEL_TYPE,
        "model": dataclasses.asdict(model.config),
        "placement": model.placement.to_json(),
    }


def load(
    folder: Path,
    config: Mapping[str, Any],
    head: Head | Literal["auto"],
    num_labels: int | None,
    dtype: str,
    sharding: Any,
) -> Transformer:
    """The model of a folder in this format; arguments and errors as of `load_pretrained`."""
    path = folder / "config.json"
    made = model_config(config.get("model"), path, dtype)
    stored = config.get("placement")
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"{path}: placement = {stored!r}; use an object, as it was written")
    # Not what its variant's name means today: an export may hold the middle of a schedule.
    model = declare(made, read_placement(stored, path))
    shapes, _ = weight.split(model)

    tensors = open_tensors(weight_files(folder))
    _check({_name(path): leaf.shape for path, leaf in tree_leaves_with_path(shapes)}, tensors)

    def read(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        array = room(leaf.shape)
        copy(tensors.read(_name(path)), array)
        return jax.device_put(array, sharding, may_alias=True)

    params = tree_map_with_path(read, shapes)
    bound = with_head(weight.bind(model, params), head, num_labels, sharding)
    bound.origin = Origin(MODEL_TYPE, str(folder))
    return bound


def arrays(model: Transformer) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """(name, array) of every parameter."""
    params, _ = weight.split(model)
    for path, leaf in tree_leaves_with_path(params):
        yield _name(path), np.asarray(leaf)


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(part.key) for part in path)


def _check(wanted: dict[str, tuple[int, ...]], tensors: Tensors) -> None:
    for name, shape in wanted.items():
        if name not in tensors.shapes:
            raise CheckpointError(f"the checkpoint has no tensor {name}")
        if tensors.shapes[name] != shape:
            raise CheckpointError(
                f"{name} is {list(tensors.shapes[name])}; config.json makes it {list(shape)}"
            )
    for name in sorted(tensors.shapes.keys() - wanted.keys()):
        raise CheckpointError(f"the checkpoint holds {name}, for which its model has no place")
