"""Devices: the mesh, and where parameters, optimizer state and batches lie on it.

Weights say their logical axes; one table says which mesh axis each goes to. A later
axis (tensor) is one more entry.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from zoo.errors import ConfigError, choices
from zoo.layers.weight import Weight
from zoo.settings import check_types

# Logical axis -> mesh axis; an axis that is not named here is replicated.
RULES: dict[str, str] = {"embed": "fsdp"}
BATCH_AXES = ("data", "fsdp")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out; the batch is split over all of them."""

    fsdp: int = 1
    """Devices over which parameters and optimizer state are sharded; the rest are data parallel."""

    def validate(self, devices: int) -> None:
        """Raise ConfigError where the mesh does not fit `devices`."""
        check_types(self, "mesh.")
        if self.fsdp < 1 or devices % self.fsdp:
            fit = [n for n in range(1, devices + 1) if devices % n == 0]
            raise ConfigError(
                f"mesh.fsdp = {self.fsdp} does not divide {devices} devices; use {choices(fit)}"
            )


def make_mesh(config: MeshConfig) -> Mesh:
    """A (data, fsdp) mesh over all devices, with automatic axes."""
    devices = jax.devices()
    config.validate(len(devices))
    grid = np.asarray(devices).reshape(-1, config.fsdp)
    # Explicit axes, the default, refuse an embedding gather from a sharded table.
    return Mesh(grid, BATCH_AXES, axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def param_shardings(mesh: Mesh, weights: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    """A sharding per weight: matrices and embeddings by the table, small vectors replicated."""

    def place(weight: Weight, shape: Any) -> NamedSharding:
        if weight.kind not in ("matrix", "embedding"):
            return replicated(mesh)
        sizes = shape.shape[len(shape.shape) - len(weight.axes) :]
        names: list[str | None] = []
        for axis, size in zip(weight.axes, sizes, strict=True):
            target = RULES.get(axis)
            fits = target is not None and target not in names and size % mesh.shape[target] == 0
            names.append(target if fits else None)
        return NamedSharding(mesh, PartitionSpec(*([None] * weight.stacked), *names))

    return jax.tree.map(place, weights, shapes)


def like_params(mesh: Mesh, tree: Any, shapes: Any, shardings: Any) -> Any:
    """Shardings for a tree that holds copies of the parameters, such as an optimizer's state.

    A leaf whose path ends in a parameter's path and that has its shape lies where the
    parameter lies; every other leaf is replicated.
    """
    flat = jax.tree_util.tree_leaves_with_path(shapes)
    places = jax.tree.leaves(shardings)
    known = {
        _names(path): (leaf.shape, place) for (path, leaf), place in zip(flat, places, strict=True)
    }

    def place(path: Any, leaf: Any) -> NamedSharding:
        names = _names(path)
        for start in range(len(names)):
            shape, sharding = known.get(names[start:], (None, None))
            if shape == leaf.shape and sharding is not None:
                return sharding
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, tree)


def put_batch(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Host arrays of the global batch to devices; each process hands over its own part only."""
    return {
        name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__)
        for name, array in batch.items()
    }


def check_batch(batch_size: int, accumulate: int, devices: int) -> None:
    """Raise ConfigError when a batch cannot be split over micro-batches and devices."""
    parts = accumulate * devices
    if batch_size % parts:
        nearest = max(parts, round(batch_size / parts) * parts)
        raise ConfigError(
            f"data.batch_size = {batch_size} does not split into optim.accumulate = {accumulate} "
            f"micro-batches over {devices} device{'s'[: devices > 1]}; use a multiple of "
            f"{parts}, such as {nearest}"
        )


def _names(path: Any) -> tuple[str, ...]:
    return tuple(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
