"""What a comparison would be: runs, hours, what is there already, what could be told apart."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.compare.compare import comparison
from zoo.compare.config import CompareConfig
from zoo.compare.ledger import unpack
from zoo.compare.matching import Matcher, seconds_per_step
from zoo.compare.plan import cells, make_spec, points
from zoo.compare.results import RESULTS
from zoo.compare.statistics import detectable
from zoo.compare.tuning import halving
from zoo.tables import table
from zoo.training.dry_run import cost
from zoo.training.progress import format_duration


@dataclasses.dataclass(frozen=True)
class Plan:
    """A comparison before it is run.

    Attributes:
        cells: per variant, depth and width: (task, variant, depth, width, steps, parameters,
            FLOP a step).
        tuning, final: runs of the two phases, extensions left out.
        extensions: tuning runs that may come on top.
        done: results that are there, by status.
        hours: of the runs that are left, from steps timed here with all processors: workers share
            them, so that more of them are no quicker than what is timed.
        detectable: the smallest difference, in the mean over all places, that is shown four
            times in five, in standard deviations of a run.
        detectable_metric: the same in the metric, where runs that are there give their spread.
        metric: by name.
    """

    cells: list[tuple[str, str, int, int, int, int, float]]
    tuning: int
    extensions: int
    final: int
    done: dict[str, int]
    hours: float
    detectable: float | None
    detectable_metric: float | None
    metric: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        header = ("task", "variant", "depth", "width", "steps", "parameters", "FLOP a step")
        shown = [(*row[:5], f"{row[5]:,}", f"{row[6]:.3g}") for row in self.cells]
        lines = [table(shown, header), ""]
        lines.append(
            f"runs      {self.tuning + self.final}: {self.tuning} to tune, {self.final} to compare"
            + (
                f"; up to {self.extensions} more where a best point is an end"
                * bool(self.extensions)
            )
        )
        done = ", ".join(f"{count} {status}" for status, count in sorted(self.done.items()))
        lines.append(f"done      {done or 'none'}")
        lines.append(f"time      about {format_duration(3600 * self.hours)} for what is left")
        lines.append(f"metric    {self.metric}")
        if self.detectable is None:
            lines.append("shows     nothing: a verdict needs two seeds or more and two variants")
        else:
            own = "" if self.detectable_metric is None else f", {self.detectable_metric:.3g} here"
            lines.append(
                f"shows     differences of {self.detectable:.2g} standard deviations of a run"
                f"{own} on average over all places, four times in five"
            )
        lines.append("no run was made")
        return "\n".join(lines)


@contextlib.contextmanager
def _with_ledger(config: CompareConfig) -> Iterator[CompareConfig]:
    """The comparison in a folder of its own, with the runs of its ledger beside those made."""
    if config.ledger is None:
        yield config
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "runs").mkdir()
        for own in (*config.workdir.glob("runs/*"), *config.workdir.glob("timings.json")):
            (place / own.relative_to(config.workdir)).symlink_to(own.resolve())
        unpack(Path(config.ledger), place)
        run = dataclasses.replace(config.run, workdir=str(place))
        yield dataclasses.replace(config, run=run)


def dry_run(config: CompareConfig) -> Plan:
    """The plan of a comparison; some steps are timed, no run is made.

    Text that is tokenised for it stays in the cache; what `match = "time"` measures stays in the
    comparison's folder, where there is one.

    Raises:
        ConfigError: on what cannot work.
    """
    matcher = Matcher(config)
    tried = points(config)
    tuned = len(tried) > 1
    rows = []
    units = 0.0  # FLOP of all runs
    counts = Counter(tuning=0, extensions=0, final=0)
    own = list(cells(config))
    for cell in own:
        run = matcher.run(cell)
        spent = cost(run)
        rows.append((*dataclasses.astuple(cell), run.steps, spent.parameters, spent.flops_per_step))
        make_spec(config, cell, run, phase="final", setting=tried[0], place=0)
        runs, share = _tuning(config, len(tried)) if tuned else (0, 0.0)
        counts["tuning"] += runs
        counts["final"] += config.seeds
        counts["extensions"] += config.extend * config.tuning_seeds if tuned else 0
        units += spent.flops_per_step * run.steps * (share + config.seeds)
    with _with_ledger(config) as unpacked:
        found = comparison(unpacked)
    done = Counter(row.status for row in found.rows if row.status in RESULTS)
    spent_flops = sum(row.flops for row in found.rows if row.status in RESULTS)
    seconds = _seconds_per_flop([matcher.run(own[0]), matcher.run(own[-1])])
    smallest = None
    if config.seeds > 1 and len(config.variants) > 1:
        smallest = detectable(
            1.0,
            seeds=config.seeds,
            variants=len(config.variants),
            conditions=len(own) // len(config.variants),
            overall=True,
        )
    spread = found.analysis.sigma
    return Plan(
        cells=rows,
        tuning=counts["tuning"],
        extensions=counts["extensions"],
        final=counts["final"],
        done={str(status): count for status, count in done.items()},
        hours=max(0.0, units - spent_flops) * seconds / 3600,
        detectable=smallest,
        detectable_metric=None if smallest is None or not spread else smallest * spread,
        metric=found.metric.name,
    )


def _tuning(config: CompareConfig, count: int) -> tuple[int, float]:
    """(runs, their length in whole runs) of tuning over `count` points."""
    if config.search == "grid":
        return count * config.tuning_seeds, float(count * config.tuning_seeds)
    rounds = halving(count)
    runs, length = sum(left for left, _ in rounds), sum(left * share for left, share in rounds)
    return runs * config.tuning_seeds, length * config.tuning_seeds


def _seconds_per_flop(runs: list[Any]) -> float:
    """Of training steps timed here; small models are slower for their size than large ones."""
    timed = [seconds_per_step(run) / cost(run).flops_per_step for run in runs]
    return sum(timed) / len(timed)
