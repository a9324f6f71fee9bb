"""Write tests/goldens: what other people's implementations give on weights that ours can load.

    pip install -e '.[parity]'                     # in an environment of its own, and then
    pip install --no-deps rezero==0.1.0 torchscale==0.3.0 x-transformers==1.44.8
    python scripts/goldens.py                      # all of it, some seconds
    python scripts/goldens.py deep_norm_decoder    # by name; --list shows the names

The tests read the array files and need none of these packages; neither does this script need jax.
Every model is tiny, in evaluation mode, and has all its parameters moved off their start. The
reference runs in float64 but where it casts to float32 itself (norms and softmax of some). Three
goldens need x-transformers 2; one whose package is missing, or of another version, stays as it is.
"""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path

import _golden_originals
import _golden_stand_ins
import _golden_torch
import _golden_torchscale
import _golden_transformers
import _golden_vision
import _golden_x_transformers
import torch
from _golden_tree import Maker
from packaging.requirements import Requirement

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "goldens"

# Which package, in which versions -> its makers by the name of the array file.
PACKAGES: dict[str, dict[str, Maker]] = {
    "rezero>=0.1": _golden_torch.REZERO,
    "torch>=2": _golden_torch.TORCH,
    "torchscale>=0.3": _golden_torchscale.MAKERS,
    "x-transformers<2": _golden_x_transformers.MAKERS,
    "x-transformers>=2": _golden_x_transformers.MAKERS_2,
    "transformers>=5": {
        **_golden_originals.MAKERS,
        **_golden_transformers.MAKERS,
        **_golden_stand_ins.MAKERS,
        **_golden_vision.MAKERS,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="goldens to write; default: all")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    arguments = parser.parse_args()
    needs = {name: Requirement(text) for text, makers in PACKAGES.items() for name in makers}
    makers = {name: make for each in PACKAGES.values() for name, make in each.items()}
    unknown = sorted(set(arguments.names) - set(needs))
    if unknown:
        parser.error(f"{unknown} not known; use names of {sorted(needs)}")
    for name, make in makers.items():
        installed = _version(needs[name].name)
        if arguments.list:
            print(f"{name}: {needs[name]}, here {installed}")
        elif name in (arguments.names or needs):
            if not needs[name].specifier.contains(installed):
                print(f"{name} left as it is: needs {needs[name]}, here {installed}")
                continue
            path = FOLDER / f"{name}.npz"
            versions = ", ".join(
                f"{each} {_version(each)}" for each in dict.fromkeys((needs[name].name, "torch"))
            )
            torch.manual_seed(0)  # biases keep the start that torch drew for them
            make().save(path, made_by=versions)
            print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


def _version(package: str) -> str:
    """The installed version; 0 where the package is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "0"


if __name__ == "__main__":
    main()
