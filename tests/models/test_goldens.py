"""Our models give what reference implementations gave on the same weights (scripts/goldens.py).

The references ran in float64, some with norms in float32, so the tolerance is for rounding alone.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.checkpoints.pretrained import model_config
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.resolve import place
from zoo.models.transformer import declare
from zoo.variants.placement import Placement, Site
from zoo.variants.registry import get_variant

FOLDER = Path(__file__).resolve().parents[1] / "goldens"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))
# A few dozen float32 operations deep, each some 1e-7 of the scale; a wrong norm is above 1e-2.
TOLERANCE, WRONG = 2e-5, 1e-2
Arrays = dict[str, np.ndarray]

# Each norm moves into the next slot, and what multiplied the branch multiplies the skip:
# another placement with the same arrays.
MOVED = {
    "norm_in": "norm_out",
    "norm_out": "norm_branch",
    "norm_branch": "norm_in",
    "skip": "branch",
    "branch": "skip",
}


@dataclasses.dataclass(frozen=True)
class Golden:
    config: ModelConfig
    params: Arrays
    inputs: Arrays
    outputs: Arrays


def load(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}

    def of(kind: str) -> Arrays:
        return {key.removeprefix(kind): arrays[key] for key in arrays if key.startswith(kind)}

    config = model_config(json.loads(str(arrays["config"])), FOLDER / name, None)
    return Golden(config, of("param:"), of("input:"), of("output:"))


def run(golden: Golden, params: Arrays, placement: Placement) -> Arrays:
    model = declare(golden.config, placement)
    shapes, _ = weight.split(model)
    paths, treedef = jax.tree_util.tree_flatten_with_path(shapes)
    names = ["/".join(key.key for key in path) for path, _ in paths]
    assert set(names) == set(params)
    assert all(
        params[name].shape == leaf.shape for name, (_, leaf) in zip(names, paths, strict=True)
    )
    tree = jax.tree.unflatten(treedef, [jnp.asarray(params[name]) for name in names])

    @jax.jit
    def forward(params: Any, inputs: Any) -> Any:
        bound = weight.bind(model, params)
        hidden = bound.hidden(**inputs)
        outputs = {"hidden": hidden, "logits": bound.logits(hidden)}
        return {name: outputs[name] for name in golden.outputs}

    return {name: np.asarray(array) for name, array in forward(tree, golden.inputs).items()}


def errors(got: Arrays, want: Arrays) -> dict[str, float]:
    """Largest difference as a share of the largest value, by output."""
    return {name: np.abs(got[name] - want[name]).max() / np.abs(want[name]).max() for name in want}


@pytest.mark.parametrize("name", NAMES)
def test_model_is_the_reference_on_its_weights(name: str) -> None:
    golden = load(name)
    found = errors(run(golden, golden.params, place(golden.config)), golden.outputs)
    assert found, "a golden holds outputs"
    assert max(found.values()) < TOLERANCE, found


# What differs from a golden's variant in its constants alone, and has the same tree.
SAME_TREE = {
    "deep_norm_decoder": "post_norm",
    "deep_norm_encoder_decoder": "deep_norm(p=0.5)",
    "minimax_post_norm_minimax": "minimax_post_norm(attention=(2.0, 0.6), mlp=(2.0, 0.6))",
    "scaled_residual_granite": "pre_norm",
    "variance_gate_muse_spark": "variance_gate(temperature=1.0)",
    "residual_dual_decoder": "residual_dual(input_scale=0.5, kappa=0.5)",
}


@pytest.mark.parametrize(("name", "variant"), SAME_TREE.items())
def test_a_variant_with_the_same_tree_is_another_model(name: str, variant: str) -> None:
    golden = load(name)
    other = place(dataclasses.replace(golden.config, variant=variant))
    found = errors(run(golden, golden.params, other), golden.outputs)
    assert min(found.values()) > WRONG, found


def turn(path: str, array: np.ndarray) -> np.ndarray:
    """Swap from and to in what mixes the 3 streams; in mHC it is the last 9 of all outputs."""
    if path.endswith("mixing/carry"):
        return array.swapaxes(-1, -2)
    if path.endswith(("mapping/kernel", "mapping/base")):
        mixture = array[..., 6:].reshape(*array.shape[:-1], 3, 3).swapaxes(-1, -2)
        return np.concatenate([array[..., :6], mixture.reshape(*array.shape[:-1], 9)], axis=-1)
    return array


@pytest.mark.parametrize("name", ["hyper_connections_decoder", "mhc_deepseek_v4"])
def test_streams_mixed_the_other_way_are_another_model(name: str) -> None:
    golden = load(name)
    params = {path: turn(path, array) for path, array in golden.params.items()}
    found = errors(run(golden, params, place(golden.config)), golden.outputs)
    assert min(found.values()) > WRONG, found


def move(site: Site) -> Site:
    return dataclasses.replace(site, **{to: getattr(site, role) for role, to in MOVED.items()})


def move_path(path: str) -> str:
    """A path names a slot right below `residual`, and nowhere else."""
    before, residual, after = path.partition("/residual/")
    role, slash, name = after.partition("/")
    return f"{before}{residual}{MOVED.get(role, role)}{slash}{name}"


PLAIN = [name for name in NAMES if get_variant(load(name).config.variant).stream == "plain"]


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_weights_one_slot_further_are_another_model(name: str) -> None:
    golden = load(name)
    placement = place(golden.config)
    stacks = tuple(
        (stack, dataclasses.replace(own, layers=tuple(tuple(map(move, la)) for la in own.layers)))
        for stack, own in placement.stacks
    )
    params = {move_path(path): array for path, array in golden.params.items()}
    got = run(golden, params, dataclasses.replace(placement, stacks=stacks))
    found = errors(got, golden.outputs)
    assert min(found.values()) > WRONG, found
