"""Claims on runs, so that of all processes that share a folder one is at each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def claim(workdir: Path, run: str) -> Iterator[bool]:
    """Whether the run is ours within the block; no other process has it then.

    A claim is a lock on a file that the system frees when its process ends, however it ends.

    Args:
        workdir: of the comparison.
        run: name of its folder.
    """
    locks = workdir / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{run}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
