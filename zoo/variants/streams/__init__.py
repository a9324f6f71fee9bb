"""Streams by name; a variant names the one it flows along."""

from zoo.variants.streams.base import Carry, Numbers, Stream, StreamEnds, StreamSite, Tap
from zoo.variants.streams.plain import PLAIN_STREAM

STREAMS: dict[str, Stream] = {"plain": PLAIN_STREAM}

__all__ = ["STREAMS", "Carry", "Numbers", "Stream", "StreamEnds", "StreamSite", "Tap"]
