"""Runs made once more, to see whether they come out the same."""

from __future__ import annotations

import dataclasses
import random
import tempfile
from pathlib import Path

from zoo.compare.config import CompareConfig
from zoo.compare.executors import take_share
from zoo.compare.plan import Spec
from zoo.compare.results import Row, read_curve, read_row
from zoo.compare.work import Board, Say, make_run
from zoo.errors import ConfigError
from zoo.settings import at_least


def again(config: CompareConfig, count: int, say: Say) -> int:
    """Make some of the finished runs once more, elsewhere; the number that differ.

    Figures and curves are compared bit by bit. This process keeps to the part of the processors
    that a worker has: in how many pieces a sum is added up decides its last bits.

    Args:
        count: how many, chosen at random.

    Raises:
        ConfigError: when fewer have finished, or it is none.
    """
    at_least("again", count, 1)
    take_share(0, config.workers)
    board = Board(config, retry=False)
    done = [spec for spec in board.specs() if board.row(spec).status == "finished"]
    if count > len(done):
        raise ConfigError(f"again = {count}; {len(done)} runs have finished in {config.workdir}")
    different = 0
    for spec in random.sample(done, count):
        (fresh, losses), kept = _fresh(config, spec), board.row(spec)
        names = [name for name in kept.figures if fresh.figures.get(name) != kept.figures[name]]
        steps = [s for s, loss in _losses(kept, board.runs).items() if losses.get(s) != loss]
        same = fresh.status == kept.status and not names and not steps
        different += not same
        say(f"{'equal' if same else 'differs'}  {spec.row.run}")
        for name in names:
            say(f"  {name}: {kept.figures[name]}, now {fresh.figures.get(name)}")
        if steps:
            say(f"  loss: another from step {min(steps)} on")
    return different


def _losses(row: Row, runs: Path) -> dict[int, float]:
    return {each["step"]: each["loss"] for each in read_curve(row, runs)}


def _fresh(config: CompareConfig, spec: Spec) -> tuple[Row, dict[int, float]]:
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = dataclasses.replace(config.run, workdir=folder)
        board = Board(dataclasses.replace(config, run=elsewhere, ledger=None), retry=False)
        workdir = str(board.runs / spec.row.run)
        own = Spec(spec.row, dataclasses.replace(spec.config, workdir=workdir))
        make_run(board, own, lambda _: None)
        row = read_row(own.row, board.runs, board.metric, board.select)
        return row, _losses(row, board.runs)
