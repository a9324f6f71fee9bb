"""The settings of checkpoints, shown as `--checkpoint.*` flags."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.settings import at_least, check_types


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and what to keep.

    Raises:
        ConfigError: `every` or `keep` below 1, or a value of another type.
    """

    every: int | None = None
    """Steps between two checkpoints; None: chosen from the length of the run."""

    keep: int = 3
    """How many of the newest checkpoints stay on disk."""

    keep_best: bool = True
    """Keep the checkpoint with the lowest evaluation loss as well."""

    asynchronous: bool = True
    """Write in the background while training goes on."""

    def __post_init__(self) -> None:
        check_types(self, "checkpoint.")
        at_least("checkpoint.every", self.every, 1)
        at_least("checkpoint.keep", self.keep, 1)
