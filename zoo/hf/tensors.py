"""The tensors of a checkpoint's files: their shapes first, their numbers when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import CheckpointError, choices

_FLOATS = ("F32", "F16", "BF16")


class Tensors:
    """Named tensors; `read` takes one from disk, as float32."""

    def __init__(
        self, shapes: dict[str, tuple[int, ...]], read: Callable[[str], np.ndarray[Any, Any]]
    ) -> None:
        self.shapes = shapes
        self.read = read


@contextlib.contextmanager
def open_tensors(files: Sequence[Path]) -> Iterator[Tensors]:
    """The tensors of some safetensors files, or of one of Flax's.

    Raises:
        CheckpointError: on a damaged file, a tensor that is in two of them or holds no floating
            point numbers.
    """
    if files[0].suffix == ".msgpack":
        yield _flax(files[0])
        return
    with contextlib.ExitStack() as stack:
        yield _safetensors(files, stack)


def _safetensors(files: Sequence[Path], stack: contextlib.ExitStack) -> Tensors:
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    homes: dict[str, Any] = {}
    for file in files:
        try:
            opened = stack.enter_context(safe_open(file, framework="numpy"))
            names = list(opened.keys())
            slices = {name: opened.get_slice(name) for name in names}
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{file} is damaged or no safetensors file: {error}") from error
        for name, part in slices.items():
            if name in shapes:
                raise CheckpointError(f"{file} holds {name}, as another file does")
            shapes[name], homes[name] = tuple(part.get_shape()), (file, opened, part.get_dtype())

    def read(name: str) -> np.ndarray[Any, Any]:
        file, opened, dtype = homes[name]
        if dtype not in _FLOATS:
            raise CheckpointError(f"{file}: {name} is of {dtype}; use {choices(_FLOATS)}")
        return np.asarray(opened.get_tensor(name)).astype(np.float32, copy=False)

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
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for path, value in flat.items():
        array = np.asarray(value)
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            raise CheckpointError(f"{file}: {path} is of {array.dtype}; use floating point numbers")
        *parents, last = path.removeprefix("params/").split("/")
        turned = array.T if last == "kernel" and array.ndim == 2 else array
        arrays[".".join([*parents, _FLAX.get(last, last)])] = turned
    shapes = {name: array.shape for name, array in arrays.items()}
    return Tensors(shapes, lambda name: arrays[name].astype(np.float32, copy=False))
