"""A variant of one's own from a config file to a checkpoint that anyone can load."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.training.conftest import TINY, with_values, write_text
from zoo.errors import CheckpointError
from zoo.training.config import TrainConfig, load_config
from zoo.training.loop import train
from zoo.variants import registry
from zoo.variants.placement import Multiplier, NormSlot, Site
from zoo.variants.variant import Context, Paper

ROOT = Path(__file__).resolve().parents[2]

# As a user writes it: the law, the entry and the run in one file outside the package.
CONFIG = """
import zoo
from zoo.training.config import TrainConfig
from zoo.variants.placement import Multiplier, NormSlot, Site
from zoo.variants.variant import Context, Paper, Variant


def half_law(context: Context, *, share: float) -> Site:
    return Site(context.sublayer, norm_out=NormSlot(share), branch=Multiplier(0.5))


zoo.register_variant(
    Variant(
        name="half_norm",
        summary="post-norm with half a branch",
        equation="x' = share N(x + F(x) / 2)",
        law=half_law,
        options={"share": 0.5},
        paper=Paper("A Test", ("Nobody, A.",), 2026, "2601.00001", "nobody2026test"),
    )
)


def config() -> TrainConfig:
    return TrainConfig(model=zoo.ModelConfig(variant="half_norm(share=0.25)"))
"""

# A process that has never seen the config file.
ELSEWHERE = """
import sys

import numpy as np

import zoo

folder, out = sys.argv[1:]
assert "half_norm" not in zoo.list_variants()
model = zoo.load_pretrained(folder)
ids = np.asarray([[1, 2, 3, 4], [9, 8, 7, 6]])
np.savez(out, logits=model(ids), tokens=zoo.generate(model, ids, max_new_tokens=3))
"""


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is gone after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def workdir(clean_registry: None, tmp_path: Path) -> Path:
    """Of a run of four steps; the variant is known to this process until the test ends."""
    file = tmp_path / "mine.py"
    file.write_text(CONFIG)
    own = load_config(file)
    places = {
        "workdir": str(tmp_path / "run"),
        "data.path": str(write_text(tmp_path / "text.txt", seed=3, lines=300)),
        "data.cache_dir": str(tmp_path / "cache"),
        "model.variant": own.model.variant,
        "steps": 4,
    }
    made: TrainConfig = with_values(own, TINY | places)
    summary = train(made)
    assert summary["status"] == "finished"
    return tmp_path / "run"


@pytest.mark.live
def test_a_variant_of_a_config_file_trains_and_loads_where_it_is_unknown(
    workdir: Path, tmp_path: Path
) -> None:
    saved = json.loads((workdir / "config.json").read_text())["config"]["model"]["variant"]
    assert saved == "half_norm(share=0.25)"
    command = [sys.executable, "-c", ELSEWHERE, str(workdir), str(tmp_path / "out.npz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    there = np.load(tmp_path / "out.npz")
    here = zoo.load_pretrained(workdir)
    sites = [site for layer in here.placement.stack("decoder").layers for site in layer]
    assert {(site.norm_out.gain, site.branch.value) for site in sites} == {(0.25, 0.5)}
    ids = jnp.asarray([[1, 2, 3, 4], [9, 8, 7, 6]])
    np.testing.assert_array_equal(there["logits"], here(ids))
    np.testing.assert_array_equal(there["tokens"], zoo.generate(here, ids, max_new_tokens=3))


def test_a_known_name_that_has_come_to_mean_something_else_is_refused(workdir: Path) -> None:
    registered = zoo.get_variant("half_norm")

    def other_law(context: Any, *, share: float) -> Any:
        return dataclasses.replace(registered.law(context, share=share), branch=Multiplier(0.75))

    registry._registered["half_norm"] = dataclasses.replace(registered, law=other_law)
    with pytest.raises(CheckpointError, match=r"branch\.value = 0\.5, .*asks for 0\.75"):
        zoo.load_pretrained(workdir)


def test_an_unknown_name_beside_another_placement_is_refused(workdir: Path) -> None:
    registry._registered.clear()
    path = workdir / "config.json"
    content = json.loads(path.read_text())
    content["config"]["model"]["variant"] = "quarter_norm"
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"'half_norm\(share=0\.25\)'.*'quarter_norm'"):
        zoo.load_pretrained(workdir)


def test_whole_numbers_of_a_law_count_as_numbers() -> None:
    """1 in the first layer and 0.5 above is 1.0 there and 0.5 above."""

    def logits(first: float) -> np.ndarray[Any, Any]:
        def law(context: Context) -> Site:
            value = first if context.layer == 0 else 0.5
            return Site(context.sublayer, norm_in=NormSlot(), branch=Multiplier(value))

        paper = Paper("A Test", ("Nobody, A.",), 2026, "2601.00001", "nobody2026test")
        own = zoo.Variant("falling", "a test", "x' = x + a N(F(x))", law, paper)
        model = zoo.create_model("decoder-tiny", variant=own)
        return np.asarray(model(jnp.asarray([[1, 2, 3, 4]])))

    np.testing.assert_array_equal(logits(1), logits(1.0))
