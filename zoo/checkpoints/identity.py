"""What a checkpoint belongs to: compared before a single tensor is read.

`post_norm` and `deep_norm` have the same tensors in the same shapes, so nothing but the recorded
identity can notice that the weights of one were put under the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zoo.errors import CheckpointError

FORMAT_VERSION = 1
"""Version of what a checkpoint holds; a newer one is refused, an older one is ours to convert."""

_ABSENT = object()


def check_identity(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare two JSON trees, the checkpoint's and this run's.

    Tuples equal lists and 1 equals 1.0, as in JSON; True does not equal 1. A key that only one
    side has is a difference.

    Raises:
        CheckpointError: at the first difference, in the order of `wanted`; the message names the
            dotted key and both values.
    """
    # Through JSON, so that a tuple in a config equals the list that was read back.
    _compare(json.loads(json.dumps(saved)), json.loads(json.dumps(wanted)), "")


def check_format(meta: Mapping[str, Any], path: object) -> None:
    """Refuse a checkpoint that a newer release wrote.

    Raises:
        CheckpointError: `format_version` is missing, not a number, or above FORMAT_VERSION.
    """
    version = meta.get("format_version")
    if not isinstance(version, int):
        raise CheckpointError(f"checkpoint {path} has no format_version; it was not written by zoo")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} has format_version = {version}, this release reads up to "
            f"{FORMAT_VERSION}; install the release that wrote it, or a newer one"
        )


def _compare(saved: Any, wanted: Any, path: str) -> None:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in saved if key not in wanted)]:
            name = f"{path}.{key}" if path else key
            _compare(saved.get(key, _ABSENT), wanted.get(key, _ABSENT), name)
    elif isinstance(saved, list) and isinstance(wanted, list) and len(saved) == len(wanted):
        for index, (ours, theirs) in enumerate(zip(saved, wanted, strict=True)):
            _compare(ours, theirs, f"{path}.{index}" if path else str(index))
    elif not _same(saved, wanted):
        raise CheckpointError(_difference(path, saved, wanted))


def _same(saved: Any, wanted: Any) -> bool:
    if isinstance(saved, bool) or isinstance(wanted, bool):
        return saved is wanted
    both_nan = saved != saved and wanted != wanted
    return both_nan or bool(saved == wanted)


def _difference(path: str, saved: Any, wanted: Any) -> str:
    if saved is _ABSENT:
        return f"checkpoint has no {path}, this run asks for {_shown(wanted)}"
    if wanted is _ABSENT:
        return f"checkpoint has {path} = {_shown(saved)}, this run has no such setting"
    return f"checkpoint has {path} = {_shown(saved)}, this run asks for {_shown(wanted)}"


def _shown(value: Any, most: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
