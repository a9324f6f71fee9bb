"""What is typed to `zoo compare`, put over a config."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from zoo.cli import main
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


@pytest.mark.parametrize(
    "variant",
    [
        "minimax_post_norm(attention=(3.55, 1.0), mlp=(3.55, 1.0))",
        "pro_res(steps=10, base='mix_norm(fraction=0.5)')",
    ],
)
def test_variants_with_options_are_told_apart_at_commas_outside_of_brackets(variant: str) -> None:
    assert typed("--variants", f"{variant}, pre_norm").variants == (variant, "pre_norm")
    assert typed("--variants", f"pre_norm,{variant}").variants == ("pre_norm", variant)


def test_a_workdir_or_ledger_of_another_kind_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("hi")
    words = (
        "--variants post_norm,pre_norm --depths 1 --steps 2 --data.length 16 --data.batch-size 2"
    )
    flags = {
        f"--workdir {other}": "workdir = ",
        f"--workdir {tmp_path}/a --ledger {other}": "ledger = ",
    }
    for flag, named in flags.items():
        with pytest.raises(SystemExit) as left:
            main(["compare", *words.split(), *flag.split()])
        assert left.value.code == 2
        assert named in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]
