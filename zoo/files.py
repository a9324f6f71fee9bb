"""Files that appear whole, and the JSON that is written to them."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# JSON has no word for these, and Python's own `NaN` literal is refused by most other readers.
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; renames it over `path` when the block succeeds.

    A reader sees the old file or the new one, never half of either, and a failed block leaves
    nothing behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any], *, indent: int = 1) -> None:
    """Strict JSON, in one rename."""
    with replacing(path) as beside:
        beside.write_text(dumps(value, indent=indent) + "\n", encoding="utf-8")


def dumps(value: object, *, indent: int | None = None) -> str:
    """`value` as strictly valid JSON; array scalars become numbers, paths strings."""
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, indent=indent)


def restore_non_finite(value: Any) -> Any:
    """The inverse of what `dumps` does to numbers that are not finite, at any depth."""
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: restore_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restore_non_finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """`value` in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a NumPy or JAX scalar
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
