"""Streams by name, and the variants that flow along them.

Every module of this folder that has a `STREAM` is one, under the module's name; its `VARIANTS`
are listed after the plain ones. There is nothing to register.
"""

from __future__ import annotations

import importlib
import pkgutil

from zoo.variants.streams.base import Carry, Numbers, Stream, StreamEnds, StreamSite, Tap, Wiring
from zoo.variants.variant import Variant

_MODULES = {
    found.name: importlib.import_module(f"{__name__}.{found.name}")
    for found in pkgutil.iter_modules(__path__)
    if found.name != "base"
}

STREAMS: dict[str, Stream] = {name: module.STREAM for name, module in _MODULES.items()}
STREAM_VARIANTS: tuple[Variant, ...] = tuple(
    variant for module in _MODULES.values() for variant in getattr(module, "VARIANTS", ())
)

__all__ = [
    "STREAMS",
    "STREAM_VARIANTS",
    "Carry",
    "Numbers",
    "Stream",
    "StreamEnds",
    "StreamSite",
    "Tap",
    "Wiring",
]
