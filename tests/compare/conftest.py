"""A comparison whose runs take a second each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import TINY, with_values, write_text
from zoo.compare.config import CompareConfig
from zoo.training.config import TrainConfig

Comparing = Callable[..., CompareConfig]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.txt", seed=0)


@pytest.fixture
def comparing(text: Path, tmp_path: Path) -> Comparing:
    """`comparing(**fields of CompareConfig, run={dotted: value})`."""

    def make(run: dict[str, Any] | None = None, **values: Any) -> CompareConfig:
        tiny = TINY | {"steps": 4, "eval_every": 4, "checkpoint.every": 2, "eval_batches": 2}
        own = {"workdir": str(tmp_path / "compare"), "data.path": str(text)}
        own["data.cache_dir"] = str(tmp_path / "cache")
        config = CompareConfig(
            variants=("post_norm", "pre_norm"),
            depths=(2,),
            space={"optim.lr": (1e-3, 1e-2)},
            seeds=2,
            extend=0,
            layers=False,
            run=with_values(TrainConfig(), tiny | own | (run or {})),
        )
        return dataclasses.replace(config, **values)

    return make
