"""A model's weights as the token loop wants them: those of each layer by themselves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from zoo.models.encoder_decoder import EncoderDecoder
from zoo.models.past import unrolled
from zoo.models.text import TextModel
from zoo.models.tower import Tower, Transformer

# Deeper stacks are scanned: compiling every layer by itself would take longer than it saves.
_MOST_UNROLLED = 48
# Bytes up to which a stacked weight is sooner copied than looked into.
_LARGE = 2**22
# More than a stacked weight has layers; a leaf's number times this, and a layer's, tag its parts.
_TAGS = 2**20


@dataclasses.dataclass(frozen=True)
class Structure:
    """A model without its arrays; hashable, equal for models that compile to one program.

    Attributes:
        treedef: of the model as a pytree.
        sources: of each of its leaves the number of the array that it lies in, and which layer
            of that; None: it is the whole array. Without sources arrays are its leaves.
    """

    treedef: Any
    sources: tuple[tuple[int, int | None], ...] | None = None

    def with_arrays(self, arrays: Sequence[Any]) -> Transformer:
        """The model with arrays as `split` or `prepared` gave them."""
        leaves = arrays
        if self.sources is not None:
            leaves = [
                arrays[number] if layer is None else arrays[number][layer : layer + 1]
                for number, layer in self.sources
            ]
        model: Transformer = jax.tree.unflatten(self.treedef, leaves)
        return model


def split(model: Transformer) -> tuple[Structure, list[Any]]:
    """A model in parts. Where it was loaded from is left out: it computes nothing.

    As a pytree: `nnx.split` takes five times as long, longer than a tiny model's token.
    """
    own = vars(model)
    kept = ("origin", "generation")
    loaded: dict[str, Any] = {name: own.pop(name) for name in kept if name in own}
    leaves, treedef = jax.tree.flatten(model)
    own.update(loaded)
    return Structure(treedef), leaves


def target(model: Transformer) -> Tower:
    """The tower that writes."""
    assert isinstance(model, TextModel | EncoderDecoder)
    return model.decoder if isinstance(model, EncoderDecoder) else model


def prepared(model: Transformer) -> tuple[Structure, list[Any]]:
    """The parts of a model that computes the same with layers that are not stacked.

    On a CPU no large weight is copied: one layer's part of a stacked array is an array in place.
    Small ones are cut up by the program itself, which costs less than to hand them over in parts.
    """
    structure, leaves = split(model)
    _, stack = model.placement.stacks[-1]
    if len(stack.layers) > _MOST_UNROLLED:
        return structure, leaves
    lengths = tuple(leaf.shape[0] if leaf.ndim else None for leaf in leaves)
    in_place = tuple(_lies_here(leaf) for leaf in leaves)
    structure, parts = _unrolled(structure, lengths, in_place)
    views = {leaf: np.asarray(leaves[leaf]) for leaf, layer in parts if layer is not None}
    arrays = [
        leaves[leaf] if layer is None else views[leaf][layer : layer + 1] for leaf, layer in parts
    ]
    return structure, jax.device_put(arrays, may_alias=True) if views else arrays


@functools.lru_cache(maxsize=64)
def _unrolled(
    structure: Structure, lengths: tuple[int | None, ...], in_place: tuple[bool, ...]
) -> tuple[Structure, list[tuple[int, int | None]]]:
    """The structure with one block, and the arrays that it takes.

    Args:
        lengths: the first axis of each leaf, None of a scalar.
        in_place: of each leaf whether its layers are handed over one by one.

    Returns:
        Of each array the number of the leaf, and which layer of it; None: all of it.
    """
    tags = [
        np.asarray(number * _TAGS) if length is None else number * _TAGS + np.arange(length)
        for number, length in enumerate(lengths)
    ]
    model = structure.with_arrays(tags)
    tower = target(model)
    tower.stack = unrolled(tower.stack)
    whole, leaves = split(model)
    numbers: dict[tuple[int, int | None], int] = {}  # of the arrays, in their order
    sources: list[tuple[int, int | None]] = []
    for leaf in leaves:
        number, repeat = divmod(int(np.ravel(leaf)[0]), _TAGS)
        layer = repeat if np.shape(leaf) == (1,) else None
        part = (number, layer if in_place[number] else None)
        array = numbers.setdefault(part, len(numbers))
        sources.append((array, None if in_place[number] else layer))
    return dataclasses.replace(whole, sources=tuple(sources)), list(numbers)


def _lies_here(array: jax.Array) -> bool:
    """Whether parts of an array can be used in place, and are worth the handling of each."""
    devices = array.devices()
    here = len(devices) == 1 and next(iter(devices)).platform == "cpu"
    return here and array.nbytes > _LARGE
