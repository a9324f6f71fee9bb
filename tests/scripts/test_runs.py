"""Rows of a committed table that are made again: what counts as equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _runs import Row, Table

from zoo.environment import environment

HERE = environment()["processor"]


def table(folder: Path, *processors: str | None) -> Table:
    """A row a processor; None: it was not written down."""
    rows = [{"run": number, "loss": 1.0} for number in range(len(processors))]
    lines = [
        row if processor is None else row | {"processor": processor}
        for row, processor in zip(rows, processors, strict=True)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Table(path)


def made(loss: float, row: Row) -> Row:
    return row | {"loss": loss, "processor": HERE}


def trains(row: Row) -> bool:
    return bool(row["loss"] < 2.0)


@pytest.mark.parametrize("verdict", [None, trains])
def test_a_row_of_this_processor_is_equal_to_the_last_bit(tmp_path, verdict):
    one = table(tmp_path, HERE)
    assert one.again(1, lambda row: made(1.0, row), verdict) == 0
    assert one.again(1, lambda row: made(1.0 + 2**-52, row), verdict) == 1


@pytest.mark.parametrize("processor", ["another", None])
def test_of_a_row_from_elsewhere_the_verdict_counts(tmp_path, capsys, processor):
    one = table(tmp_path, processor)
    assert one.again(1, lambda row: made(1.5, row), trains) == 0
    assert "verdict equal: loss 1.0 -> 1.5" in capsys.readouterr().out
    assert one.again(1, lambda row: made(2.5, row), trains) == 1
    assert "verdict not equal: loss 1.0 -> 2.5" in capsys.readouterr().out


def test_without_a_verdict_rows_from_elsewhere_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="only 1 rows can come out equal"):
        table(tmp_path, HERE, "another").again(2, lambda row: row)


def test_rows_of_this_processor_are_drawn_first(tmp_path):
    drawn: list[int] = []

    def run(row: Row) -> Row:
        drawn.append(row["run"])
        return row

    assert table(tmp_path, "another", HERE, "another", HERE).again(2, run, trains) == 0
    assert sorted(drawn) == [1, 3]
