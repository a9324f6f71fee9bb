"""Where the runs of a comparison are made: in this process, or in several of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from zoo.compare.config import CompareConfig
from zoo.compare.work import Board, Preempted, Say, work
from zoo.errors import ConfigError
from zoo.training.loop import EXIT_CODES

CONFIG = "compare.json"


class Executor(Protocol):
    """Makes all runs of a comparison; may return early only by an exception."""

    def __call__(self, board: Board, say: Say) -> None: ...


class InProcess:
    """One run after the other, here.

    Args:
        shard: (i, n) of the processes that share the folder.
    """

    def __init__(self, shard: tuple[int, int] = (1, 1)) -> None:
        self.shard = shard

    def __call__(self, board: Board, say: Say) -> None:
        work(board, say, shard=self.shard)


class LocalProcesses:
    """Several processes of this machine, each with its share of the processors.

    A process that is killed leaves its run to the others. Threads share out sums in an order
    that follows their number, so the last bits of a figure depend on the number of processes.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, board: Board, say: Say) -> None:
        workdir = board.config.workdir
        processes = [self._start(workdir, index) for index in range(self.count)]
        try:
            while any(process.poll() is None for process in processes):
                time.sleep(0.5)
        except BaseException:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait()
            raise
        codes = [process.returncode for process in processes]
        if EXIT_CODES["preempted"] in codes:
            raise Preempted("a worker was asked to stop; its run is saved")
        for index, code in enumerate(codes):
            if code:
                log = _log(workdir, index)
                say(f"worker {index + 1} of {self.count} ended with exit code {code}: see {log}")
        if all(codes):
            last = _log(workdir, 0).read_text(encoding="utf-8").strip().splitlines()
            raise ConfigError(f"no worker came to the end: {last[-1] if last else 'no output'}")

    def _start(self, workdir: Path, index: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "zoo.compare.worker", str(workdir)]
        command += [f"{index + 1}/{self.count}"]
        path = _log(workdir, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        with path.open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            )


def take_share(index: int, count: int) -> None:
    """Keep this process to its part of the processors; before jax starts its threads."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < count:
        return
    own = cpus[index * len(cpus) // count : (index + 1) * len(cpus) // count]
    os.sched_setaffinity(0, own)


def _log(workdir: Path, index: int) -> Path:
    return workdir / "logs" / f"worker-{index + 1}.txt"


def executor(config: CompareConfig, shard: tuple[int, int]) -> Executor:
    """The executor that a config asks for.

    Raises:
        ConfigError: on workers within a shard: start more shards instead.
    """
    if config.workers == 1:
        return InProcess(shard)
    if shard != (1, 1):
        raise ConfigError(
            f"workers = {config.workers} within shard {shard[0]}/{shard[1]}; start more shards"
        )
    return LocalProcesses(config.workers)
