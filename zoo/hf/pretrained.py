"""Loading and writing checkpoints: a folder of the Hugging Face library, or one of ours."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo.checkpoints import pretrained as runs
from zoo.decoding import defaults as generation_defaults
from zoo.errors import CheckpointError, ConfigError, choices
from zoo.hf import own, sentence
from zoo.hf.families import family_of
from zoo.hf.family import Family, class_head
from zoo.hf.files import GENERATION_FILE, is_workdir, locate, read_json, weight_files
from zoo.hf.tensors import Tensors, by_expert, open_tensors
from zoo.hf.weights import Map, Slot, load, slots
from zoo.layers import weight
from zoo.layers.positions import sinusoidal
from zoo.models.config import Head, ModelConfig
from zoo.models.init import initial_params
from zoo.models.resolve import resolve
from zoo.models.tower import Origin, Transformer
from zoo.models.transformer import declare

_LOG = logging.getLogger(__name__)


def load_pretrained(
    folder: str | Path,
    *,
    head: Head | Literal["auto"] = "auto",
    num_labels: int | None = None,
    dtype: str = "float32",
    sharding: Any = None,
    step: int | None = None,
    ignore: tuple[str, ...] = (),
) -> Transformer:
    """A model with trained weights.

    Args:
        folder: a checkpoint of the Hugging Face library (`config.json` with `model.safetensors`,
            its shards, or `flax_model.msgpack`), one that `save_pretrained` wrote, or a workdir of
            `zoo train` (its newest sound checkpoint unless `step` is given); a folder, a file://,
            gs:// or s3:// URL, or a repo id of the hub.
        head: what stands on the stack; `auto`: what the checkpoint has (in a folder of
            sentence-transformers `sentence_embedding`). A head that is asked for by name is drawn
            (with seed 0) where the checkpoint has none of its kind; what is new and what is left
            out is said in a warning.
        num_labels: classes of a classification head; default: as in the checkpoint.
        dtype: compute dtype of the model; its parameters are float32 whatever the file holds.
        sharding: a `jax.sharding.Sharding` for every parameter; default: the default device.
        ignore: keys of `config.json` that are not known here and change nothing.

    Raises:
        CheckpointError: when the checkpoint is missing or damaged, when its `config.json` asks for
            what is not supported, or its tensors do not fit it.
        ConfigError: on a head that the architecture does not carry, or labels that it has not.
    """
    local = locate(folder)
    config = read_json(local / "config.json")
    if is_workdir(config):
        return runs.load_pretrained(
            local, step=step, head=head, num_labels=num_labels, dtype=dtype, sharding=sharding
        )
    if dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype = {dtype!r}; use float32 or bfloat16")
    if step is not None:
        raise ConfigError(f"step = {step}: {folder} is no workdir of zoo train; leave it out")
    if config.get("model_type") == own.MODEL_TYPE:
        model = own.load(local, config, head, num_labels, dtype, sharding)
        model.generation = _generation(local, config)
        return model
    if "model_type" not in config:
        raise CheckpointError(
            f"{local / 'config.json'} has no model_type, which checkpoints of transformers have, "
            "and no config, which workdirs of zoo train have"
        )
    family = family_of(config)
    named = _named(family, open_tensors(weight_files(local)))
    settings = _settings(family, config, local, named, head, num_labels, ignore)
    model = declare(ModelConfig(**settings | {"dtype": dtype}))
    explicit = head != "auto" or num_labels is not None
    return _loaded(family, config, local, model, named, sharding, 0 if explicit else None)


def read_config(source: str | Path, head: Head | Literal["auto"] = "auto") -> ModelConfig:
    """What `load_pretrained` makes a model of, resolved; no weight is read.

    Raises:
        CheckpointError, ConfigError: as `load_pretrained`.
    """
    local = locate(source)
    config = read_json(local / "config.json")
    if is_workdir(config) or config.get("model_type") == own.MODEL_TYPE:
        saved = (runs.read_config(local) if is_workdir(config) else config).get("model")
        made = runs.model_config(saved, local / "config.json", None)
        return made if head == "auto" else dataclasses.replace(made, head=head)
    family = family_of(config)
    named = _named(family, open_tensors(weight_files(local)))
    return resolve(ModelConfig(**_settings(family, config, local, named, head, None, ())))


def load_into(
    config: ModelConfig,
    source: str | Path,
    *,
    step: int | None = None,
    seed: int = 0,
    sharding: Any = None,
) -> Transformer:
    """A model of `config` with the weights of a checkpoint.

    Args:
        config: that of the checkpoint (`read_config`), with other ends or other settings that are
            no part of its weights. What it has and the checkpoint lacks is drawn, and said in a
            warning.
        step: of a workdir of ours, whose schedules are kept as they were trained with.
        seed: of the draws.

    Raises:
        CheckpointError: as `load_pretrained`, and on weights that do not fit `config`.
    """
    local = locate(source)
    saved = read_json(local / "config.json")
    if is_workdir(saved):
        model, _ = runs.load_run(local, step=step, sharding=sharding)
        return runs.with_ends(model, config, seed, sharding)
    if step is not None:
        raise ConfigError(f"step = {step}: {source} is no workdir of zoo train; leave it out")
    if saved.get("model_type") == own.MODEL_TYPE:
        model = own.load(local, saved, "auto", None, config.dtype, sharding)
        return runs.with_ends(model, config, seed, sharding)
    family = family_of(saved)
    named = _named(family, open_tensors(weight_files(local)))
    return _loaded(family, saved, local, declare(config), named, sharding, seed)


def _settings(
    family: Family,
    config: dict[str, Any],
    folder: Path,
    tensors: Tensors,
    asked: Head | Literal["auto"],
    num_labels: int | None,
    ignore: tuple[str, ...],
) -> dict[str, Any]:
    """The fields of `ModelConfig` that a folder tells."""
    head = _head(family, config, folder) if asked == "auto" else asked
    settings = family.read(config, head=head, ignore=ignore)
    if head == "sentence_embedding":
        settings |= sentence.read(folder)
    settings |= family.told(head, tensors.shapes)
    if settings.get("decoder_start_id", 0) is None:
        settings["decoder_start_id"] = _generation_settings(folder, config).get("bos_token_id")
    return settings | _labels(config, head, num_labels) | {"head": head}


def _loaded(
    family: Family,
    config: dict[str, Any],
    folder: Path,
    model: Transformer,
    tensors: Tensors,
    sharding: Any,
    seed: int | None,
) -> Transformer:
    """A declared model with the weights of a folder."""
    heads = family.named_heads(config)
    another = bool(heads) and class_head(model.config) not in heads
    params = _parameters(family, model, tensors, sharding, seed, another=another)
    bound = weight.bind(model, params)
    bound.origin = Origin(family.name, str(folder), _carried(family, config))
    bound.generation = _generation(folder, config)
    return bound


def _generation(folder: Path, config: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return generation_defaults.kept(_generation_settings(folder, config))


def _generation_settings(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Of a file of their own, or of `config.json` where there is none."""
    file = folder / GENERATION_FILE
    return read_json(file) if file.is_file() else config


def _head(family: Family, config: dict[str, Any], folder: Path) -> Head:
    own = family.head(config)
    # Many such folders name the class that their trunk was trained with before.
    trunk = own in ("none", "masked_lm")
    return "sentence_embedding" if trunk and sentence.is_sentence_encoder(folder) else own


def _labels(config: dict[str, Any], head: Head, num_labels: int | None) -> dict[str, Any]:
    runs.check_labels(head, num_labels)
    if not head.endswith("_classification"):
        return {}
    names = config.get("id2label") or {}
    if not isinstance(names, dict):
        raise CheckpointError(f"config.json: id2label = {names!r}; use an object of names")
    # As there, an older file's count goes before names that may be those of another head.
    return {"num_labels": num_labels or config.get("num_labels") or len(names) or 2}


def _carried(family: Family, config: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Keys that no entry of the family reads, as JSON, for an export to hand on."""
    read = {name for entry in family.keys for name in entry.defaults()}
    # The labels' names count them; a count of its own would be the old one under another head.
    left = {"architectures", "transformers_version", "torch_dtype", "dtype", "auto_map"}
    left |= {"num_labels"}
    kept = {name: value for name, value in config.items() if name not in read | left}
    return tuple((name, json.dumps(value)) for name, value in kept.items())


def _named(family: Family, tensors: Tensors) -> Tensors:
    """The same tensors under the names of the family's map: modern, the trunk without prefix."""
    theirs: dict[str, str] = {}
    for name in tensors.shapes:
        modern = name
        for old, new in family.renamed:
            if modern.endswith(old):
                modern = modern.removesuffix(old) + new
        modern = modern.removeprefix(family.prefix)
        if modern in theirs:
            raise CheckpointError(
                f"the checkpoint holds {name} and {theirs[modern]}: both mean {modern}"
            )
        theirs[modern] = name
    shapes = {modern: tensors.shapes[name] for modern, name in theirs.items()}
    renamed = Tensors(shapes, lambda modern: tensors.read(theirs[modern]))
    return by_expert(renamed, family.fused) if family.fused else renamed


def _parameters(
    family: Family,
    model: Transformer,
    tensors: Tensors,
    sharding: Any,
    seed: int | None,
    *,
    another: bool,
) -> dict[str, Any]:
    """The model's parameters: the file's, and with a seed new ones for a head that it lacks.

    Args:
        another: whether the class that wrote the file has another head than the model.
    """
    config = model.config
    shapes, weights = weight.split(model)
    found = slots(shapes, weights, _tied_names(family, family.names(config), tensors))
    unmapped = [slot.place for slot in found if slot.tensor is None and not _of_head(slot)]
    if unmapped:
        raise CheckpointError(
            f"family {family.name} has no place for {choices(unmapped[:5])} of this model"
        )
    new = [] if seed is None else _new_head(found, tensors, another=another)
    if new:
        _LOG.warning("new, drawn with seed %d: %s", seed, ", ".join(slot.place for slot in new))
    kept = [slot for slot in found if slot not in new]
    params, used = load(kept, tensors, config, sharding)
    _account(family, model, tensors, used)
    if new:
        drawn = initial_params(
            _tree(new, shapes),
            _tree(new, weights),
            config,
            model.placement,
            jax.random.key(seed or 0),
        )
        params |= flatten_dict(jax.device_put(drawn, sharding))
    return unflatten_dict(params)


def _of_head(slot: Slot) -> bool:
    return slot.path[0] in ("head", "pooler")


def _new_head(found: list[Slot], tensors: Tensors, *, another: bool) -> list[Slot]:
    """The head's weights when the checkpoint has none of them or has them for other labels; of
    another head's, which may be called the same, it must have all."""
    head = [slot for slot in found if _of_head(slot)]
    parts = {room: [slot for slot in head if slot.path[0] == room] for room in ("head", "pooler")}
    new = []
    for group in parts.values():
        known = [slot.tensor is not None and slot.name() in tensors.shapes for slot in group]
        lacks = not all(known) if another else not any(known)
        if lacks or any(_other_labels(slot, tensors) for slot in group):
            new += group
    return new


def _other_labels(slot: Slot, tensors: Tensors) -> bool:
    if slot.tensor is None or "labels" not in slot.weight.axes:
        return False
    theirs = tensors.shapes.get(slot.name())
    return theirs is not None and theirs[0] != slot.shape[-1]


def _tied_names(family: Family, names: Map, tensors: Tensors) -> Map:
    """The map with a tied tensor's other name where the file holds it under that alone."""

    def there(place: str, name: str) -> str:
        others = [alias for alias in family.tied if name in _tied_to(family, alias)]
        # A head of its own is never the embedding.
        others += [] if place.startswith("head") else _tied_to(family, name)
        return next((each for each in (name, *others) if each in tensors.shapes), name)

    return {
        place: dataclasses.replace(each, name=there(place, each.name))
        for place, each in names.items()
    }


def _tied_to(family: Family, name: str) -> list[str]:
    """The names of the tensors that one is again, the nearest first."""
    found = []
    while name in family.tied:
        name = family.tied[name]
        found.append(name)
    return found


def _used_for(family: Family, name: str, used: set[str]) -> str | None:
    """The tensor that was used and that another one, which was not, is again."""
    above = _tied_to(family, name)
    root = above[-1] if above else name
    kin = sorted(each for each in used if root in (each, *_tied_to(family, each)))
    return next((each for each in (*above, *kin) if each in used), None)


def _account(family: Family, model: Transformer, tensors: Tensors, used: set[str]) -> None:
    """Refuse a tensor that is neither used nor known to be none of the model's weights."""
    heads = {each.name for names in family.heads.values() for each in names.values()}
    heads |= {each.tensor for each in family.by_tensor}
    tied = model.config.tie_embeddings
    same = tied or model.config.shares_embeddings()
    dropped, unknown = [], []
    for name in sorted(tensors.shapes.keys() - used):
        of_head = name in heads or any(name.startswith(_root(each)) for each in heads)
        main = _used_for(family, name, used)
        if main is not None and (tied or not of_head or name not in family.tied):
            if same and not np.array_equal(tensors.read(name), tensors.read(main)):
                raise CheckpointError(
                    f"{name} differs from {main}, which config.json ties to it; set "
                    "tie_word_embeddings to false in config.json if they are meant to differ"
                )
        elif name in family.sines:
            _check_sines(name, tensors, model.config)
        elif any(_matches(name, pattern) for pattern in family.ignored):
            continue
        elif of_head:
            dropped.append(name)
        else:
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise CheckpointError(
            f"the checkpoint holds {choices(unknown[:5])}{more}, for which a {family.name} of this "
            "config.json has no place"
        )
    if dropped:
        _LOG.warning("left out, not of head = %s: %s", model.config.head, ", ".join(dropped))


def _check_sines(name: str, tensors: Tensors, config: ModelConfig) -> None:
    """Refuse a table that is not the one that is computed."""
    rows, *rest = tensors.shapes[name] or (0,)
    width, kind = config.d_model, config.positions
    if kind == "rotary":
        # Of the angles that heads are turned by.
        width, kind = config.rotary_width(), "sinusoidal_halves"
    if rest == [width]:
        first = config.position_offset
        sines = sinusoidal(jnp.arange(first, rows)[None], width, kind)[0]
        # As far as a file of 16 bits may round; no token stands before the first.
        if np.allclose(tensors.read(name)[first:], sines, atol=4e-3):
            return
    raise CheckpointError(
        f"{name} does not hold the sines of positions 0, 1, ... that a {kind} table of "
        f"width {width} has"
    )


def _root(name: str) -> str:
    """`cls.` of `cls.predictions.bias`: what belongs to a head, known by name or not."""
    return name.split(".")[0] + "."


def _matches(name: str, pattern: str) -> bool:
    if pattern.endswith("."):
        return name.startswith(pattern)
    return re.fullmatch(re.escape(pattern).replace(r"\{\}", r"\d+"), name) is not None


def _tree(chosen: list[Slot], tree: dict[str, Any]) -> dict[str, Any]:
    """A nested dict with some leaves of another."""
    flat = flatten_dict(tree)
    return unflatten_dict({slot.path: flat[slot.path] for slot in chosen})
