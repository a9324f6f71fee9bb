"""A worker process of a comparison: `python -m zoo.compare.worker WORKDIR i/n`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from zoo.compare.config import from_json
from zoo.compare.executors import CONFIG, take_share
from zoo.compare.work import Board, Preempted, work
from zoo.errors import ZooError
from zoo.training.loop import EXIT_CODES

# Seconds between two looks at whether the comparison still runs.
_LOOKS_EVERY = 1.0


def main(workdir: str, shard: str) -> int:
    index, count = map(int, shard.split("/"))
    take_share(index - 1, count)
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    config = from_json(json.loads((Path(workdir) / CONFIG).read_bytes())["config"])
    try:
        work(Board(config), lambda line: print(line, flush=True), shard=(index, count))
    except Preempted as stop:
        print(stop)
        return EXIT_CODES["preempted"]
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _end_with(parent: int) -> None:
    """Save and stop when the process that started this one is gone: the same command will start
    workers of its own."""
    while os.getppid() == parent:
        time.sleep(_LOOKS_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
