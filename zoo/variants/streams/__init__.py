"""Streams by name; a variant names the one it flows along."""

from zoo.variants.streams.base import Carry, Stream, StreamSite
from zoo.variants.streams.plain import PLAIN_STREAM

STREAMS: dict[str, Stream] = {"plain": PLAIN_STREAM}

__all__ = ["STREAMS", "Carry", "Stream", "StreamSite"]
