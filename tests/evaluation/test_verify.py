"""`zoo verify`: two checkpoints side by side. Against transformers itself: tests/parity."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.hf.test_families import write
from zoo.cli import main
from zoo.data.tokenizers import ByteTokenizer
from zoo.errors import CheckpointError, ConfigError
from zoo.evaluation.verify import verify


def changed(folder: Path, to: Path, tensor: str, by: float) -> Path:
    """A copy of a checkpoint in which one tensor has moved."""
    to.mkdir()
    (to / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    noise = np.random.default_rng(0).normal(size=tensors[tensor].shape)
    tensors[tensor] = (tensors[tensor] + by * noise).astype(np.float32)
    save_file(tensors, to / "model.safetensors")
    return to


def test_a_checkpoint_agrees_with_itself(tmp_path: Path) -> None:
    write("gpt2", tmp_path / "a")
    found = verify(tmp_path / "a", tmp_path / "a", new_tokens=6)
    assert found.passed
    assert (found.max_abs_error, found.kl, found.first_difference) == (0.0, 0.0, "none")
    assert found.greedy == (6, 6, 6)
    assert [error for _, error in found.layers] == [0.0, 0.0]


def test_the_first_layer_that_differs_is_named(tmp_path: Path) -> None:
    write("gpt2", tmp_path / "a")
    other = changed(tmp_path / "a", tmp_path / "b", "transformer.h.1.mlp.c_fc.weight", 0.1)
    found = verify(tmp_path / "a", other, new_tokens=2)
    assert not found.passed
    assert found.first_difference.startswith("2 of 2")
    assert found.kl is not None
    assert found.kl > 0.0
    assert "they DIFFER" in str(found)


def test_the_error_is_that_of_the_logits_of_real_tokens(tmp_path: Path) -> None:
    write("bert_masked_lm", tmp_path / "a")
    # A bias on one word moves that word's logit at every token, and nothing else.
    other = changed(tmp_path / "a", tmp_path / "b", "cls.predictions.bias", 0.0)
    tensors = load_file(other / "model.safetensors")
    tensors["cls.predictions.bias"][7] += 0.5
    save_file(tensors, other / "model.safetensors")
    found = verify(tmp_path / "a", other)
    assert found.max_abs_error == pytest.approx(0.5, abs=1e-5)
    assert found.mean_abs_error == pytest.approx(0.5 / 48, abs=1e-5)
    assert found.first_difference == "none"
    assert found.greedy is None
    # KL of two softmaxes that differ in one logit: log(1 + p (e^d - 1)) - p d, here of p's mean.
    assert 0.0 < found.kl < 0.5  # type: ignore[operator]


def test_the_folders_tokenizer_makes_the_batch(tmp_path: Path) -> None:
    model = zoo.create_model("decoder-tiny", num_layers=1, d_model=16, rngs=0)
    zoo.save_pretrained(model, tmp_path / "a")
    assert "drawn tokens" in verify(tmp_path / "a", tmp_path / "a", new_tokens=1).inputs
    ByteTokenizer().save(tmp_path / "a")
    assert "48, 48, 27 tokens" in verify(tmp_path / "a", tmp_path / "a", new_tokens=1).inputs


@pytest.mark.parametrize("preset", ["encoder-decoder-tiny", "vision-tiny"])
def test_every_architecture_can_be_compared(preset: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        model = zoo.create_model(preset, num_layers=2, d_model=16, rngs=seed)
        zoo.save_pretrained(model, tmp_path / str(seed))
    assert verify(tmp_path / "0", tmp_path / "0", new_tokens=2).passed
    assert not verify(tmp_path / "0", tmp_path / "1", new_tokens=2).passed


def test_models_of_other_inputs_are_refused(tmp_path: Path) -> None:
    for name in ("gpt2", "bert"):
        write(name, tmp_path / name)
    with pytest.raises(CheckpointError, match="architecture is 'decoder' and 'encoder'"):
        verify(tmp_path / "gpt2", tmp_path / "bert")


def test_what_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    write("gpt2", tmp_path)
    with pytest.raises(ConfigError, match=r"pip install 'postnorm-zoo\[parity\]'"):
        verify(tmp_path)


def test_our_own_format_needs_another_checkpoint(tmp_path: Path) -> None:
    zoo.save_pretrained(
        zoo.create_model("decoder-tiny", variant="deep_norm", num_layers=1, d_model=16, rngs=0),
        tmp_path / "a",
        family="postnorm_zoo",
    )
    with pytest.raises(CheckpointError, match="--against"):
        verify(tmp_path / "a")


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["verify", *words])
        assert isinstance(stop.value.code, int)
        return stop.value.code

    write("gpt2_body", tmp_path / "a")
    other = changed(tmp_path / "a", tmp_path / "b", "h.0.mlp.c_fc.weight", 0.1)
    first, second = str(tmp_path / "a"), str(other)
    assert run("--from", first, "--against", first, "--json") == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert run("--from", first, "--against", second) == 1
    assert run("--from", first, "--against", second, "--tolerance", "100") == 0
    assert run("--from", "nowhere", "--against", first) == 2
    assert run("--from", first, "--against", first, "--tolerance", "-1") == 2
