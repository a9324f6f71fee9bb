"""Checkpoints that are damaged, or lie: a `ZooError`, or just what the folder says."""

from __future__ import annotations

import copy
import functools
import json
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

import zoo
from tests.hf.cases import all_cases, weights
from tests.hf.test_families import golden
from zoo.errors import ZooError
from zoo.hf.families import family_of
from zoo.hf.keys import NEVER_COMPUTES

CASES = tuple(all_cases())
# Families none of whose keys has synonyms or says again what another says.
LITERAL = ("bert_masked_lm", "bert_sequence", "gpt2", "llama", "llama_biased")


class Folder(dict[str, bytes]):
    """Files by name, shown in short."""

    def __repr__(self) -> str:
        config = self.get("config.json", b"").decode(errors="replace")
        return f"{sorted(self)} {config}"


DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "float", "", "F33")

numbers = st.one_of(
    st.integers(-3, 70),
    st.sampled_from((2**31, 2**63, -(2**63), 10**12, 10**40)),
    st.floats(),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5), st.just("gelu")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@functools.cache
def sound(name: str) -> tuple[dict[str, Any], bytes]:
    """(config, safetensors) of a case."""
    stored = golden(name)
    return json.loads(str(stored["config"])), save(weights(json.loads(str(stored["shapes"]))))


def parse(file: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, data) of a sound safetensors file."""
    (size,) = struct.unpack("<Q", file[:8])
    return json.loads(file[8 : 8 + size]), file[8 + size :]


def write(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@st.composite
def configs(draw: st.DrawFn, config: dict[str, Any]) -> bytes:
    """A config.json in which a key or two say something else, or bytes that are none."""
    config = copy.deepcopy(config)
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from(sorted(config)))
        match draw(st.sampled_from(("set", "set", "set", "drop", "rename", "add"))):
            case "set":
                config[key] = draw(values)
            case "drop":
                del config[key]
            case "rename":
                config[key + "x"] = config.pop(key)
            case "add":
                config[draw(st.text(max_size=6))] = draw(values)
    text = json.dumps(config).encode()
    return draw(damaged(text)) if draw(st.integers(0, 9)) == 0 else text


@st.composite
def damaged(draw: st.DrawFn, file: bytes) -> bytes:
    """Cut off, grown, or with other bytes near the front."""
    match draw(st.sampled_from(("cut", "grow", "change"))):
        case "cut":
            return file[: draw(st.integers(0, len(file) - 1))]
        case "grow":
            return file + draw(st.binary(min_size=1, max_size=9))
        case _:
            place = draw(st.integers(0, min(len(file), 4000) - 1))
            return file[:place] + draw(st.binary(min_size=1, max_size=3)) + file[place + 1 :]


@st.composite
def tensors(draw: st.DrawFn, file: bytes) -> bytes:
    """A safetensors file whose header lies about a tensor, or damaged bytes."""
    if draw(st.booleans()):
        return draw(damaged(file))
    header, data = parse(file)
    name = draw(st.sampled_from(sorted(header)))
    entry = header[name]
    match draw(st.sampled_from(("dtype", "shape", "offsets", "drop", "rename", "entry", "twice"))):
        case "dtype":
            entry["dtype"] = draw(st.sampled_from(DTYPES))
        case "shape":
            shape = list(entry["shape"])
            shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(-2, 50))
            entry["shape"] = draw(st.sampled_from((shape, shape[::-1], [*shape, 1], [], [2**62])))
        case "offsets":
            start, end = entry["data_offsets"]
            move = draw(st.integers(-8, 8)) * 4
            entry["data_offsets"] = draw(
                st.sampled_from(([start + move, end + move], [start, end + move], [end, start], []))
            )
        case "drop":
            del header[name]
        case "rename":
            header[draw(st.sampled_from((name + "x", "x." + name, "")))] = header.pop(name)
        case "entry":
            header[name] = draw(values)
        case "twice":
            header[name + ".twin"] = dict(entry)
    return write(header, data)


@st.composite
def folders(draw: st.DrawFn) -> tuple[str, Folder]:
    name = draw(st.sampled_from(LITERAL) | st.sampled_from(CASES))
    config, file = sound(name)
    folder = Folder({"config.json": json.dumps(config).encode(), "model.safetensors": file})
    match draw(st.sampled_from(("config", "config", "tensors", "tensors", "index"))):
        case "config":
            folder["config.json"] = draw(configs(config))
        case "tensors":
            folder["model.safetensors"] = draw(tensors(file))
        case "index":
            shard = draw(st.sampled_from(("a.safetensors", "../a.safetensors", "/a", "", "b.bin")))
            names = draw(st.sampled_from((dict.fromkeys(parse(file)[0], shard), {}, [], shard, 3)))
            index = {"weight_map": names} if draw(st.integers(0, 5)) else names
            folder |= {"a.safetensors": folder.pop("model.safetensors")}
            folder |= {"model.safetensors.index.json": json.dumps(index).encode()}
    return name, folder


@pytest.mark.live
@settings(
    max_examples=2000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(folders())
def test_a_folder_is_refused_or_means_what_it_says(made: tuple[str, Folder]) -> None:
    name, content = made
    place = Path(tempfile.mkdtemp())
    try:
        for file, data in content.items():
            (place / file).write_bytes(data)
        try:
            model = zoo.load_pretrained(place)
        except ZooError:
            return
        check(name, content, model, place / "again")
    finally:
        shutil.rmtree(place)


def check(name: str, content: Folder, model: Any, folder: Path) -> None:
    """Every tensor of the file is in the model, and every key that changed was taken or is free."""
    config = json.loads(content["config.json"])
    family = family_of(config)
    assert zoo.save_pretrained(model, folder, family=family.name) == family.model_type
    before, after = (
        content.get("model.safetensors") or content["a.safetensors"],
        (folder / "model.safetensors").read_bytes(),
    )
    stored = arrays(before)
    for tensor, array in arrays(after).items():
        if tensor in stored:  # else a head that the folder lacks
            np.testing.assert_array_equal(array, stored[tensor], err_msg=tensor)
    written = json.loads((folder / "config.json").read_text())
    free, was = {*NEVER_COMPUTES, *family.ignored_keys}, sound(name)[0]
    for key, value in config.items():
        # null stands for the default of a key, as if it were missing; in an object, so does {}.
        if name in LITERAL and key not in free and value not in (None, {}, was.get(key)):
            assert written.get(key, value) == value, key


def arrays(file: bytes) -> dict[str, np.ndarray]:
    header, data = parse(file)
    kinds = {"F32": np.float32, "F16": np.float16}
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in kinds:
            part = data[slice(*entry["data_offsets"])]
            found[name] = np.frombuffer(part, kinds[entry["dtype"]]).reshape(entry["shape"])
    return found
