"""What is left open is filled from recipe, text and length of the run; flags override."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.training.conftest import with_values
from zoo.errors import ConfigError, ZooError
from zoo.settings import flatten
from zoo.training.config import TrainConfig, from_dict, load_config, origins, resolve_run
from zoo.training.resume import refuse_other_run
from zoo.training.setup import prepare
from zoo.variants.registry import get_variant

ROOT = Path(__file__).resolve().parents[2]


def resolved(values: dict[str, Any] | None = None, **more: Any) -> TrainConfig:
    return resolve_run(with_values(TrainConfig(), (values or {}) | more), vocab_size=256)


@pytest.mark.parametrize(("steps", "warmup"), [(100_000, 4000), (16_000, 4000), (400, 100), (3, 0)])
def test_recipe_warms_up_as_the_paper_or_for_a_quarter_of_the_run(steps: int, warmup: int) -> None:
    assert get_variant("deep_norm").recipe.warmup == 4000
    assert resolved({"model.variant": "deep_norm"}, steps=steps).optim.warmup == warmup


def test_recipe_that_warms_up_for_a_part_of_the_run_does_so_at_any_length() -> None:
    assert get_variant("mix_norm").recipe.warmup_fraction == 0.1
    for steps in (100, 100_000):
        assert resolved({"model.variant": "mix_norm"}, steps=steps).optim.warmup == steps // 10


def test_only_an_explicit_warm_up_longer_than_the_run_is_refused() -> None:
    assert resolved({"optim.warmup": 90}, steps=100).optim.warmup == 90
    with pytest.raises(ConfigError, match=r"optim.warmup = 101 .*steps = 100.*use 100 or fewer"):
        resolved({"optim.warmup": 101}, steps=100)


def test_rate_and_betas_come_from_the_recipe_and_flags_override() -> None:
    recipe = get_variant("post_norm").recipe
    optim = resolved({"model.variant": "post_norm"}).optim
    assert (optim.lr, optim.beta2, optim.schedule) == (recipe.lr, recipe.beta2, recipe.schedule)
    given = {"optim.lr": 0.5, "optim.beta2": 0.9, "optim.schedule": "linear"}
    optim = resolved(given | {"model.variant": "post_norm"}).optim
    assert (optim.lr, optim.beta2, optim.schedule) == (0.5, 0.9, "linear")


def test_rate_of_another_optimizer_is_its_own() -> None:
    values = {"model.variant": "post_norm", "optim.name": "lion"}
    assert resolved(values).optim.lr == 1e-4


@pytest.mark.parametrize("variant", zoo.list_variants())
@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_every_variant_resolves_to_nothing_open_at_any_length(variant: str, steps: int) -> None:
    config = resolved({"model.variant": variant}, steps=steps)
    wanted = ("lr", "weight_decay", "beta1", "beta2", "schedule", "clip_norm", "warmup")
    assert None not in [getattr(config.optim, name) for name in wanted]
    assert config.optim.warmup is not None
    assert config.optim.warmup <= max(steps // 4, 0)
    assert None not in (config.eval_every, config.checkpoint.every, config.data_seed)
    assert resolve_run(config, vocab_size=256) == config


def test_vocabulary_is_the_tokenizers(text: Path, configure: Any) -> None:
    values = {"data.tokenizer": "bpe", "data.vocab_size": 300, "model.vocab_size": None}
    run = prepare(configure(values))
    assert run.model.config.vocab_size == run.data.vocab_size != 256
    with pytest.raises(ConfigError, match=r"model.vocab_size = 256 is smaller .*tokenizer"):
        prepare(configure(values | {"model.vocab_size": 256}))


def test_positions_reach_as_far_as_the_rows() -> None:
    assert resolved().model.max_length == 512
    assert resolved({"data.length": 1024}).model.max_length == 1024
    with pytest.raises(ConfigError, match=r"data.length = 256 .*model.max_length = 128"):
        resolved({"model.max_length": 128})


def test_window_is_measured_against_the_rows() -> None:
    with pytest.raises(ConfigError, match=r"window = 300 .*256"):
        resolved({"model.window": 300})
    assert resolved({"model.window": 600, "data.length": 1024}).model.window == 600


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, ["steps = 0", "1 or more"]),
        ({"log_every": 0}, ["log_every = 0"]),
        ({"eval_every": 0}, ["eval_every = 0"]),
        ({"eval_batches": 0}, ["eval_batches = 0"]),
        ({"sample_tokens": -1}, ["sample_tokens = -1"]),
        ({"sample_temperature": -0.5}, ["sample_temperature = -0.5"]),
        ({"seed": -1}, ["seed = -1"]),
        ({"data_seed": 2**32}, ["data_seed = 4294967296"]),
        ({"task": "langage_model"}, ["task = 'langage_model'", "did you mean language_model"]),
        ({"parallel": "ddp"}, ["parallel = 'ddp'", "jit or pmap"]),
        ({"workdir": ""}, ["workdir = ''", "name a folder"]),
        ({"workdir": " "}, ["workdir = ' '"]),
        ({"steps": "4"}, ["steps = '4'", "a whole number"]),
        ({"steps": True}, ["steps = True"]),
        ({"tensorboard": 1}, ["tensorboard = 1", "True or False"]),
        ({"sample_temperature": float("nan")}, ["sample_temperature = nan"]),
        ({"model": "gpt2-small"}, ["model = 'gpt2-small'", "ModelConfig"]),
        ({"model.positions": "rotory"}, ["model.positions = 'rotory'", "did you mean rotary?"]),
        ({"model.norm": "layernorm"}, ["model.norm = 'layernorm'", "did you mean layer_norm"]),
        ({"model.dtype": "float16"}, ["model.dtype = 'float16'", "float32 or bfloat16"]),
        ({"model.init": "kaiming"}, ["model.init = 'kaiming'", "xavier_normal"]),
        ({"model.architecture": "encoder"}, ["model.architecture = 'encoder'", "= 'decoder'"]),
        ({"model.d_model": 0}, ["model.d_model = 0"]),
        ({"model.num_layers": 2.0}, ["model.num_layers = 2.0", "a whole number"]),
        ({"data.packing": "tight"}, ["data.packing = 'tight'", "concat or first_fit"]),
        ({"data.batch_size": "8"}, ["data.batch_size = '8'"]),
        ({"optim.name": "adam"}, ["optim.name = 'adam'", "did you mean adamw?"]),
        ({"optim.schedule": "cos"}, ["optim.schedule = 'cos'", "wsd or None"]),
        ({"optim.freeze": "emb"}, ["optim.freeze = 'emb'", "tuple"]),
        ({"checkpoint.every": "often"}, ["checkpoint.every = 'often'"]),
        ({"mesh.fsdp": "2"}, ["mesh.fsdp = '2'"]),
        ({"parallel": "pmap", "mesh.fsdp": 2}, ["mesh.fsdp = 2", "pmap"]),
        ({"optim.lr": -1.0}, ["optim.lr = -1.0"]),
        ({"optim.lr": float("nan")}, ["optim.lr = nan"]),
        ({"optim.accumulate": 0}, ["optim.accumulate = 0"]),
        ({"optim.ema": 1.5}, ["optim.ema = 1.5"]),
        ({"model.num_heads": 7}, ["model.num_heads = 7", "model.d_model = 128"]),
        ({"model.variant": "post"}, ["post", "post_norm"]),
        ({"data.length": 0}, ["data.length = 0"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_refused_with_field_and_value(
    values: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ZooError) as refused:
        with_values(TrainConfig(), values).validate()
    assert all(word in str(refused.value) for word in words), refused.value


def found_origins(
    values: dict[str, Any], typed: frozenset[str] = frozenset()
) -> dict[str, tuple[Any, str]]:
    return origins(with_values(TrainConfig(), values), typed=typed, vocab_size=256)


def test_every_value_says_where_it_came_from() -> None:
    base = with_values(TrainConfig(), {"model.variant": "post_norm", "data.length": 64})
    asked = with_values(base, {"optim.beta1": 0.8, "steps": 50})
    final = resolve_run(asked, vocab_size=256)
    found = origins(asked, typed={"optim.beta1", "steps"}, vocab_size=256)
    assert set(found) == set(flatten(final))
    expected = {
        "steps": (50, "flag"),
        "optim.beta1": (0.8, "flag"),
        "data.length": (64, "config"),
        "log_every": (10, "default"),
        "optim.lr": (0.0007, "recipe"),
        "optim.warmup": (12, "recipe"),
        "optim.schedule": ("inverse_sqrt", "recipe"),
        "optim.weight_decay": (0.1, "optimizer"),
        "model.vocab_size": (256, "text"),
        "model.final_norm": (False, "variant"),
        "model.d_ff": (512, "run"),
        "eval_every": (5, "run"),
    }
    assert {name: found[name] for name in expected} == expected


def test_a_flag_that_repeats_the_config_file_is_a_flag() -> None:
    values = {"optim.lr": 3e-3, "steps": 200}
    found = found_origins(values, frozenset({"optim.lr"}))
    assert found["optim.lr"] == (3e-3, "flag")
    assert found["steps"] == (200, "config")
    assert found_origins({}, frozenset({"steps"}))["steps"] == (600, "flag")


def test_a_flag_that_opens_a_field_shows_what_filled_it() -> None:
    typed = frozenset({"optim.warmup", "model.final_norm", "model.window"})
    found = found_origins({"model.variant": "post_norm"}, typed)
    assert found["optim.warmup"] == (150, "recipe")
    assert found["model.final_norm"] == (False, "variant")
    assert found["model.window"] == (None, "flag")


def test_a_recipe_that_agrees_with_the_defaults_is_still_the_recipe() -> None:
    found = found_origins({"model.variant": "mix_norm"})
    assert found["optim.lr"] == (1e-3, "recipe")
    assert found["optim.schedule"] == ("cosine", "recipe")
    assert found["optim.clip_norm"] == (1.0, "default")
    found = found_origins({"model.variant": "peri_norm"})
    assert found["optim.lr"] == (1e-3, "optimizer")
    assert found["optim.beta2"] == (0.95, "recipe")
    found = found_origins({"model.variant": "peri_norm", "optim.beta2": 0.95})
    assert found["optim.beta2"] == (0.95, "config")


def test_a_recipes_rate_is_not_the_origin_under_another_optimizer() -> None:
    found = found_origins({"model.variant": "post_norm", "optim.name": "adafactor"})
    assert found["optim.lr"] == (1e-2, "optimizer")
    assert found["optim.beta1"] == (None, "optimizer")
    assert found["optim.schedule"][1] == "recipe"


def test_config_survives_json() -> None:
    config = resolved({"optim.freeze": ("emb", "w1@0-2"), "model.window": 8})
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_unknown_setting_of_a_saved_config_is_named() -> None:
    saved = dataclasses.asdict(TrainConfig())
    saved["optim"]["lrr"] = 1.0
    with pytest.raises(ConfigError, match=r"unknown setting optim.lrr .*did you mean lr"):
        from_dict(saved)


USING = (
    "from dataclasses import replace\nfrom zoo.training.config import ModelConfig, TrainConfig\n\n"
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("x = ", "does not run"),
        ("import nothing_like_this", "does not run"),
        ("def config(): return 1", "returns a int"),
        (USING + "def config(): return TrainConfig(steps='4')", "steps = '4': use a whole number"),
        ("x = 1", "no function config"),
        ("def config(:", r"line 1, .*SyntaxError"),
        (
            USING + "def config():\n    return TrainConfig(foo=1)",
            "line 5, .*TrainConfig has no foo",
        ),
        (USING + "def config(): return TrainConfig(step=1)", r"did you mean steps\?"),
        (USING + "def config(): return TrainConfig(lr=1)", r"did you mean optim.lr\?"),
        (
            USING + "def config(): return ModelConfig(d_modl=1)",
            "ModelConfig .*did you mean d_model",
        ),
        (USING + "def config(): return replace(TrainConfig(), stepz=1)", "did you mean steps"),
        ("def config():\n    return TrainConfig()", "line 2, does not run: NameError"),
        ("def config(): return {}['lr']", "KeyError: 'lr'"),
        ("def config(): return int('x')", "ValueError"),
        ("def config(): return open('/no/such')", "FileNotFoundError"),
        ("x = 1 / 0", "line 1, .*ZeroDivisionError"),
        ("import zoo\nzoo.nothing", "line 2, .*AttributeError"),
        ("import zoo\nzoo.get_variant('dep_norm')", "line 2, .*did you mean deep_norm"),
    ],
)
def test_file_that_is_no_config_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "own.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(("schedule", "steps"), [("cosine", 60), ("cosine", 40), ("wsd", 60)])
def test_a_schedule_that_cannot_be_extended_says_which_can(
    tmp_path: Path, schedule: str, steps: int
) -> None:
    values = {"workdir": str(tmp_path), "optim.schedule": schedule, "optim.warmup": 5}
    begun = dataclasses.asdict(resolved(values, steps=50))
    (tmp_path / "config.json").write_text(json.dumps({"config": begun}))
    with pytest.raises(ConfigError, match=rf"steps = 50, .*asks for {steps}") as refused:
        refuse_other_run(with_values(TrainConfig(), values | {"steps": steps}))
    explained = f"optim.schedule = {schedule!r} follows" in str(refused.value)
    assert explained == (steps > 50)
    assert ("constant or inverse_sqrt" in str(refused.value)) == (steps > 50)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs").glob("*.py")), ids=lambda file: file.stem
)
def test_every_config_is_short_and_works(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 60
    config = load_config(file)
    if config.task == "seq2seq":  # a corpus of pairs is nothing that every machine has
        with pytest.raises(ConfigError, match=r"give data\.path and data\.target_path"):
            config.validate()
        config = with_values(config, {"data.path": "a.en", "data.target_path": "a.de"})
    config.validate()
