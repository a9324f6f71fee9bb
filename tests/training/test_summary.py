"""What a run leaves: summary, pictures, the closing table and the sample."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from zoo.errors import DataError
from zoo.training.plots import PALETTE, plot_curves, plot_losses, smooth
from zoo.training.summary import (
    print_sample,
    print_summary,
    read_summary,
    summarise,
    summary_table,
    write_summary,
)

METRICS: list[dict[str, Any]] = [
    {"step": 10, "loss": 4.0, "learning_rate": 1e-3, "grad_norm": 2.0, "tokens_per_s": 100.0},
    {"step": 20, "loss": 3.0, "eval_loss": 2.0, "eval_bits_per_byte": 2.9, "tokens_per_s": 300.0},
    {"step": 30, "loss": 2.5, "eval_loss": 2.2, "eval_bits_per_byte": 3.2, "tokens_per_s": 200.0},
]


def summary(**more: Any) -> dict[str, Any]:
    return summarise(METRICS, status="finished", steps=30, tokens=3000, wall_time_s=83.0, **more)


def test_a_summary_holds_final_and_best_figures() -> None:
    assert summary(variant="deep_norm") == {
        "status": "finished",
        "steps": 30,
        "tokens": 3000,
        "wall_time_s": 83.0,
        "tokens_per_s": 200.0,
        "loss": 2.5,
        "eval_loss": 2.2,
        "eval_bits_per_byte": 3.2,
        "best_eval_loss": 2.0,
        "best_eval_bits_per_byte": 2.9,
        "best_step": 20,
        "variant": "deep_norm",
    }


def test_a_loss_that_is_not_finite_is_never_the_best() -> None:
    rows = [{"step": 1, "eval_loss": math.nan}, {"step": 2, "eval_loss": 3.0}]
    found = summarise(rows, status="diverged", steps=2, tokens=1, wall_time_s=1.0)
    assert (found["best_step"], found["best_eval_loss"]) == (2, 3.0)
    none = summarise(rows[:1], status="diverged", steps=1, tokens=1, wall_time_s=1.0)
    assert "best_step" not in none


def test_a_summary_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = summary(loss_at_stop=math.inf, nested={"low": [-math.inf, 1]}, out=np.float32(0.5))
    path = write_summary(tmp_path, written)
    assert path == tmp_path / "summary.json"
    assert json.loads(path.read_text())["loss_at_stop"] == "Infinity"
    assert read_summary(tmp_path) == written
    assert list(tmp_path.iterdir()) == [path]


def test_a_status_outside_the_four_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finished, preempted, diverged or failed"):
        write_summary(tmp_path, {"status": "done"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": 3}', '{"status": "well"}', "\x00"])
def test_a_damaged_summary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(DataError, match=r"summary\.json"):
        read_summary(tmp_path)


def test_a_missing_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"summary\.json: no such file"):
        read_summary(tmp_path)


def printed(width: int, paths: dict[str, Path | str]) -> str:
    out = io.StringIO()
    print_summary(summary(), paths, console=Console(file=out, width=width))
    return out.getvalue()


def test_the_table_shows_figures_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line.split() for line in printed(100, {"plot": tmp_path / "a/b.png"}).splitlines()]
    assert ["tokens", "3,000"] in lines
    assert ["train", "loss", "2.500"] in lines
    assert ["eval", "loss", "2.200", "(best", "2.000", "at", "step", "20)"] in lines
    assert ["time", "1:23"] in lines
    assert ["plot", "a/b.png"] in lines


@pytest.mark.parametrize("width", [30, 80, 300])
def test_paths_are_printed_in_one_piece(width: int) -> None:
    path = "/far/" + "long/" * 30 + "losses.png"
    assert path in printed(width, {"plot": path, "[log]": "/b"})


def test_a_table_without_evaluations_leaves_them_out() -> None:
    table = summary_table({"status": "failed", "steps": 0}, {})
    assert table.row_count == 1


def test_a_sample_cannot_drive_the_terminal_or_rich() -> None:
    out = io.StringIO()
    print_sample("def f():\n\tpass  # [bold]\x1b[31m\x07", console=Console(file=out, width=60))
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "    pass  # [bold]�[31m�" in out.getvalue()


def pixels(path: Path) -> Any:
    from matplotlib.image import imread

    return imread(path)[..., :3]


def has_colour(path: Path, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(pixels(path) - wanted).max(axis=-1) < 0.01).any())


def test_the_picture_shows_train_and_held_out_losses(tmp_path: Path) -> None:
    path = plot_losses(METRICS, tmp_path / "plots" / "losses.png", title="run")
    assert has_colour(path, PALETTE[0])
    assert has_colour(path, PALETTE[1])
    assert list(path.parent.iterdir()) == [path]


def test_learning_rate_and_gradient_norm_add_their_own_axes(tmp_path: Path) -> None:
    bare = [{"step": row["step"], "loss": row["loss"]} for row in METRICS]
    small = pixels(plot_losses(bare, tmp_path / "a.png", title="run"))
    large = pixels(plot_losses(METRICS, tmp_path / "b.png", title="run"))
    assert large.shape[0] > small.shape[0]
    assert not has_colour(tmp_path / "a.png", PALETTE[1])


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [{"step": 1, "loss": math.nan}],
        [{"step": 1, "loss": 2.0}],
        [{"step": 1, "loss": 2.0, "grad_norm": math.inf, "learning_rate": 0.0}],
        [{"step": 0, "eval_loss": 2.0}],
        [{"step": s, "loss": 10.0**s, "grad_norm": 10.0**s} for s in range(9)],
    ],
    ids=["none", "nan", "one", "inf", "eval only", "decades"],
)
@pytest.mark.filterwarnings("error")
def test_any_metrics_can_be_drawn_without_a_warning(
    tmp_path: Path, metrics: list[dict[str, Any]]
) -> None:
    assert pixels(plot_losses(metrics, tmp_path / "a.png", title="run")).size


@pytest.mark.parametrize("count", [1, 4, 12])
@pytest.mark.filterwarnings("error")
def test_curves_are_drawn_in_their_own_colours(tmp_path: Path, count: int) -> None:
    series = {f"v{i}": [(1e-3, 2.0 + i), (1e-2, 1.0 + i)] for i in range(count)}
    path = plot_curves(
        series,
        tmp_path / "c.png",
        title="sweep",
        xlabel="learning rate",
        ylabel="loss",
        logx=True,
        bands={"v0": [(1e-3, 1.9, 2.1), (1e-2, 0.9, 1.1)]},
    )
    assert all(has_colour(path, colour) for colour in PALETTE[:count])


@pytest.mark.parametrize(
    "points", [[], [(1.0, math.nan)], [(1.0, 1.0), (2.0, math.inf), (3.0, 1.0)]]
)
@pytest.mark.filterwarnings("error")
def test_curves_with_gaps_or_without_points_are_drawn(
    tmp_path: Path, points: list[tuple[float, float]]
) -> None:
    series = {"whole": [(1.0, 1.0), (3.0, 2.0)], "holes": points}
    plot_curves(series, tmp_path / "c.png", title="t", xlabel="x", ylabel="y", logy=True)
    assert has_colour(tmp_path / "c.png", PALETTE[0])


def test_smoothing_is_the_mean_of_the_window() -> None:
    values = [1.0, 2.0, 6.0, math.nan, 4.0, 5.0]
    expected = [1.0, 3.0, 4.0, math.nan, 5.0, 4.5]
    # Windows of at most one each way: [1], [1 2 6], [2 6 -], -, [- 4 5], [4 5].
    expected[2], expected[4] = (2.0 + 6.0) / 2, (4.0 + 5.0) / 2
    np.testing.assert_allclose(smooth(values, most=1), expected)


def test_smoothing_leaves_a_straight_line_straight_inside() -> None:
    line = [10.0 - i for i in range(200)]
    np.testing.assert_allclose(smooth(line)[:195], line[:195], rtol=1e-12)


def test_smoothing_nothing_gives_nothing() -> None:
    assert smooth([]) == []
