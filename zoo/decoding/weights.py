"""A model's weights as the token loop wants them: those of each layer by themselves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

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
    """A model without its arrays; hashable, equal for models that compile to one program."""

    graphdef: nnx.GraphDef[Transformer]
    treedef: Any

    def with_arrays(self, leaves: Sequence[Any]) -> Transformer:
        """The model with arrays in the order of `split`."""
        return nnx.merge(self.graphdef, jax.tree.unflatten(self.treedef, leaves))


def split(model: Transformer) -> tuple[Structure, list[Any]]:
    """A model in parts. Where it was loaded from is left out: it computes nothing."""
    loaded, model.origin, model.generation = (model.origin, model.generation), None, ()
    graphdef, state = nnx.split(model)
    model.origin, model.generation = loaded
    leaves, treedef = jax.tree.flatten(state)
    return Structure(graphdef, treedef), leaves


def target(model: Transformer) -> Tower:
    """The tower that writes."""
    assert isinstance(model, TextModel | EncoderDecoder)
    return model.decoder if isinstance(model, EncoderDecoder) else model


def prepared(model: Transformer) -> tuple[Structure, list[Any]]:
    """The parts of a model that computes the same with layers that are not stacked.

    On a CPU no large weight is copied: one layer's part of a stacked array is an array in place.
    """
    structure, leaves = split(model)
    _, stack = model.placement.stacks[-1]
    if len(stack.layers) > _MOST_UNROLLED:
        return structure, leaves
    lengths = tuple(leaf.shape[0] if leaf.ndim else None for leaf in leaves)
    structure, sources = _unrolled(structure, lengths)
    parts = _parts({leaf: leaves[leaf] for leaf, repeat in sources if repeat is not None})
    chosen = [leaves[leaf] if repeat is None else parts[leaf][repeat] for leaf, repeat in sources]
    return structure, jax.device_put(chosen, may_alias=True)


@functools.lru_cache(maxsize=64)
def _unrolled(
    structure: Structure, lengths: tuple[int | None, ...]
) -> tuple[Structure, list[tuple[int, int | None]]]:
    """The structure with one block, and where each of its leaves comes from.

    Args:
        lengths: the first axis of each leaf, None of a scalar.

    Returns:
        Of each leaf the old one's number, and which layer of it; None: all of it.
    """
    tags = [
        np.asarray(number * _TAGS) if length is None else number * _TAGS + np.arange(length)
        for number, length in enumerate(lengths)
    ]
    model = structure.with_arrays(tags)
    tower = target(model)
    tower.stack = unrolled(tower.stack)
    whole, leaves = split(model)
    sources = []
    for leaf in leaves:
        number, repeat = divmod(int(np.ravel(leaf)[0]), _TAGS)
        sources.append((number, repeat if len(np.ravel(leaf)) == 1 and np.ndim(leaf) else None))
    return whole, sources


def _parts(stacked: dict[int, jax.Array]) -> dict[int, Sequence[Any]]:
    """Arrays of [layers, ...], each as that many of [1, ...]."""
    in_place = {leaf: array for leaf, array in stacked.items() if _lies_here(array)}
    copied = {leaf: array for leaf, array in stacked.items() if leaf not in in_place}
    views = {leaf: np.asarray(array) for leaf, array in in_place.items()}
    return _sliced(copied) | {
        leaf: [array[layer : layer + 1] for layer in range(len(array))]
        for leaf, array in views.items()
    }


def _lies_here(array: jax.Array) -> bool:
    """Whether parts of an array can be used in place, and are worth the handling of each."""
    devices = array.devices()
    here = len(devices) == 1 and next(iter(devices)).platform == "cpu"
    return here and array.nbytes > _LARGE


@jax.jit
def _sliced(stacked: dict[int, jax.Array]) -> dict[int, Sequence[jax.Array]]:
    return {
        leaf: [array[layer : layer + 1] for layer in range(len(array))]
        for leaf, array in stacked.items()
    }
