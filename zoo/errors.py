"""The errors a user can cause; each names the key or file, the value, and what is accepted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZooError(ValueError):
    """Bad input of any kind; the command line prints its message alone and exits with 2."""


class ConfigError(ZooError):
    """A setting, or a combination of settings, that cannot work."""


class VariantError(ZooError):
    """A variant's name or option that is unknown or ambiguous, or a switch it forbids."""


class DataError(ZooError):
    """A data source that is missing, empty or unreadable."""


class CheckpointError(ZooError):
    """A checkpoint that is missing, damaged or belongs to something else."""


def choices(accepted: Iterable[object]) -> str:
    """`a, b or c`, for the end of a message; `none` when nothing is accepted."""
    words = [str(word) for word in accepted] or ["none"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def near_matches(name: str, accepted: Iterable[str], most: int = 3) -> str:
    """` (did you mean x or y?)`, or an empty string when nothing is close."""
    close = difflib.get_close_matches(name, list(accepted), n=most, cutoff=0.6)
    return f" (did you mean {choices(close)}?)" if close else ""
