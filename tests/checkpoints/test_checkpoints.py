"""What a checkpoint promises on a healthy disk: exactness, retention, refusals."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.checkpoints import FORMAT_VERSION, CheckpointConfig, Checkpoints
from zoo.errors import CheckpointError, ConfigError


def state_of(step):
    """A small tree with every dtype that a train state has; each leaf depends on the step."""
    rng = np.random.default_rng(step)
    return {
        "params": {
            "embed": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
            "blocks": {"q": jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.bfloat16)},
        },
        "opt": {
            "count": jnp.int32(step),
            "key": jnp.asarray(rng.integers(0, 2**32, size=2), jnp.uint32),
            "host": rng.integers(0, 9, size=(3,)).astype(np.int32),
            "ema": jnp.float32(0.1 * step),
        },
    }


def template_of(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


@pytest.mark.parametrize("asynchronous", [True, False])
def test_every_dtype_comes_back_exactly(tmp_path, asynchronous):
    with Checkpoints(tmp_path, asynchronous=asynchronous) as checkpoints:
        checkpoints.save(7, state_of(7), {"tokens": 3, "name": "α", "nested": {"a": [1, None]}})
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert_same(checkpoints.restore(7, template_of(state_of(7))), state_of(7))
        meta = checkpoints.read_meta(7)
    assert meta == {
        "tokens": 3,
        "name": "α",
        "nested": {"a": [1, None]},
        "format_version": FORMAT_VERSION,
    }


def test_any_pytree_comes_back_in_the_structure_of_the_template(tmp_path):
    import optax

    params = {"a": jnp.arange(3.0), "b": jnp.ones((2, 2))}
    state = (params, optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state, {}, wait=True)
        assert_same(checkpoints.restore(0, jax.eval_shape(lambda: state)), state)


def test_one_part_is_restored_alone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {}, wait=True)
        params = state_of(1)["params"]
        assert_same(checkpoints.restore(1, template_of(params), part="params"), params)
        with pytest.raises(CheckpointError, match=r"opt\.count"):
            checkpoints.restore(1, {"params": template_of(params)})


def test_plain_orbax_reads_the_folder(tmp_path):
    import orbax.checkpoint as ocp

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, state_of(4), {"a": 1})
    with ocp.CheckpointManager(tmp_path, item_names=("state", "meta")) as manager:
        assert manager.latest_step() == 4
        restored = manager.restore(
            4,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(template_of(state_of(4))),
                meta=ocp.args.JsonRestore(),
            ),
        )
    assert restored["meta"]["a"] == 1
    assert_same(restored["state"], state_of(4))


def test_buffers_donated_or_overwritten_right_after_save_do_not_reach_the_file(tmp_path):
    @functools.partial(jax.jit, donate_argnums=0)
    def spoil(x):
        return x * 0 - 1

    size = 1_000_000  # large enough that writing is still under way when save returns
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for step in range(3):
            expected = np.arange(size, dtype=np.float32) + step
            on_device, on_host = jnp.array(expected), expected.copy()
            jax.block_until_ready(on_device)
            meta = {"position": [step]}
            checkpoints.save(step, {"device": on_device, "host": on_host}, meta)
            spoiled = spoil(on_device)
            on_host[:] = -1
            meta["position"].append("later")
            del on_device
            jax.block_until_ready(spoil(spoiled))
            checkpoints.wait()
            struct = jax.ShapeDtypeStruct((size,), np.float32)
            restored = checkpoints.restore(step, {"device": struct, "host": struct})
            np.testing.assert_array_equal(restored["device"], expected)
            np.testing.assert_array_equal(restored["host"], expected)
            assert checkpoints.read_meta(step)["position"] == [step]


def test_restored_arrays_can_be_donated(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"a": jnp.arange(1000.0)}, {}, wait=True)
        restored = checkpoints.restore(0, {"a": jax.ShapeDtypeStruct((1000,), jnp.float32)})
    jax.jit(lambda x: x + 1, donate_argnums=0)(restored["a"])
    assert restored["a"].is_deleted()


def test_the_newest_and_the_best_are_kept(tmp_path):
    metrics = [None, 3.0, 1.0, float("nan"), 2.0, 1.5, None]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, metric in enumerate(metrics):
            checkpoints.save(step, {"a": jnp.int32(step)}, {}, metric=metric)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert (checkpoints.best(), checkpoints.latest()) == (2, 6)
    with Checkpoints(tmp_path, keep=2) as checkpoints:  # what is best is remembered on disk
        checkpoints.save(7, {"a": jnp.int32(7)}, {}, metric=0.5, wait=True)
        assert checkpoints.steps() == [6, 7]
    with Checkpoints(tmp_path, keep=1, keep_best=False) as checkpoints:
        checkpoints.save(8, {"a": jnp.int32(8)}, {}, metric=9.0, wait=True)
        assert checkpoints.steps() == [8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8"]


def test_a_step_saved_again_is_replaced(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for value in (1, 2):
            checkpoints.save(5, {"a": jnp.int32(value)}, {"value": value}, wait=True)
            restored = checkpoints.restore(5, {"a": jax.ShapeDtypeStruct((), jnp.int32)})
            assert (int(restored["a"]), checkpoints.read_meta(5)["value"]) == (value, value)
        assert checkpoints.verify(5) == []


def test_reading_waits_for_no_orbax_import(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"a": jnp.int32(1)}, {})
    code = (
        "import sys; from zoo.checkpoints import Checkpoints; c = Checkpoints(sys.argv[1]);"
        "assert c.newest_sound(print) == 3; assert c.read_meta(3); assert c.best() is None;"
        "assert not [m for m in sys.modules if m.startswith('orbax')]"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


def change(tree, path, value):
    """A copy of the nested dict with one leaf replaced, or removed when `value` is None."""
    first, *rest = path
    inner = dict(tree)
    if rest:
        inner[first] = change(tree[first], rest, value)
    elif value is None:
        del inner[first]
    else:
        inner[first] = value
    return inner


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("params", "embed"), jax.ShapeDtypeStruct((5, 4), jnp.float32), ["(5, 3)", "(5, 4)"]),
        (("params", "embed"), jax.ShapeDtypeStruct((3, 5), jnp.float32), ["(5, 3)", "(3, 5)"]),
        (("params", "embed"), jax.ShapeDtypeStruct((5, 3), jnp.bfloat16), ["float32", "bfloat16"]),
        (("opt", "count"), jax.ShapeDtypeStruct((), jnp.float32), ["int32", "float32"]),
        (("opt", "ema"), jax.ShapeDtypeStruct((1,), jnp.float32), ["()", "(1,)"]),
        (("opt", "new"), jax.ShapeDtypeStruct((2,), jnp.float32), ["no tensor"]),
        (("opt", "ema"), None, ["no such tensor"]),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_with_both_values(tmp_path, path, value, words):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {}, wait=True)
        template = change(template_of(state_of(1)), path, value)
        with pytest.raises(CheckpointError) as refused:
            checkpoints.restore(1, template)
    for word in [".".join(path), *words]:
        assert word in str(refused.value)


def test_a_renamed_tensor_is_refused_with_both_names(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {}, wait=True)
        template = template_of(state_of(1))
        template["params"]["embedding"] = template["params"].pop("embed")
        with pytest.raises(CheckpointError, match=r"no tensor params\.embedding.*params\.embed,"):
            checkpoints.restore(1, template)


@pytest.mark.parametrize(
    ("leaf", "word"),
    [(3, "int"), (np.zeros(2, np.int64), "int64"), (jax.random.key(0), "key_data")],
)
def test_a_leaf_that_would_not_come_back_is_refused_at_save(tmp_path, leaf, word):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError, match=rf"opt\.x .*{word}"):
            checkpoints.save(1, {"opt": {"x": leaf}}, {})
        assert checkpoints.steps() == []


def test_a_newer_format_is_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.int32(1)}, {}, wait=True)
        file = tmp_path / "1" / "meta" / "metadata"
        file.write_text(json.dumps({"format_version": FORMAT_VERSION + 1}))
        with pytest.raises(CheckpointError, match=f"format_version = {FORMAT_VERSION + 1}"):
            checkpoints.read_meta(1)


def test_missing_steps_and_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        Checkpoints(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() is None
        assert checkpoints.newest_sound(pytest.fail) is None
        checkpoints.save(2, {"a": jnp.int32(1)}, {}, wait=True)
        with pytest.raises(CheckpointError, match=r"step 9.*it has 2"):
            checkpoints.restore(9, {})
        with pytest.raises(CheckpointError, match=r"step 9.*it has 2"):
            checkpoints.read_meta(9)
    with (
        Checkpoints(tmp_path, read_only=True) as checkpoints,
        pytest.raises(CheckpointError, match="read-only"),
    ):
        checkpoints.save(3, {"a": jnp.int32(1)}, {})


@pytest.mark.parametrize("fields", [{"keep": 0}, {"every": 0}])
def test_impossible_settings_are_refused(tmp_path, fields):
    with pytest.raises(ConfigError, match=f"checkpoint.{next(iter(fields))} = 0"):
        CheckpointConfig(**fields)


ON_DEVICES = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from zoo.checkpoints import Checkpoints
job, folder = sys.argv[1:]
mesh = Mesh(np.array(jax.devices()), ("data",))
rows, copied = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
expected = {"rows": np.arange(48, dtype=np.float32).reshape(16, 3), "same": np.arange(5)}
expected["same"] = expected["same"].astype(np.int32)
layout = {"rows": rows, "same": copied}
with Checkpoints(folder) as checkpoints:
    if job == "save":
        checkpoints.save(1, jax.tree.map(jax.device_put, expected, layout), {})
    else:
        for shardings in (layout, {"rows": None, "same": None}):
            template = {
                name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shardings[name])
                for name, x in expected.items()
            }
            found = checkpoints.restore(1, template)
            for name, x in expected.items():
                np.testing.assert_array_equal(np.asarray(found[name]), x)
            if shardings is layout:
                assert found["rows"].sharding == rows, found["rows"].sharding
                assert found["rows"].addressable_shards[0].data.shape[0] == 16 // len(jax.devices())
            else:
                assert not found["rows"].committed
print("ok", len(jax.devices()))
"""


@pytest.mark.live
@pytest.mark.parametrize(("writer", "reader"), [(8, 1), (1, 8)])
def test_a_checkpoint_moves_between_numbers_of_devices(tmp_path, writer, reader):
    for job, devices in (("save", writer), ("restore", reader)):
        flags = f"--xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            [sys.executable, "-c", ON_DEVICES, job, str(tmp_path)],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout == f"ok {devices}\n", done.stderr
        assert done.stderr == ""  # nothing of Orbax clutters the terminal
