"""The tensors of a checkpoint's files: their shapes first, their numbers when asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from zoo.errors import CheckpointError, choices

_FLOATS = {
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(jnp.bfloat16),
}


Array = np.ndarray[Any, Any]


class Tensors:
    """Named tensors; `read` gives one as float32, perhaps as a view of its file: copy it."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], read: Callable[[str], Array]) -> None:
        self.shapes = shapes
        self.read = read


def open_tensors(files: Sequence[Path]) -> Tensors:
    """The tensors of some safetensors files, or of one of Flax's.

    Raises:
        CheckpointError: on a damaged file, a tensor that is in two of them or holds no floating
            point numbers.
    """
    return _flax(files[0]) if files[0].suffix == ".msgpack" else _safetensors(files)


def _safetensors(files: Sequence[Path]) -> Tensors:
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    homes: dict[str, tuple[Path, str, Array]] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as checked:  # of its header nothing is untrue
                names = list(checked.keys())
            data = np.memmap(file, np.uint8, "r")
            start = 8 + int.from_bytes(data[:8].tobytes(), "little")
            header = json.loads(data[8:start].tobytes())
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{file} is damaged or no safetensors file: {error}") from error
        for name in names:
            if name in shapes:
                raise CheckpointError(f"{file} holds {name}, as another file does")
            entry = header[name]
            first, last = entry["data_offsets"]
            shapes[name] = tuple(entry["shape"])
            homes[name] = file, entry["dtype"], data[start + first : start + last]

    def read(name: str) -> Array:
        file, kind, raw = homes[name]
        if kind not in _FLOATS:
            raise CheckpointError(f"{file}: {name} is of {kind}; use {choices(_FLOATS)}")
        # The library's own way to read makes a copy first, which is as much again to move.
        array = raw.view(_FLOATS[kind]).reshape(shapes[name])
        return array.astype(np.float32, copy=False)

    return Tensors(shapes, read)


# Flax's name of a weight, PyTorch's, and whether its matrix stands the other way round.
_FLAX = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def _flax(file: Path) -> Tensors:
    """Flax's parameters under PyTorch's names; msgpack holds arrays alone, no code."""
    from flax import serialization, traverse_util

    try:
        # Anything may be wrong inside a file that is not what it says.
        tree = serialization.msgpack_restore(file.read_bytes())
        flat = traverse_util.flatten_dict(tree, sep="/")
    except Exception as error:
        raise CheckpointError(f"{file} is damaged or no Flax checkpoint: {error}") from error
    arrays: dict[str, Array] = {}
    for path, value in flat.items():
        array = np.asarray(value)
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            raise CheckpointError(f"{file}: {path} is of {array.dtype}; use floating point numbers")
        *parents, last = path.removeprefix("params/").split("/")
        turned = array.T if last == "kernel" and array.ndim == 2 else array
        arrays[".".join([*parents, _FLAX.get(last, last)])] = turned
    shapes = {name: array.shape for name, array in arrays.items()}
    return Tensors(shapes, lambda name: arrays[name].astype(np.float32, copy=False))


def room(shape: tuple[int, ...]) -> Array:
    """Float32 memory at a multiple of 64 bytes, which the CPU backend takes without a copy."""
    size = 4 * math.prod(shape)
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(np.float32).reshape(shape)


def copy(source: Array, target: Array) -> None:
    """Strip by strip: a transposed matrix as a whole takes four times as long."""
    for start in range(0, source.shape[-1] if source.ndim else 0, 128):
        target[..., start : start + 128] = source[..., start : start + 128]
    if not source.ndim:
        target[...] = source
