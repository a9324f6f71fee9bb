"""Settings of the whole suite, made before jax is imported anywhere.

Tests compile far more than they compute. Without XLA's optimisation a three-layer gradient compiles
about three times faster and differs by about 2e-7 relative. Users run optimised programs, so
`.ci/run` runs the tests marked `optimized` once more with ZOO_TEST_OPTIMIZED=1, which leaves the
flags out. Nothing here simulates devices: a test that needs eight of them starts a subprocess of
its own, which inherits the environment set here.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

# For processes that tests start, which make the same programs again and again.
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "jax-tests"


def unoptimized() -> str:
    """XLA flags for quick compiles; a flag that XLA does not know kills the process."""
    # In one piece: XLA makes 32 of each program, for more cores than a test machine has.
    flags = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    major, minor = (int(part) for part in version("jaxlib").split(".")[:2])
    # jaxlib 0.11 has no other code generator left to fall back to.
    return flags if (major, minor) >= (0, 11) else f"{flags} --xla_cpu_use_fusion_emitters=false"


def prepare_environment() -> None:
    """Set what jax reads at import; a value that the caller has set already wins."""
    if "jax" in sys.modules:
        raise RuntimeError("jax was imported before tests/conftest.py: its cache settings are lost")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    flags = os.environ.get("XLA_FLAGS", "")
    if not os.environ.get("ZOO_TEST_OPTIMIZED") and "optimization_level" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {unoptimized()}".strip()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
    # jax leaves out programs that compile in under a second, which is all of ours.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


prepare_environment()

import jax  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402

# Here a program is seldom made twice, and writing it down costs a sixth of compiling it. Who runs
# the suite again and again may name a folder for them.
if os.environ["JAX_COMPILATION_CACHE_DIR"] == str(CACHE):
    jax.config.update("jax_enable_compilation_cache", False)

# Files with the longest tests come first, so that no worker is left with one of them at the end.
_LONGEST = (
    "tests/training/test_devices.py",
    "tests/training/test_resume.py",
    "tests/hf/test_fuzz.py",
    "tests/checkpoints/test_damage.py",
)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(_LONGEST))


def pytest_collection_finish() -> None:
    """Keep the garbage collector off what stays: modules, tests, and half of all that jax makes.

    Its passes over everything were a twentieth of the suite's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@functools.cache
def ir_context() -> Any:
    """The MLIR context of many lowerings.

    jax makes one for each, which is a sixth of what an operation with a new shape costs. It keeps
    every type and constant that it has seen, so a new one is made now and then.
    """
    return _make_ir_context()


_make_ir_context = getattr(mlir, "make_ir_context", None)
if _make_ir_context is not None and not os.environ.get("ZOO_TEST_OPTIMIZED"):
    mlir.make_ir_context = ir_context


# A program that XLA compiles takes up to some thirty memory maps, of which Linux gives a process
# 65,530; beyond them the next one to be compiled ends in a segmentation fault.
_MOST_MAPS, _LOOKS_EVERY = 45_000, 25
_tests = itertools.count(1)


def pytest_runtest_teardown() -> None:
    maps = Path("/proc/self/maps")
    if next(_tests) % _LOOKS_EVERY:
        return
    ir_context.cache_clear()
    if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
