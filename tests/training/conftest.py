"""A text, and a run on it that takes seconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.training.config import TrainConfig

Configure = Callable[..., TrainConfig]

WORDS = ("def", "return", "self", "import", "for", "if", "None", "value", "=", "(", ")", ":", "+")

TINY: dict[str, Any] = {
    "steps": 12,
    "log_every": 1,
    "eval_every": 6,
    "eval_batches": 1,
    "sample_tokens": 0,
    "tensorboard": False,
    "model.variant": "deep_norm",
    "model.d_model": 16,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.max_length": 32,
    "data.length": 32,
    "data.batch_size": 4,
    "data.prefetch": 0,
    "optim.schedule": "constant",
    "optim.warmup": 2,
    "optim.lr": 1e-3,
    "checkpoint.every": 4,
}


def with_values(config: Any, values: dict[str, Any]) -> Any:
    """The config with some of its fields, named with dots, changed."""
    changes: dict[str, Any] = {}
    for dotted, value in values.items():
        name, _, rest = dotted.partition(".")
        if rest:
            changes[name] = with_values(changes.get(name, getattr(config, name)), {rest: value})
        else:
            changes[name] = value
    return dataclasses.replace(config, **changes)


def write_text(path: Path, *, seed: int, lines: int = 1500) -> Path:
    """Lines of code-like words."""
    rng = np.random.default_rng(seed)
    path.write_text(
        "\n".join(" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) for _ in range(lines))
    )
    return path


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.txt", seed=0)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of 2 to 50 bytes: packed whole into rows of 33, they leave padding everywhere."""
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("documents") / "documents.jsonl"
    texts = ("".join(rng.choice(list("abcdefgh ()"), size=rng.integers(2, 50))) for _ in range(900))
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return path


@pytest.fixture
def padded(documents: Path) -> dict[str, Any]:
    """Settings under which rows hold unequally many real tokens."""
    return {
        "data.path": str(documents),
        "data.packing": "first_fit",
        "data.separate_documents": True,
    }


@pytest.fixture
def configure(text: Path, tmp_path: Path) -> Configure:
    """`configure({"optim.lr": 1e-2}, steps=3)`: a tiny run in `tmp_path / "run"`."""

    def make(values: dict[str, Any] | None = None, **more: Any) -> TrainConfig:
        places = {
            "workdir": str(tmp_path / "run"),
            "data.path": str(text),
            "data.cache_dir": str(text.parent / "cache"),
        }
        made: TrainConfig = with_values(TrainConfig(), TINY | places | (values or {}) | more)
        return made

    return make
