"""The tensors of a checkpoint's files: their shapes first, their numbers when asked for."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
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


def by_expert(tensors: Tensors, fused: Mapping[str, Sequence[str]]) -> Tensors:
    """The same tensors, where those that hold all experts come as one for each expert.

    Args:
        fused: end of a name -> ends of the tensors in it, with the expert's number for `{}`; they
            lie side by side along the second axis, and experts along the first.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    homes: dict[str, tuple[str, int, slice]] = {}
    for name, shape in tensors.shapes.items():
        end = next((end for end in fused if name.endswith(end) and len(shape) == 3), None)
        if end is None:
            shapes[name] = shape
            continue
        rows = shape[1] // len(fused[end])
        for expert in range(shape[0]):
            for part, own in enumerate(fused[end]):
                single = name.removesuffix(end) + own.format(expert)
                if single in tensors.shapes:
                    raise CheckpointError(f"the checkpoint holds {name} and {single}, a part of it")
                shapes[single] = (rows, shape[2])
                homes[single] = name, expert, slice(part * rows, (part + 1) * rows)
    # Of a file in 16 bits a tensor is converted as a whole, once for many of its experts.
    whole = functools.lru_cache(maxsize=2)(tensors.read)

    def read(name: str) -> Array:
        if name not in homes:
            return tensors.read(name)
        home, expert, own = homes[name]
        return whole(home)[expert, own]

    return Tensors(shapes, read)


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
        turned = array
        if last == "kernel" and array.ndim >= 2:
            # [..., in, out], of a convolution behind its window; PyTorch's are [out, in, ...].
            turned = np.moveaxis(array, (-1, -2), (0, 1))
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
    source, target = np.atleast_1d(source), np.atleast_1d(target)  # views
    for start in range(0, source.shape[-1], 128):
        target[..., start : start + 128] = source[..., start : start + 128]
