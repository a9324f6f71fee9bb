"""The settings of checkpoints, shown as `--checkpoint.*` flags."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import ConfigError


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and what to keep.

    Raises:
        ConfigError: `every` or `keep` below 1.
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
        if self.every is not None and self.every < 1:
            raise ConfigError(f"checkpoint.every = {self.every}; use 1 or more steps, or None")
        if self.keep < 1:
            raise ConfigError(f"checkpoint.keep = {self.keep}; use 1 or more")
