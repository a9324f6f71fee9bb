"""Eight simulated devices do what one does, in every mode, and hold only their part of it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.training.conftest import TINY, with_values
from tests.training.eight_devices import losses
from tests.training.test_resume import ROOT, arrays, newest
from tests.training.test_resume import losses as logged
from zoo.errors import ConfigError
from zoo.training.config import TrainConfig
from zoo.training.loop import train
from zoo.training.setup import prepare
from zoo.training.sharding import MeshConfig, check_batch

pytestmark = pytest.mark.live
Configure = Callable[..., TrainConfig]

MODES: dict[str, dict[str, Any]] = {
    "data": {},
    "fsdp": {"mesh.fsdp": 4},
    "pmap": {"parallel": "pmap"},
}
# Each mode meets both variants, and both with and without accumulation; crossed in the slow suite.
PAIRS = (("deep_norm", 4), ("pre_norm", 1))
CROSSED = (("deep_norm", 1), ("pre_norm", 4))


def case(variant: str, accumulate: int) -> dict[str, Any]:
    return {"model.variant": variant, "optim.accumulate": accumulate}


@dataclasses.dataclass(frozen=True, eq=False)
class Eight:
    """The settings, what eight devices answered, and the workdirs that they and we wrote."""

    settings: dict[str, Any]
    answer: dict[str, Any]
    longer: TrainConfig
    fresh: TrainConfig

    def config(self, values: dict[str, Any]) -> TrainConfig:
        config: TrainConfig = with_values(TrainConfig(), self.settings | values)
        return config


@pytest.fixture(scope="module")
def eight(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Eight:
    """One process with eight devices answers everything: starting it costs most."""
    folder, settings = tmp_path_factory.mktemp("eight"), settings_on(documents)
    cases = in_every_mode(PAIRS) | {"fsdp over all": {"mesh.fsdp": 8} | case("pre_norm", 1)}
    longer = {"workdir": str(folder / "longer"), "steps": 8}
    fresh = {"workdir": str(folder / "fresh"), "steps": 8, "mesh.fsdp": 4}
    made: TrainConfig = with_values(TrainConfig(), settings | longer)
    train(made)
    plan = {
        "settings": settings,
        "cases": cases,
        "longer": longer | {"steps": 12, "mesh.fsdp": 4},
        "fresh": fresh,
    }
    configs = (with_values(TrainConfig(), settings | values) for values in (longer, fresh))
    return Eight(settings, answered(plan), *configs)


def settings_on(documents: Path) -> dict[str, Any]:
    """Rows of whole documents: each device has another number of real tokens."""
    return TINY | {
        "data.path": str(documents),
        "data.cache_dir": str(documents.parent / "cache"),
        "data.packing": "first_fit",
        "data.separate_documents": True,
        "data.batch_size": 32,
    }


def in_every_mode(pairs: Iterable[tuple[str, int]]) -> dict[str, dict[str, Any]]:
    return {
        f"{mode} {variant} {accumulate}": values | case(variant, accumulate)
        for mode, values in MODES.items()
        for variant, accumulate in pairs
    }


def answered(plan: dict[str, Any]) -> dict[str, Any]:
    """What a process with eight devices says to a plan of `eight_devices.py`."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("eight_devices.py")), json.dumps(plan)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(("variant", "accumulate"), PAIRS)
def test_twenty_losses_agree_with_one_device_in_every_mode(
    eight: Eight, variant: str, accumulate: int
) -> None:
    assert_losses_agree(eight.settings, eight.answer, variant, accumulate)


@pytest.mark.slow
def test_so_do_the_other_pairs(documents: Path) -> None:
    settings = settings_on(documents)
    answer = answered({"settings": settings, "cases": in_every_mode(CROSSED)})
    for variant, accumulate in CROSSED:
        assert_losses_agree(settings, answer, variant, accumulate)


def assert_losses_agree(
    settings: dict[str, Any], answer: dict[str, Any], variant: str, accumulate: int
) -> None:
    run = prepare(with_values(TrainConfig(), settings | case(variant, accumulate)))
    counts = np.asarray(run.batch(run.data.train_batch(0))["mask"]).reshape(8, -1).sum(1)
    assert len(set(counts.tolist())) > 4, "devices have equally much padding: nothing is tested"
    one = losses(run)
    assert one[-1] < one[0] - 0.1
    for mode in MODES:
        theirs = answer["losses"][f"{mode} {variant} {accumulate}"]
        # Sums in another order; the issue asks for 1e-4.
        np.testing.assert_allclose(theirs, one, rtol=1e-4, err_msg=mode)


def test_sharding_over_all_devices_agrees_with_one(eight: Eight) -> None:
    one = losses(prepare(eight.config(case("pre_norm", 1))))
    np.testing.assert_allclose(eight.answer["losses"]["fsdp over all"], one, rtol=1e-4)


def test_each_device_holds_its_part_of_parameters_and_optimizer_state(eight: Eight) -> None:
    sharded = eight.answer["sharded"]
    for part in ("params", "opt_state", "ema"):
        assert len(sharded[part]) >= 4
        assert set(sharded[part].values()) == {0.25}, sharded[part]
    assert set(sharded["batch"].values()) == {0.125}


def test_devices_draw_their_own_dropout_under_pmap(eight: Eight) -> None:
    on_eight, alone = eight.answer["same_row"]
    assert abs(on_eight - alone) > 1e-4


def test_checkpoint_of_eight_devices_resumes_on_one(eight: Eight, tmp_path: Path) -> None:
    assert eight.answer["fresh"] == "finished"
    fresh = eight.fresh
    one = dataclasses.replace(fresh, steps=12, mesh=MeshConfig())
    assert train(one)["status"] == "finished"
    assert_ends_alike(one, tmp_path)


def test_checkpoint_of_one_device_resumes_on_eight(eight: Eight, tmp_path: Path) -> None:
    assert eight.answer["longer"] == "finished"
    assert newest(eight.longer) == 12
    assert_ends_alike(dataclasses.replace(eight.longer, steps=12), tmp_path)


def assert_ends_alike(config: TrainConfig, tmp_path: Path) -> None:
    """Rows and parameters equal those of a run on one device alone."""
    alone = dataclasses.replace(config, workdir=str(tmp_path / "alone"), mesh=MeshConfig())
    train(alone)
    ours, theirs = logged(config), logged(alone)
    assert [row[0] for row in ours] == list(range(1, 13))
    np.testing.assert_allclose([row[1] for row in ours], [row[1] for row in theirs], rtol=1e-4)
    state, other = arrays(dataclasses.replace(config, mesh=MeshConfig())), arrays(alone)
    assert state["step"] == other["step"] == 12
    # The moments, which are averages of gradients: Adam turns the rounding of a gradient that is
    # zero (the key's bias) into steps of the size of the rate, and the parameters would show it.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        state["opt_state"],
        other["opt_state"],
    )


def test_batch_that_does_not_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size = 12 .*accumulate = 2 .*8 devices.*16"):
        check_batch(12, 2, 8)
    check_batch(32, 4, 8)


def test_mesh_that_does_not_fit_is_refused(configure: Configure) -> None:
    with pytest.raises(ConfigError, match=r"mesh.fsdp = 3 does not divide 8 .*1, 2, 4 or 8"):
        MeshConfig(fsdp=3).validate(8)
    with pytest.raises(ConfigError, match=r"mesh.fsdp = 2.*use 1"):
        prepare(configure({"mesh.fsdp": 2}))
    with pytest.raises(ConfigError, match=r"mesh.fsdp = 2.*pmap"):
        prepare(configure({"mesh.fsdp": 2}, parallel="pmap"))
