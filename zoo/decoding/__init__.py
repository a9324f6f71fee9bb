"""Continuing text: greedily, by drawing, or with beams."""

from zoo.decoding.generate import generate
from zoo.decoding.sampling import Sampling

__all__ = ["Sampling", "generate"]
