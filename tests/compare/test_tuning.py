"""What is run to tune a variant, on made-up results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from zoo.compare.comparison import Choice
from zoo.compare.config import CompareConfig, Range
from zoo.compare.plan import Cell, Spec, base_run, cells, points, with_setting
from zoo.compare.results import Row
from zoo.compare.tuning import tune
from zoo.data import DataConfig
from zoo.errors import ConfigError
from zoo.models.config import ModelConfig
from zoo.tasks.base import Metric
from zoo.training.config import TrainConfig

CELL = Cell("lm", "post_norm", 6, 64)
LOSS = Metric("loss", True)
RATES = (1e-4, 1e-3, 1e-2)


def settled(
    config: CompareConfig, value: Callable[[Mapping[str, Any], float], float | None]
) -> tuple[list[Row], Choice]:
    """Tuning to its end: (the rows that were asked for, the choice)."""
    made: dict[str, Row] = {}

    def make(setting: Mapping[str, Any], place: int, share: float) -> Spec:
        row = Row(
            run=f"{setting}-{place}-{share}",
            phase="tuning",
            task=CELL.task,
            variant=CELL.variant,
            depth=CELL.depth,
            width=CELL.width,
            setting=setting,
            seed=place,
            steps=round(100 * share),
        )
        return Spec(row, TrainConfig())

    def run(row: Row) -> Row:
        found = value(row.setting, row.steps / 100)
        if found is None:
            return dataclasses.replace(row, status="diverged")
        return dataclasses.replace(row, status="finished", metric=found)

    for _ in range(20):
        specs, choice = tune(
            config, CELL, make, LOSS, lambda spec: made.get(spec.row.run, spec.row)
        )
        missing = [spec.row for spec in specs if spec.row.run not in made]
        if choice is not None:
            assert not missing
            return list(made.values()), choice
        assert missing, "neither a choice nor a run to make"
        made.update({row.run: run(row) for row in missing})
    raise AssertionError("tuning does not end")


def config(**more: Any) -> CompareConfig:
    return CompareConfig(**{"variants": ("post_norm",), "space": {"optim.lr": RATES}, **more})


def test_the_point_of_least_loss_is_chosen_and_not_on_an_edge() -> None:
    rows, choice = settled(config(), lambda setting, _: abs(setting["optim.lr"] - 1e-3))
    assert choice.setting == {"optim.lr": 1e-3}
    assert choice.on_edge == ()
    assert choice.added == 0
    assert len(rows) == 3


@pytest.mark.parametrize(("best", "beyond"), [(1e-2, 0.1), (1e-4, 1e-5)])
def test_a_list_grows_by_a_factor_where_the_best_point_is_its_end(
    best: float, beyond: float
) -> None:
    rows, choice = settled(config(), lambda setting, _: abs(setting["optim.lr"] - best))
    assert [row.setting["optim.lr"] for row in rows] == pytest.approx([*RATES, beyond])
    assert choice.setting == {"optim.lr": best}
    assert choice.added == 1
    assert choice.on_edge == ()


def test_a_best_point_that_stays_on_the_edge_is_said_to() -> None:
    rows, choice = settled(config(extend=2), lambda setting, _: -setting["optim.lr"])
    assert choice.setting["optim.lr"] == pytest.approx(1.0)
    assert choice.on_edge == ("optim.lr",)
    assert choice.added == 2
    assert len(rows) == 5
    _, choice = settled(config(extend=0), lambda setting, _: -setting["optim.lr"])
    assert choice.on_edge == ("optim.lr",)
    assert choice.added == 0


def test_a_rate_below_a_diverged_one_is_no_edge() -> None:
    def loss(setting: Mapping[str, Any], _: float) -> float | None:
        return None if setting["optim.lr"] > 5e-3 else -setting["optim.lr"]

    _, choice = settled(config(), loss)
    assert choice.setting == {"optim.lr": 1e-3}
    assert choice.on_edge == ()
    assert choice.added == 0


def test_where_every_point_diverges_the_smallest_rate_is_compared() -> None:
    rows, choice = settled(config(), lambda *_: None)
    assert choice.setting == {"optim.lr": 1e-4}
    assert choice.score is None
    assert choice.note == "every point diverged"
    assert len(rows) == 3


def test_a_seed_that_diverges_rules_a_point_out() -> None:
    seen: list[float] = []

    def loss(setting: Mapping[str, Any], _: float) -> float | None:
        rate = setting["optim.lr"]
        seen.append(rate)
        return None if rate == 1e-3 and seen.count(rate) == 2 else abs(rate - 1e-3)

    _, choice = settled(config(tuning_seeds=2, extend=0), loss)
    assert choice.setting == {"optim.lr": 1e-4}


def test_halving_gives_each_survivor_twice_the_steps() -> None:
    rates = tuple(10.0**-power for power in range(2, 10))

    def loss(setting: Mapping[str, Any], share: float) -> float:
        return abs(setting["optim.lr"] - 1e-5) + share

    rows, choice = settled(config(space={"optim.lr": rates}, search="halving"), loss)
    lengths = [row.steps for row in rows]
    assert [lengths.count(steps) for steps in (12, 25, 50)] == [8, 4, 2]
    assert choice.setting == {"optim.lr": 1e-5}


def test_nothing_is_run_where_there_is_nothing_to_choose_from() -> None:
    for space in ({}, {"optim.lr": (1e-3,)}):
        rows, choice = settled(config(space=space), lambda *_: 0.0)
        assert rows == []
        assert choice.tried == 0
        assert choice.on_edge == ()


def test_quasi_random_points_fill_a_range_and_its_ends_are_edges() -> None:
    space = {"optim.lr": Range(1e-4, 1e-1), "optim.beta2": (0.95, 0.999)}
    made = points(config(space=space, trials=16))
    rates = sorted(point["optim.lr"] for point in made)
    # One point in each sixteenth of the way is what a Sobol sequence promises.
    cells = sorted(int(16 * space["optim.lr"].share(rate)) for rate in rates)  # type: ignore[attr-defined]
    assert cells == list(range(16))
    assert [point["optim.beta2"] for point in made].count(0.95) == 8
    _, choice = settled(
        config(space=space, trials=16), lambda setting, _: -float(setting["optim.lr"])
    )
    assert choice.on_edge in ((), ("optim.lr",))
    assert (choice.on_edge == ()) == (space["optim.lr"].share(rates[-1]) < 0.95)  # type: ignore[attr-defined]


def test_a_range_of_whole_numbers_gives_each_once() -> None:
    space = {"optim.warmup": Range(10, 13), "optim.lr": (1e-3,)}
    made = points(config(space=space, trials=16))
    tried = [point["optim.warmup"] for point in made]
    assert sorted(tried) == [10, 11, 12, 13]
    assert {type(value) for value in tried} == {int}
    for point in made:
        with_setting(TrainConfig(), point)


def test_a_setting_that_cannot_work_is_named_once_with_the_others() -> None:
    with pytest.raises(ConfigError) as refused:
        with_setting(TrainConfig(), {"optim.lr": 0.1, "optim.warmup": 1.5})
    said = str(refused.value)
    assert said.startswith("space: optim.lr = 0.1: optim.warmup = 1.5: use a whole number")
    assert said.count("optim.warmup") == 1


@pytest.mark.parametrize(
    ("space", "word"),
    [
        ({"optim.rate": (1.0,)}, "optim.rate"),
        ({"steps": (10, 20)}, "steps"),
        ({"optim.lr": ()}, "optim.lr"),
        ({"optim.lr": (1e-3, 1e-3)}, "twice"),
        ({"optim.lr": Range(1e-2, 1e-3)}, "low"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        config(space=space).validate()


def test_stacks_of_an_encoder_decoder_keep_their_depths_where_none_is_compared(text: Path) -> None:
    model = ModelConfig(architecture="encoder_decoder", num_encoder_layers=4, num_decoder_layers=1)
    data = DataConfig(path=str(text), target_path=str(text))
    run = TrainConfig(model=model, task="seq2seq", data=data)
    for depths, cell, made in (((), 4, (4, 1)), ((3,), 3, (None, None))):
        compared = config(run=run, depths=depths)
        (own,) = cells(compared)
        assert own.depth == cell
        found = base_run(compared, own).model
        assert (found.num_encoder_layers, found.num_decoder_layers) == made
