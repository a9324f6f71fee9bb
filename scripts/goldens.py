"""Write tests/goldens: what other people's implementations give on weights that ours can load.

    pip install -e '.[parity]'                     # in an environment of its own, and then
    pip install --no-deps rezero==0.1.0 torchscale==0.3.0 x-transformers==1.44.8
    python scripts/goldens.py                      # all of it, some seconds
    python scripts/goldens.py deep_norm_decoder    # by name; --list shows the names

The tests read the array files and need none of these packages; neither does this script need jax.
Every model is tiny, in evaluation mode, and has all its parameters moved off their start. The
reference runs in float64, so a difference is ours.
"""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path

import _golden_torch
import _golden_torchscale
import _golden_transformers
import _golden_x_transformers
from _golden_tree import Maker

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "goldens"

# Package -> its makers by the name of the array file.
PACKAGES: dict[str, dict[str, Maker]] = {
    "rezero": _golden_torch.REZERO,
    "torchscale": _golden_torchscale.MAKERS,
    "x-transformers": _golden_x_transformers.MAKERS,
    "transformers": _golden_transformers.MAKERS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="goldens to write; default: all")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    arguments = parser.parse_args()
    known = [name for makers in PACKAGES.values() for name in makers]
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        parser.error(f"{unknown} not known; use names of {known}")
    for package, makers in PACKAGES.items():
        for name, make in makers.items():
            if arguments.list:
                print(f"{name} ({package})")
            elif name in (arguments.names or known):
                path = FOLDER / f"{name}.npz"
                versions = [f"{each} {metadata.version(each)}" for each in (package, "torch")]
                make().save(path, made_by=", ".join(versions))
                print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
