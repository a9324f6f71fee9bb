"""Time the report of a large comparison.

    python scripts/bench_report.py [--workdir DIR]

Makes about 1,000 folders of runs with made-up figures, reads them and writes the report, as
`zoo compare --report` does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from _sweep import METRIC, sweep

from zoo.compare.report import write_report
from zoo.compare.results import read_row

SHAPE = {"seeds": 5, "steps": 2000, "depths": (6, 12, 24, 48, 96, 192)}
RATES = tuple(1e-4 * 2.0**power for power in range(9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, help="keep the folder here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        workdir = options.workdir or Path(own)
        names = ["post_norm", *(f"variant_{number}" for number in range(1, 12))]
        made = sweep(workdir, variants=names, rates=RATES, **SHAPE)
        print(f"{len(made.rows)} runs")
        start = time.perf_counter()
        for row in made.rows:
            read_row(row, workdir / "runs", METRIC)
        read = time.perf_counter()
        files = write_report(made)
        end = time.perf_counter()
        print(f"read   {read - start:.1f} s\nreport {end - read:.1f} s")
        for kind, path in files.items():
            print(f"{kind:<9} {path.stat().st_size / 1e6:.2f} MB  {path}")


if __name__ == "__main__":
    main()
