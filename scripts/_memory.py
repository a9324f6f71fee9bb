"""How far the anonymous memory of this process grows while something runs."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType


def anonymous() -> int:
    """Bytes that belong to no file, by Linux's count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/self/status has no RssAnon")


class Growth:
    """The largest growth, looked at every 2 ms: `with Growth() as growth: ...; growth.bytes`."""

    def __enter__(self) -> Growth:
        self.start = anonymous()
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, anonymous() - self.start)
            if self._done.wait(0.002):
                return
