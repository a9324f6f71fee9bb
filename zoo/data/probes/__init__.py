"""Probes of depth: problems with exact answers, made as they are read. A new one is one file."""

from zoo.data.config import ProbeKind
from zoo.data.probes import copy, induction, listops, parity
from zoo.data.probes.base import Draws, Probe, Problem

PROBES: dict[ProbeKind, Probe] = {
    module.PROBE.name: module.PROBE for module in (copy, induction, listops, parity)
}

__all__ = ["PROBES", "Draws", "Probe", "Problem"]
