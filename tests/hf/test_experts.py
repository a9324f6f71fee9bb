"""Files with experts: one tensor an expert, or one for all experts of a layer."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.hf.cases import Array
from tests.hf.test_families import write
from zoo.errors import CheckpointError
from zoo.layers import weight


def fuse(folder: Path, gate: str, up: str, down: str) -> None:
    """Rewrite a checkpoint as transformers 5 holds it in memory."""
    tensors = load_file(folder / "model.safetensors")
    made: dict[str, Array] = {}
    apart: dict[tuple[str, str], dict[int, Array]] = {}
    for name, array in tensors.items():
        found = re.fullmatch(r"(.*)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight", name)
        if found is None:
            made[name.replace("block_sparse_moe", "mlp")] = array
            continue
        block, expert, matrix = found.groups()
        apart.setdefault((block, matrix), {})[int(expert)] = array
    for block in {block for block, _ in apart}:
        gates, ups, downs = (
            np.stack([own[expert] for expert in sorted(own)])
            for own in (apart[block, matrix] for matrix in (gate, up, down))
        )
        made[f"{block}.mlp.experts.gate_up_proj"] = np.concatenate([gates, ups], axis=1)
        made[f"{block}.mlp.experts.down_proj"] = downs
    save_file(made, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("mixtral", ("w1", "w3", "w2")),
        ("qwen3_moe", ("gate_proj", "up_proj", "down_proj")),
    ],
)
def test_experts_in_one_tensor_are_the_same_model(
    case: str, names: tuple[str, str, str], tmp_path: Path
) -> None:
    write(case, tmp_path)
    single, _ = weight.split(zoo.load_pretrained(tmp_path))
    before = load_file(tmp_path / "model.safetensors")
    fuse(tmp_path, *names)
    assert len(load_file(tmp_path / "model.safetensors")) < len(before)
    model = zoo.load_pretrained(tmp_path)
    fused, _ = weight.split(model)
    jax.tree.map(np.testing.assert_array_equal, single, fused)
    # And they are written as published checkpoints have them.
    zoo.save_pretrained(model, tmp_path / "again")
    after = load_file(tmp_path / "again" / "model.safetensors")
    assert after.keys() == before.keys()


def test_an_expert_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write("mixtral", tmp_path)
    before = load_file(tmp_path / "model.safetensors")
    fuse(tmp_path, "w1", "w3", "w2")
    both = load_file(tmp_path / "model.safetensors") | before
    save_file(
        {k: v.astype(ml_dtypes.bfloat16) for k, v in both.items()}, tmp_path / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match="the checkpoint holds"):
        zoo.load_pretrained(tmp_path)


def test_layers_without_experts_are_refused_by_name(tmp_path: Path) -> None:
    write("qwen3_moe", tmp_path)
    file = tmp_path / "config.json"
    for said, named in (
        ('"mlp_only_layers": [1]', "mlp_only_layers"),
        ('"decoder_sparse_step": 2', "decoder_sparse_step"),
    ):
        original = file.read_text()
        file.write_text(re.sub(rf'"{named}": (\[\]|\d+)', said, original))
        with pytest.raises(CheckpointError, match=f"{named} = "):
            zoo.load_pretrained(tmp_path)
        file.write_text(original)
