"""Trees of arrays as Orbax stores them, and the comparison that Orbax leaves out.

Any pytree becomes a nested dict of strings, so that a checkpoint can be read without the classes
that made it. Orbax casts to another dtype in silence and may pad to another shape: names, shapes
and dtypes are therefore compared here, before a restore.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.errors import CheckpointError

Names = tuple[str, ...]


def flatten(tree: Any) -> dict[Names, Any]:
    """Leaves by path, in the order of `jax.tree.leaves`; empty containers leave no trace."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(_name(key) for key in path): leaf for path, leaf in leaves}


def nest(leaves: Mapping[Names, Any]) -> dict[str, Any]:
    """The nested dict with these leaves."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        inner = tree
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = leaf
    return tree


def storable(tree: Any) -> dict[str, Any]:
    """`tree` as a nested dict of arrays that a restore gives back exactly.

    Raises:
        CheckpointError: a leaf is no array, or of a dtype that does not survive a restore.
    """
    return nest({path: _storable(dotted(path), leaf) for path, leaf in flatten(tree).items()})


def compare(saved: Mapping[Names, Any], wanted: Mapping[Names, Any], path: Path) -> None:
    """Names, shapes and dtypes of the checkpoint at `path` against those that are asked for.

    Leaves have `shape` and `dtype`.

    Raises:
        CheckpointError: at the first difference; names the tensor and both values.
    """
    extra = [dotted(name) for name in saved if name not in wanted]
    for name, leaf in wanted.items():
        if name not in saved:
            close = f"; it has {extra[0]}, which this run does not know" if extra else ""
            raise CheckpointError(
                f"checkpoint {path} has no tensor {dotted(name)}, this run asks for one of shape "
                f"{tuple(leaf.shape)}{close}"
            )
        for what in ("shape", "dtype"):
            ours, theirs = _shown(saved[name], what), _shown(leaf, what)
            if ours != theirs:
                raise CheckpointError(
                    f"checkpoint {path} has {dotted(name)} with {what} {ours}, "
                    f"this run asks for {theirs}"
                )
    if extra:
        raise CheckpointError(
            f"checkpoint {path} has a tensor {extra[0]}, this run has no such tensor"
        )


def dotted(path: Names) -> str:
    return ".".join(path)


def _name(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _shown(leaf: Any, what: str) -> str:
    return str(tuple(leaf.shape)) if what == "shape" else str(np.dtype(leaf.dtype))


def _storable(name: str, leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise CheckpointError(
            f"{name} is of type {type(leaf).__name__}; a checkpoint's tensors are arrays, "
            "plain values go into meta"
        )
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise CheckpointError(f"{name} is a random key; save jax.random.key_data of it instead")
    if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
        raise CheckpointError(
            f"{name} has dtype {leaf.dtype}, which JAX would cut to 32 bits on restore; "
            "save it as a 32-bit array, or enable jax_enable_x64"
        )
    return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
