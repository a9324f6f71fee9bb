"""A workdir as a model: the run's own weights, on any device, in any compute dtype."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.training.conftest import TINY, with_values, write_text
from zoo.checkpoints import Checkpoints
from zoo.compare.config import CompareConfig
from zoo.errors import CheckpointError, ConfigError
from zoo.layers import weight
from zoo.training.config import TrainConfig
from zoo.training.evaluate import evaluate_workdir
from zoo.training.loop import train
from zoo.training.setup import prepare

IDS = jnp.asarray([[1, 2, 3, 4], [9, 8, 7, 6]])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("pretrained")
    places = {
        "workdir": str(folder / "run"),
        "data.path": str(write_text(folder / "text.txt", seed=2)),
        "data.cache_dir": str(folder / "cache"),
    }
    made: TrainConfig = with_values(TrainConfig(), TINY | places)
    return made


@pytest.fixture(scope="module")
def summary(config: TrainConfig) -> dict[str, Any]:
    return train(config)


@pytest.fixture
def workdir(config: TrainConfig, summary: dict[str, Any], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(config.workdir, tmp_path / "run")


def own_logits(config: TrainConfig, workdir: Path, step: int) -> np.ndarray:
    """Logits from the whole state as a resumed run restores it."""
    run = prepare(config)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.restore(step, run.template)
    return np.asarray(jax.jit(lambda p: weight.bind(run.model, p)(IDS))(state["params"]))


def logits(model: Any) -> np.ndarray:
    return np.asarray(jax.jit(lambda p: weight.bind(model, p)(IDS))(weight.split(model)[0]))


def test_model_is_the_runs_newest(config: TrainConfig, workdir: Path) -> None:
    model = zoo.load_pretrained(workdir)
    assert model.config.variant == "deep_norm"
    np.testing.assert_array_equal(logits(model), own_logits(config, workdir, 12))


def test_step_can_be_chosen(config: TrainConfig, workdir: Path) -> None:
    ours = logits(zoo.load_pretrained(workdir, step=4))
    np.testing.assert_array_equal(ours, own_logits(config, workdir, 4))
    assert not np.array_equal(ours, own_logits(config, workdir, 12))
    with pytest.raises(CheckpointError, match=r"step 5 .*4, 8 or 12"):
        zoo.load_pretrained(workdir, step=5)


def test_parameters_stay_float32_under_another_compute_dtype(workdir: Path) -> None:
    plain, half = zoo.load_pretrained(workdir), zoo.load_pretrained(workdir, dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(weight.split(half)[0])} == {jnp.dtype("float32")}
    assert not np.array_equal(logits(plain), logits(half))
    # bfloat16 has 8 bits; logits are below 10.
    np.testing.assert_allclose(logits(plain), logits(half), atol=0.2)
    with pytest.raises(CheckpointError, match=r"dtype = 'float16'; use float32 or bfloat16"):
        zoo.load_pretrained(workdir, dtype="float16")


def test_parameters_go_where_they_are_asked_to(workdir: Path) -> None:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    model = zoo.load_pretrained(workdir, sharding=sharding)
    assert {leaf.sharding for leaf in jax.tree.leaves(weight.split(model)[0])} == {sharding}


def test_another_head_is_drawn_and_stands_on_the_runs_stack(workdir: Path) -> None:
    whole = zoo.load_pretrained(workdir)
    assert zoo.load_pretrained(workdir, head="language_model").config == whole.config
    bare = zoo.load_pretrained(workdir, head="none")
    stream = np.asarray(whole.hidden(IDS))
    np.testing.assert_array_equal(bare(IDS), stream)
    tagger = zoo.load_pretrained(workdir, head="token_classification", num_labels=3)
    kernel = np.asarray(weight.split(tagger)[0]["head"]["linear"]["kernel"])
    assert kernel.shape == (stream.shape[-1], 3)
    assert kernel.std() > 0
    # Sums of the width's few terms, float32.
    np.testing.assert_allclose(tagger(IDS), stream @ kernel, atol=1e-5)
    with pytest.raises(ConfigError, match="num_labels = 3: head = 'language_model' has no labels"):
        zoo.load_pretrained(workdir, num_labels=3)
    with pytest.raises(ConfigError, match="head = 'span': architecture = 'decoder' carries"):
        zoo.load_pretrained(workdir, head="span")


def test_tokenizer_lies_beside_the_model(workdir: Path) -> None:
    tokenizer = zoo.load_tokenizer(workdir)
    assert tokenizer.decode(tokenizer.encode(b"def f(x):")) == "def f(x):"


def test_evaluation_of_a_workdir_is_that_of_its_run(workdir: Path, summary: dict[str, Any]) -> None:
    figures = evaluate_workdir(workdir, max_batches=1)
    assert figures["eval_loss"] == pytest.approx(summary["eval_loss"], rel=1e-6)
    assert figures["tokens"] == 4 * 32
    whole = evaluate_workdir(workdir)
    assert whole["tokens"] > 1000
    assert whole["eval_loss"] != figures["eval_loss"]


def test_text_with_more_tokens_than_the_model_knows_is_refused(
    config: TrainConfig, workdir: Path
) -> None:
    values = {"data.tokenizer": "bpe", "data.vocab_size": 300}
    with pytest.raises(zoo.ZooError, match=r"data.tokenizer = 'bpe'.* knows 256"):
        evaluate_workdir(workdir, config=with_values(config, values))


def test_damaged_newest_checkpoint_is_named_and_the_one_before_it_loaded(
    config: TrainConfig, workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (workdir / "checkpoints" / "12" / "checksums.json").unlink()
    before = sorted(workdir.rglob("*"))
    model = zoo.load_pretrained(workdir)
    np.testing.assert_array_equal(logits(model), own_logits(config, workdir, 8))
    assert f"{workdir / 'checkpoints' / '12'} is damaged" in caplog.text
    assert sorted(workdir.rglob("*")) == before


def test_placement_that_is_no_longer_this_one_is_refused(workdir: Path) -> None:
    path = workdir / "config.json"
    content = json.loads(path.read_text())
    content["config"]["model"]["variant"] = "post_norm"
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"variant = 'deep_norm'.*'post_norm'"):
        zoo.load_pretrained(workdir)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no config.json"),
        ("{", "cannot be read"),
        ("{}", "no model_type"),
        ('{"config": {}}', "describes no model"),
        ('{"config": {"model": {"d_modle": 16}}}', "unknown setting model.d_modle"),
    ],
)
def test_folder_that_is_no_workdir_is_refused(
    tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(zoo.ZooError, match=said) as refused:
        zoo.load_pretrained(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_workdir_without_a_checkpoint_is_refused(workdir: Path) -> None:
    for folder in (workdir / "checkpoints").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="no sound checkpoint"):
        zoo.load_pretrained(workdir)


def test_a_tilde_is_the_home_folder_wherever_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = zoo.create_model("decoder-tiny", num_layers=1, d_model=16)
    zoo.save_pretrained(model, "~/kept")
    assert np.array_equal(logits(zoo.load_pretrained("~/kept")), logits(model))
    assert zoo.export("~/kept", "~/again").folder == tmp_path / "again"
    assert TrainConfig(workdir="~/run").workdir == str(tmp_path / "run")
    assert CompareConfig(ledger="~/runs.jsonl").ledger == str(tmp_path / "runs.jsonl")
    assert not (tmp_path / "~").exists()
    with pytest.raises(CheckpointError, match="~/gone: no such folder"):
        zoo.load_pretrained("~/gone")
    with pytest.raises(CheckpointError, match="'': no such folder"):
        zoo.load_pretrained("")
