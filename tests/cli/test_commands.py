"""What `zoo` prints and how it exits, in this process."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.cli import COMMANDS, main

Zoo = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_zoo(capsys: pytest.CaptureFixture[str]) -> Zoo:
    """`run_zoo("list", "models")` -> (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, captured.out, captured.err

    return run


def refused(result: tuple[int, str, str]) -> str:
    """The message of a run that ends as bad input does: exit 2 and one line on stderr."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


def test_help_names_every_command_in_its_first_page(run_zoo: Zoo) -> None:
    code, out, _ = run_zoo("--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert run_zoo()[1] == out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page(run_zoo: Zoo, command: str) -> None:
    code, out, err = run_zoo(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: zoo {command}")


def test_train_help_has_the_flags_that_scripts_rely_on(run_zoo: Zoo) -> None:
    _, out, _ = run_zoo("train", "--help")
    for flag in [
        "--config",
        "--workdir",
        "--dry-run",
        "--steps",
        "--seed",
        "--init-from",
        "--parallel",
        "--mesh.fsdp",
        "--data.path",
        "--data.dataset",
        "--data.batch-size",
        "--data.length",
        "--model.variant",
        "--model.num-layers",
        "--model.d-model",
        "--optim.lr",
        "--checkpoint.every",
    ]:
        assert f"  {flag} " in out, flag
    assert "\noptim: " in out


def test_train_help_shows_the_defaults_of_the_config_file(run_zoo: Zoo, tmp_path: Path) -> None:
    file = config_file(tmp_path, "steps=321")
    assert "(default: 321)" in run_zoo("train", "--config", file, "--help")[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["describe", "post"], "post_norm, res_post_norm or deep_norm"),
        (["describe", "dep_norm"], "did you mean deep_norm"),
        (["describe", "deep_norm(q=1)"], "no option 'q'"),
        (["describe", "deep_norm(p=2.0)"], "p lies in (0, 1]"),
        (["describe", "deep_norm(p="], "cannot be read"),
        (["describe"], "NAME is missing"),
        (["describe", "post_norm", "pre_norm"], "unexpected word 'pre_norm'"),
        (["describe", "post_norm", "--num-layers", "0"], "num_layers = 0"),
        (["describe", "post_norm", "--num-layers", "-3"], "num_layers = -3"),
        (["describe", "post_norm", "--num-layers", "many"], "use a whole number"),
        (["describe", "post_norm", "--num-layers"], "the value is missing"),
        (["describe", "post_norm", "--layers", "3"], "did you mean --num-layers"),
        (["describe", "post_norm", "--architecture", "decodr"], "did you mean decoder"),
        (["describe", "post_norm", "--num-encoder-layers", "3"], "one stack"),
        (["describe", "post_norm", "--json=perhaps"], "use true or false"),
        (["list", "variant"], "did you mean variants"),
        (["list", "zebras"], "use variants, models, families or tasks"),
        (["trian"], "did you mean train"),
        (["train", "--config", "nowhere.py"], "nowhere.py"),
        (["train", "--config"], "the value is missing"),
        (["train", "--config", "--steps", "3"], "the value is missing"),
        (["train", "--lr", "0.1"], "did you mean --optim.lr"),
        (["train", "--model.num-layer", "3"], "did you mean --model.num-layers"),
        (["train", "--steps", "1.5"], "use a whole number"),
        (["train", "--optim.lr", "fast"], "use a number or none"),
        (["train", "--model.norm", "layernorm"], "did you mean layer_norm"),
        (["train", "--checkpoint.every", "0"], "checkpoint.every = 0"),
        (["train", "--model.d-model", "0"], "model.d_model = 0"),
        (["train", "--model.num-heads", "7"], "model.num_heads = 7 does not divide model.d_model"),
        (["train", "--model.positions", "rotory"], "did you mean rotary?"),
        (["train", "--model.dtype", "float16"], "use float32 or bfloat16"),
        (["train", "--model.architecture", "encoder"], "use model.architecture = 'decoder'"),
        (["train", "--workdir", ""], "workdir = ''"),
        (["train", "--json"], "--json needs --dry-run"),
        (["train", "deep_norm"], "unexpected word 'deep_norm'"),
        (["generate", "--prompt", "x"], "--from TEXT is missing"),
        (["generate", "--from", "nowhere", "--prompt", ""], "at least one character"),
        (["generate", "--from", "nowhere", "--prompt", "x"], "nowhere"),
        (["evaluate"], "--from TEXT is missing"),
        (["evaluate", "--from", "nowhere"], "nowhere"),
        (["data", "--data.path", "nowhere.txt"], "nowhere.txt"),
        (["env", "--all"], "unknown flag --all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_2(run_zoo: Zoo, words: list[str], expected: str) -> None:
    assert expected in refused(run_zoo(*words))


def test_a_config_file_with_an_unknown_field_is_bad_input(run_zoo: Zoo, tmp_path: Path) -> None:
    file = config_file(tmp_path, "foo=1")
    for command in ("train", "data"):
        message = refused(run_zoo(command, "--config", file))
        assert f"{file}, line 5, sets an unknown field: TrainConfig has no foo" in message


def test_a_value_of_a_config_file_that_no_flag_would_take_is_bad_input(
    run_zoo: Zoo, tmp_path: Path
) -> None:
    file = config_file(tmp_path, "steps='4'")
    assert "steps = '4': use a whole number" in refused(run_zoo("train", "--config", file))


def test_list_variants_as_json_has_every_variant(run_zoo: Zoo) -> None:
    code, out, _ = run_zoo("list", "variants", "--json")
    assert code == 0
    entries = json.loads(out)
    assert [entry["name"] for entry in entries] == zoo.list_variants()
    known = {"summary", "equation", "aliases", "options", "ends", "paper", "provenance"}
    assert all(known <= set(entry) for entry in entries)


def test_list_prints_a_line_a_name(run_zoo: Zoo) -> None:
    for what, names in (("variants", zoo.list_variants()), ("models", zoo.list_models())):
        lines = run_zoo("list", what)[1].splitlines()
        assert [line.split()[0] for line in lines] == ["name", *names]
    assert "language_model" in run_zoo("list", "tasks")[1]


def test_list_families_says_what_is_read_and_written(run_zoo: Zoo) -> None:
    code, out, _ = run_zoo("list", "families", "--json")
    assert code == 0
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert list(entries) == zoo.list_families()
    assert "encoder" in entries["bert"]["architectures"]
    assert entries["bert"]["variants"] == ["post_norm"]
    assert entries["bert"]["classes"]["BertForMaskedLM"] == "masked_lm"
    assert "span" in entries["bert"]["heads"]
    assert all(each["architectures"] and each["variants"] for each in entries.values())
    lines = run_zoo("list", "families")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["name", *entries]


def test_describe_folds_hyphens_in_names_flags_and_choices(run_zoo: Zoo) -> None:
    plain = run_zoo(
        "describe", "deep_norm", "--num_layers", "6", "--architecture", "encoder_decoder"
    )
    folded = run_zoo("describe", "--num-layers=6", "Deep-Norm", "--architecture=encoder-decoder")
    assert plain == folded
    assert plain[0] == 0
    assert "xq" in plain[1]


def test_describe_as_json_is_the_descriptions_own(run_zoo: Zoo) -> None:
    _, out, _ = run_zoo("describe", "mix_norm(fraction=0.5)", "--num-layers", "8", "--json")
    described = zoo.describe("mix_norm(fraction=0.5)", num_layers=8).to_json()
    assert json.loads(out) == json.loads(json.dumps(described))


def test_env_says_what_ran(run_zoo: Zoo) -> None:
    found = json.loads(run_zoo("env", "--json")[1])
    assert found["python"] == platform.python_version()
    assert found["zoo"] == zoo.__version__
    assert sum(device["count"] for device in found["devices"]) >= 1
    assert found["packages"]["jax"] in run_zoo("env")[1]


def config_file(folder: Path, arguments: str) -> str:
    file = folder / "mine.py"
    file.write_text(
        "from zoo.training.config import TrainConfig\n\n\n"
        f"def config():\n    return TrainConfig({arguments})\n"
    )
    return str(file)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that `zoo train` hands to the loop, which does nothing."""
    import zoo.training.loop

    configs: list[Any] = []

    def train(config: Any, typed: Any) -> dict[str, str]:
        configs.append(config)
        return {"status": "finished"}

    monkeypatch.setattr(zoo.training.loop, "train", train)
    return configs


def test_flags_override_the_config_file(run_zoo: Zoo, trained: list[Any], tmp_path: Path) -> None:
    file = config_file(tmp_path, "steps=7, seed=5, workdir='there'")
    words = "--steps 9 --model.num_layers=3 --model.variant deep_norm(p=0.5) --optim.lr 3e-4"
    assert run_zoo("train", "--config", file, *words.split())[0] == 0
    (config,) = trained
    assert (config.steps, config.seed, config.workdir) == (9, 5, "there")
    assert (config.model.num_layers, config.model.variant) == (3, "deep_norm(p=0.5)")
    assert config.optim.lr == 3e-4


@pytest.fixture
def plan(run_zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`plan("--steps", "5", config="seed=5")`: a tiny dry run's JSON."""
    monkeypatch.chdir(tmp_path)
    text, cache = tmp_path / "text.txt", tmp_path / "cache"
    text.write_text("the quick brown fox\n" * 200)
    data = ("--data.path", str(text), "--data.cache-dir", str(cache), "--data.length", "32")
    small = ("--model.num-layers", "2", "--model.d-model", "16", "--data.batch-size", "4")

    def run(*words: str, config: str = "") -> Any:
        file = config_file(tmp_path, config)
        code, out, _ = run_zoo(
            "train", "--config", file, "--dry-run", "--json", *data, *small, *words
        )
        assert code == 0
        return json.loads(out)

    return run


def test_a_dry_run_as_json_names_origins_and_writes_nothing(
    plan: Callable[..., Any], trained: list[Any], tmp_path: Path
) -> None:
    settings = plan("--steps", "5", config="seed=5")["settings"]
    assert trained == []
    assert settings["steps"] == {"value": 5, "origin": "flag"}
    assert settings["seed"] == {"value": 5, "origin": "config"}
    assert settings["model.num_heads"]["origin"] == "default"
    left = {path.name for path in tmp_path.iterdir()} - {"cache", "__pycache__"}
    assert left == {"text.txt", "mine.py"}


def test_a_dry_run_knows_flags_from_values(plan: Callable[..., Any]) -> None:
    words = ("--steps", "7", "--model.no-bias", "--optim.warmup", "none", "--seed=0")
    settings = plan(*words, config="steps=7, data_seed=3")["settings"]
    origins = {name: each["origin"] for name, each in settings.items()}
    assert (origins["steps"], origins["seed"], origins["data_seed"]) == ("flag", "flag", "config")
    assert (origins["model.bias"], origins["optim.warmup"]) == ("flag", "recipe")


def test_a_dry_run_counts_what_the_backward_pass_keeps(plan: Callable[..., Any]) -> None:
    def kept(*words: str) -> int:
        return next(v for k, v in plan(*words)["memory_bytes"].items() if "activations" in k)

    float32, rows, length, width, layers, vocab = 4, 4, 32, 16, 2, 256
    # remat = full keeps the input of each layer, and outside of the layers at least the logits.
    full = kept("--model.remat", "full")
    inputs = float32 * rows * length * width * layers
    assert (
        inputs + float32 * rows * length * vocab
        < full
        < 2 * (inputs + 2 * float32 * rows * length * vocab)
    )
    deeper = kept("--model.remat", "full", "--model.num-layers", "4")
    assert deeper - full == inputs
    assert full < kept("--model.remat", "selective") < kept("--model.remat", "none")
    split = kept("--model.remat", "full", "--optim.accumulate", "2")
    assert 0.4 * full < split < 0.6 * full


@pytest.mark.parametrize(
    ("status", "code"), [("finished", 0), ("diverged", 3), ("preempted", 75), ("failed", 1)]
)
def test_the_exit_code_is_that_of_the_status(
    run_zoo: Zoo, monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    monkeypatch.setattr("zoo.training.loop.train", lambda *_: {"status": status})
    assert run_zoo("train")[0] == code


def test_an_interrupt_exits_130(run_zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.training.loop.train", interrupted)
    assert run_zoo("train")[0] == 130


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("zoo.training.loop.train", broken)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


def test_data_shows_the_rows_of_a_file(run_zoo: Zoo, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox\n" * 200)
    cache = str(tmp_path / "cache")
    words = ("--data.path", str(text), "--data.cache-dir", cache, "--data.length", "32")
    code, out, _ = run_zoo("data", *words, "--data.batch-size", "2", "--examples", "1")
    assert code == 0
    assert "quick brown" in out
    assert out.count("=== example") == 1
