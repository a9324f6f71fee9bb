"""`zoo env`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from zoo.cli.flags import parse
from zoo.files import dumps
from zoo.tables import pairs


@dataclasses.dataclass(frozen=True)
class EnvOptions:
    """Versions, devices, dtype and caches: paste it into a bug report."""

    json: bool = False
    """Print JSON."""


def run(args: Sequence[str]) -> int:
    options = parse(EnvOptions, args, command="env")
    from zoo.environment import environment

    found = environment()
    if options.json:
        print(dumps(found, indent=2))
        return 0
    packages = {name: version or "missing" for name, version in found.pop("packages").items()}
    devices = [f"{device['count']} x {device['kind']}" for device in found["devices"]]
    plain = {key: "none" if value is None else value for key, value in found.items()}
    print(pairs(plain | {"devices": ", ".join(devices)} | packages))
    return 0
