"""What a run ran on: versions, devices, caches and commit, for reports and `config.json`."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.data.config import DataConfig, cache_root
from zoo.errors import ConfigError

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def environment() -> dict[str, Any]:
    """A JSON object; starts jax's backend, but imports no other heavy library.

    Keys: `zoo`, `commit` (None outside a checkout; `-dirty` when tracked files differ from
    it), `python`, `platform`, `processor` and `cpus` (usable by this process; the last bits of a
    run depend on both), `packages` (name to version, None when missing), `backend`, `devices`
    (kind and count), `processes`, `default_dtype` (of parameters), `data_cache`,
    `compile_cache` (folder, or None when off).
    """
    import jax
    import jax.numpy as jnp

    config: Any = jax.config  # its attributes are made at run time
    kinds = Counter(device.device_kind for device in jax.devices())
    return {
        "zoo": importlib.import_module("zoo").__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": _usable_cpus(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "backend": jax.default_backend(),
        "devices": [{"kind": kind, "count": count} for kind, count in kinds.items()],
        "processes": jax.process_count(),
        "default_dtype": str(jnp.zeros(()).dtype),
        "data_cache": str(cache_root(DataConfig())),
        "compile_cache": config.jax_compilation_cache_dir,
    }


def library(module: str, package: str) -> Any:
    """A module that makes figures, imported where it is used.

    Raises:
        ConfigError: when the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"these figures are those of {package}, which is not there: pip install {package}"
        ) from error


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name and kind; where Linux does not tell, its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    pairs = (line.partition(":") for line in lines)
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    kind = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return " ".join([fields.get("model name", platform.machine()), *kind])


def _usable_cpus() -> int | None:
    """CPUs this process may use; a container or taskset can leave fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    # Only a checkout of our own: site-packages may lie inside somebody else's repository.
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
