"""Every family against what transformers computed, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.hf.cases import NEW_TOKENS, Case, all_cases, inputs, prompt, weights
from zoo.hf.families import families, family_of
from zoo.models.config import ModelConfig
from zoo.models.resolve import resolve

CASES = all_cases()
GOLDENS = Path(__file__).parent / "goldens"
# The bound for logits of order 1 in float32, whose own noise over two layers is some 1e-6.
TOLERANCE = 2e-5


def golden(name: str) -> dict[str, Any]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def write(name: str, folder: Path) -> dict[str, Any]:
    """The checkpoint of a case as transformers would write it; returns its golden."""
    stored = golden(name)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(str(stored["config"]))
    if CASES[name].generation:
        (folder / "generation_config.json").write_text(json.dumps(CASES[name].generation))
    save_file(weights(json.loads(str(stored["shapes"]))), folder / "model.safetensors")
    return stored


def call(model: Any, case: Case) -> np.ndarray[Any, Any]:
    return np.asarray(model(**{name: jnp.asarray(a) for name, a in inputs(case).items()}))


def kept(case: Case, output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What stands at real tokens; of one vector a row, all."""
    mask = inputs(case).get("decoder_attention_mask", inputs(case).get("attention_mask"))
    return output if output.ndim < 3 or mask is None else output[mask == 1]


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_computes_what_transformers_computed(name: str, tmp_path: Path) -> None:
    case, stored = CASES[name], write(name, tmp_path / "theirs")
    model = zoo.load_pretrained(tmp_path / "theirs")
    ours, theirs = kept(case, call(model, case)), kept(case, stored["output"])
    assert np.abs(theirs).max() > 0.1, "a golden that says nothing"
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
    if case.generates:
        given = prompt(case)
        tokens = zoo.generate(
            model,
            jnp.asarray(given["input_ids"]),
            jnp.asarray(given["attention_mask"]),
            max_new_tokens=NEW_TOKENS,
            eos_id=(),
        )
        np.testing.assert_array_equal(np.asarray(tokens), stored["tokens"])
    # And back: the same tensors, bit for bit, under a config that reads as the same.
    assert (
        zoo.save_pretrained(model, tmp_path / "ours")
        == json.loads(str(stored["config"]))["model_type"]
    )
    before = load_file(tmp_path / "theirs" / "model.safetensors")
    after = load_file(tmp_path / "ours" / "model.safetensors")
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    family = family_of(written)
    # An untied head leaves what it is tied to otherwise without a use; some tensors have none.
    left = {name.removeprefix(family.prefix) for name in before.keys() - after.keys()}
    assert after.keys() <= before.keys()
    tied = set() if written.get("tie_word_embeddings") else set(family.tied.values())
    assert left <= {*tied, *family.ignored}
    for tensor in after:
        np.testing.assert_array_equal(after[tensor], before[tensor], err_msg=tensor)
    original = json.loads(str(stored["config"]))
    trunks = [ModelConfig(**family.read(said), head="none") for said in (written, original)]
    assert resolve(trunks[0]) == resolve(trunks[1])


def test_every_family_has_a_case() -> None:
    covered = {family_of(json.loads(str(golden(name)["config"]))).name for name in CASES}
    assert covered == set(families())
