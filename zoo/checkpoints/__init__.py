"""Checkpoints: Orbax writes the arrays; checksums, refusals and what is kept are ours."""

from zoo.checkpoints.config import CheckpointConfig
from zoo.checkpoints.identity import FORMAT_VERSION, check_identity
from zoo.checkpoints.store import Checkpoints

__all__ = ["FORMAT_VERSION", "CheckpointConfig", "Checkpoints", "check_identity"]
