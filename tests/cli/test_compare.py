"""What is typed to `zoo compare`, put over a config."""

from __future__ import annotations

import dataclasses

import pytest

from zoo.cli.compare import CompareOptions, settings
from zoo.cli.flags import parse_typed
from zoo.compare.config import CompareConfig
from zoo.errors import ConfigError

BASE = CompareConfig(
    variants=("pre_norm", "post_norm"),
    depths=(6, 12),
    widths=(64,),
    space={"optim.lr": (1e-3, 1e-2), "optim.beta2": (0.95, 0.99)},
    metric="loss",
    ledger="runs.jsonl",
    test_path="unseen.txt",
)


def typed(*words: str, base: CompareConfig = BASE) -> CompareConfig:
    default = CompareOptions(run=base.run)
    return settings(base, *parse_typed(CompareOptions, words, command="compare", default=default))


def test_what_is_not_typed_stays() -> None:
    assert typed() == BASE
    assert typed("--seeds", "5") == dataclasses.replace(BASE, seeds=5)


def test_none_unsets_what_may_be_left_out() -> None:
    for name in ("metric", "ledger", "test_path"):
        assert getattr(typed(f"--{name.replace('_', '-')}", "none"), name) is None
    assert typed("--depths", "none", "--widths", "none") == dataclasses.replace(
        BASE, depths=(), widths=()
    )
    assert typed("--lrs", "none").space == {"optim.beta2": (0.95, 0.99)}


@pytest.mark.parametrize(
    "name", ["seeds", "search", "match", "smallest", "layers", "workers", "tuning-seeds"]
)
def test_none_is_refused_where_there_must_be_a_value(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name} = none"):
        typed(f"--{name}", "none")


def test_no_variants_are_refused() -> None:
    with pytest.raises(ConfigError, match="variants is empty"):
        typed("--variants", "none").validate()
