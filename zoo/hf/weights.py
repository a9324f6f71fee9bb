"""The map between our weights and theirs, written once for each family, read in both directions.

Our weights go by `place`: their path without the stack's bookkeeping, and with the kind of
sublayer instead of its number: `embedding/tokens`, `mlp/branch/w1/kernel`; in an encoder-decoder
behind the stack's name, `decoder/cross_attention/branch/q/kernel`. Theirs go by name, where `{}`
is the number of a layer, and a second one that of an expert.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from zoo.errors import CheckpointError, choices
from zoo.hf.tensors import Array, Tensors, copy, room
from zoo.layers.weight import EXPERTS, Weight
from zoo.models.config import ModelConfig

Convert = Callable[[Array, ModelConfig], Array]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where one of our weights lies in their files.

    Attributes:
        name: of the tensor.
        transposed: PyTorch's Linear holds [out, in], ours [in, out].
        part: its place among the weights of one sublayer that share a tensor, side by side along
            the last axis in our orientation; None: it has the tensor to itself.
        load, save: conversions that go beyond, of theirs to ours and back.
    """

    name: str
    transposed: bool = False
    part: int | None = None
    load: Convert | None = None
    save: Convert | None = None


Map = dict[str, Tensor]


def tensor(ours: str, theirs: str) -> Map:
    """A weight that is the same on both sides."""
    return {ours: Tensor(theirs)}


def linear(ours: str, theirs: str, *, part: int | None = None) -> Map:
    """A `Linear` and PyTorch's."""
    return {
        f"{ours}/kernel": Tensor(f"{theirs}.weight", transposed=True, part=part),
        f"{ours}/bias": Tensor(f"{theirs}.bias", part=part),
    }


def conv1d(ours: str, theirs: str, *, part: int | None = None) -> Map:
    """A `Linear` and the Conv1D of OpenAI's models, whose matrix is [in, out]."""
    return {
        f"{ours}/kernel": Tensor(f"{theirs}.weight", part=part),
        f"{ours}/bias": Tensor(f"{theirs}.bias", part=part),
    }


def norm(ours: str, theirs: str) -> Map:
    """A norm's gain, and its shift if it has one."""
    return {f"{ours}/gain": Tensor(f"{theirs}.weight"), f"{ours}/bias": Tensor(f"{theirs}.bias")}


@dataclasses.dataclass(frozen=True)
class Slot:
    """One of our weights: its path in the tree, its declaration and shape, and its tensor."""

    path: tuple[str, ...]
    place: str
    weight: Weight
    shape: tuple[int, ...]
    tensor: Tensor | None

    def copies(self) -> list[Copy]:
        """Of the layers, and of the experts, that lie along its first axes."""
        layers = () if self.weight.layers is None else self.weight.layers
        # Layers that share a weight go by the number of their group.
        groups = [layer // self.weight.shared for layer in layers]
        copies: list[Copy] = [((row,), (group,)) for row, group in enumerate(groups)] or [((), ())]
        if self.weight.axes[:1] != (EXPERTS,):
            return copies
        experts = range(self.shape[len(copies[0][0])])
        return [((*row, own), (*names, own)) for row, names in copies for own in experts]

    def name(self, numbers: tuple[int, ...] = ()) -> str:
        """Of the tensor of one copy."""
        assert self.tensor is not None
        return self.tensor.name.format(*numbers) if numbers else self.tensor.name

    def own_shape(self) -> tuple[int, ...]:
        """Of one copy."""
        return self.shape[len(self.copies()[0][0]) :]


# Where it lies in ours, and the numbers in the name of its tensor.
Copy = tuple[tuple[int, ...], tuple[int, ...]]
Parts = dict[tuple[str, range | None], list[Slot]]


def slots(
    shapes: dict[str, Any], weights: dict[str, Any], names: Mapping[str, Tensor]
) -> list[Slot]:
    """Every weight of a model (as `zoo.layers.weight.split` gives them), with its tensor."""
    found = []
    for path, shape in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        keys = tuple(str(key.key) for key in path)
        weight: Any = weights
        for key in keys:
            weight = weight[key]
        place = place_of(keys, weight)
        found.append(Slot(keys, place, weight, tuple(shape.shape), names.get(place)))
    return found


def place_of(path: tuple[str, ...], weight: Weight) -> str:
    """The name that a family's map calls a weight by."""
    if weight.layers is None or "sublayers" not in path:
        return "/".join(path)
    above = path[: path.index("stack")]
    within = path[path.index("sublayers") + 2 :]
    return "/".join((*above, str(weight.sublayer), *within))


def load(
    found: list[Slot], tensors: Tensors, config: ModelConfig, sharding: Any
) -> tuple[dict[tuple[str, ...], jax.Array], set[str]]:
    """(parameters by path, names of the tensors that were used).

    Every shape is held against the files' before anything is allocated; then weight by weight.

    Args:
        found: with a tensor each.
        sharding: of every weight; None: the default device.

    Raises:
        CheckpointError: naming the tensors that are missing or have another shape.
    """
    parts = _parts(found)
    used = _check(found, parts, tensors, config)
    params: dict[tuple[str, ...], jax.Array] = {}
    with ThreadPoolExecutor() as pool:
        for slot in found:
            array = room(slot.shape)

            def fill(one: Copy, slot: Slot = slot, array: Array = array) -> None:
                row, numbers = one
                where: Any = (*row, ...)  # a view, of a scalar too
                own = _ours(slot, parts, tensors.read(slot.name(numbers)), config)
                copy(own, array[where])

            list(pool.map(fill, slot.copies()))
            # Nothing else writes there, so that the CPU can keep it as it is.
            params[slot.path] = jax.device_put(array, sharding, may_alias=True)
    return params, used


def save(
    found: list[Slot], params: dict[str, Any], config: ModelConfig
) -> Iterator[tuple[str, str, Array]]:
    """Their tensors, (name in the map, own name, float32 array), of our parameters."""
    parts = _parts(found)
    written: set[str] = set()
    values: dict[tuple[str, ...], Array] = {}
    for slot in found:
        leaf: Any = params
        for key in slot.path:
            leaf = leaf[key]
        values[slot.path] = np.asarray(leaf, np.float32)
    for slot in found:
        assert slot.tensor is not None
        for row, numbers in slot.copies():
            name = slot.name(numbers)
            if name in written:
                continue
            written.add(name)
            arrays = [values[member.path][row] for member in _group(slot, parts)]
            yield slot.tensor.name, name, _theirs(slot, arrays, config)


def _parts(found: list[Slot]) -> Parts:
    """The weights that share tensors, in their order, by the tensors' name and layers."""
    groups: Parts = {}
    for slot in found:
        if slot.tensor is not None and slot.tensor.part is not None:
            groups.setdefault((slot.tensor.name, slot.weight.layers), []).append(slot)
    return {
        key: sorted(group, key=lambda slot: slot.tensor.part or 0 if slot.tensor else 0)
        for key, group in groups.items()
    }


def _group(slot: Slot, parts: Parts) -> list[Slot]:
    """The weights that share a weight's tensors, itself included."""
    assert slot.tensor is not None
    return parts.get((slot.tensor.name, slot.weight.layers), [slot])


def _ours(slot: Slot, parts: Parts, array: Array, config: ModelConfig) -> Array:
    """One layer's weight of the tensor that holds it."""
    assert slot.tensor is not None
    if slot.tensor.load is not None:
        array = slot.tensor.load(array, config)
    if slot.tensor.transposed:
        array = array.T
    if slot.tensor.part is None:
        return array
    start = 0
    for member in _group(slot, parts):
        if member is slot:
            break
        start += member.own_shape()[-1]
    return array[..., start : start + slot.own_shape()[-1]]


def _theirs(slot: Slot, arrays: list[Array], config: ModelConfig) -> Array:
    assert slot.tensor is not None
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
    if slot.tensor.transposed:
        array = array.T
    if slot.tensor.save is not None:
        array = slot.tensor.save(array, config)
    return np.ascontiguousarray(array)


def _check(found: list[Slot], parts: Parts, tensors: Tensors, config: ModelConfig) -> set[str]:
    """The names of all tensors that are needed, when they are there in the right shapes."""
    missing, used = [], set()
    for slot in found:
        assert slot.tensor is not None
        # Broadcast zeros have a shape and no memory.
        group = _group(slot, parts)
        zeros = [np.broadcast_to(np.float32(0), member.own_shape()) for member in group]
        wanted = _theirs_shape(slot, zeros, config)
        for _, numbers in slot.copies():
            name = slot.name(numbers)
            used.add(name)
            if name not in tensors.shapes:
                missing.append(name)
            elif tensors.shapes[name] != wanted:
                raise CheckpointError(
                    f"{name} is {list(tensors.shapes[name])}; config.json makes it {list(wanted)}"
                )
    if missing:
        missing = sorted(set(missing))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CheckpointError(f"the checkpoint has no tensor {choices(missing[:5])}{more}")
    return used


def _theirs_shape(slot: Slot, zeros: list[Array], config: ModelConfig) -> tuple[int, ...]:
    assert slot.tensor is not None
    if slot.tensor.save is not None:
        return _theirs(slot, zeros, config).shape
    shape = (*zeros[0].shape[:-1], sum(each.shape[-1] for each in zeros)) if zeros[0].ndim else ()
    return shape[::-1] if slot.tensor.transposed else shape
