"""Run one training process that notes its batches and, if asked, kills itself at some moment.

Arguments: a JSON object of dotted settings, the file to note batches in, and when to die: never,
`N:SECONDS` (so long after batch N of this process) or `N:save` (in the first save after it).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from zlib import crc32

from tests.training.conftest import with_values
from zoo.training.config import TrainConfig
from zoo.training.setup import Run


def main(settings: str, notes: str, when: str) -> int:
    config = with_values(TrainConfig(), {k: _tuple(v) for k, v in json.loads(settings).items()})
    own = Run.batch
    seen = 0

    def noted(run: Run, rows: dict[str, Any]) -> Any:
        nonlocal seen
        seen += 1
        with Path(notes).open("a") as file:
            file.write(f"{crc32(rows['tokens'].tobytes())}\n")
        # A step of a model this small is over too soon to be killed in its middle.
        time.sleep(0.005)
        if when != "never" and seen == int(when.split(":")[0]):
            threading.Thread(target=_die, args=(when.split(":")[1], config.workdir)).start()
        return own(run, rows)

    Run.batch = noted  # type: ignore[method-assign]
    from zoo.training.loop import EXIT_CODES, train

    return EXIT_CODES[train(config)["status"]]


def _die(moment: str, workdir: str) -> None:
    if moment == "save":
        unfinished = Path(workdir) / "checkpoints" / ".unfinished"
        while not (unfinished.is_dir() and any(unfinished.rglob("d/*"))):
            pass
    else:
        time.sleep(float(moment))
    os.kill(os.getpid(), signal.SIGKILL)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
