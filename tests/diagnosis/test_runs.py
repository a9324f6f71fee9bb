"""`zoo diagnose` on configs and workdirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import configure, text  # noqa: F401 (fixtures)
from zoo.cli import main
from zoo.diagnosis.runs import diagnose_config
from zoo.training.loop import train

CONFIG = """
from tests.training.conftest import TINY, with_values
from zoo.training.config import TrainConfig


def config() -> TrainConfig:
    return with_values(TrainConfig(), TINY | {places})
"""


def run_zoo(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", *words])
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, err


def test_a_start_that_is_profiled_is_diagnosed_as_it_will_be_trained(configure: Any) -> None:  # noqa: F811
    config = configure({"model.variant": "admin"}, steps=2)
    found = diagnose_config(config, None, batches=1)
    # The stream has unit variance, and every skip is the root of all that came before it.
    width = config.model.d_model**0.5
    skips = [each.norm / width for each in found.of(role="skip")]
    assert skips[0] == pytest.approx(1.0)
    assert skips == sorted(skips)
    assert skips[-1] > 1.1


def test_a_config_and_its_run_are_diagnosed_alike_at_the_start_and_not_after(
    configure: Any,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = configure({"optim.warmup": 0}, steps=2)
    places = {
        "data.path": config.data.path,
        "data.cache_dir": config.data.cache_dir,
        "optim.warmup": 0,
        "steps": 2,
    }
    file = tmp_path / "mine.py"
    file.write_text(CONFIG.replace("{places}", repr(places)))
    picture = tmp_path / "start.png"
    code, out, err = run_zoo(
        capsys, "--config", str(file), "--batches", "2", "--json", "--out", str(picture)
    )
    assert (code, err) == (0, f"wrote {picture}\n")
    start = json.loads(out)
    assert picture.stat().st_size > 1000
    assert [s["layer"] for s in start["sublayers"]] == [0, 0, 1, 1]
    assert start["learning_rate"] == pytest.approx(1e-3)
    assert start["tokens"] == 2 * 4 * 32

    assert train(config)["status"] == "finished"
    capsys.readouterr()
    code, out, _ = run_zoo(capsys, "--from", config.workdir, "--json")
    assert code == 0
    after = json.loads(out)
    assert after["loss"] < start["loss"]
    # Adam's first step has the full rate in every element, a third one not quite.
    first, third = (d["sublayers"][0]["update_ratio"] for d in (start, after))
    assert 0.0 < third < first

    code, out, err = run_zoo(capsys, "--from", config.workdir, "--model.d-model", "32")
    assert (code, out) == (2, "")
    assert "model.d_model = 32" in err
    assert "has 16" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--from WORKDIR or --config FILE"),
        (["--from", "a", "--config", "b.py"], "give one of them"),
        (["--from", "nowhere"], "nowhere is no workdir"),
        (["--config", "configs/default.py", "--batches", "0"], "batches = 0"),
        (["--config", "configs/default.py", "--out", "a.foo"], "a.foo: the name of a picture ends"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_zoo(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
