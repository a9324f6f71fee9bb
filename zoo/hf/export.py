"""Writing a model as a checkpoint: for the Hugging Face library, or in our own format."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import LABELS_FILE
from zoo.errors import CheckpointError, ZooError, choices
from zoo.hf import own, sentence
from zoo.hf.families import families, possible
from zoo.hf.family import Family, class_head
from zoo.hf.files import CARRIED, is_workdir, read_json
from zoo.hf.keys import CannotExpress, Settings
from zoo.hf.weights import save, slots
from zoo.layers import weight
from zoo.models.config import HOW_COMPUTED, ModelConfig
from zoo.models.resolve import place, resolve
from zoo.models.tower import Transformer
from zoo.variants.placement import NormSlot, Placement, Site, StackPlacement

# A text has none.
_OF_IMAGES = ("image_size", "patch_size", "num_channels")
# What names the labels of a classifier.
_LABELS = ("id2label", "label2id")
_SHARD_BYTES = 5 * 10**9
# Tried before the others: of several families that can say a model, what most libraries read.
_USUAL = ("bert", "gpt2", "llama", "bart", "t5", "vit")


@dataclasses.dataclass(frozen=True)
class Translation:
    """A model in the words of a family, or in ours.

    Attributes:
        config: what `config.json` says.
        tensors: (name, array) of what the safetensors hold, to be gone through once.
        declined: family -> what it has no words for, of those that were tried before.
    """

    config: dict[str, Any]
    tensors: Iterator[tuple[str, np.ndarray[Any, Any]]]
    declined: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The `model_type`."""
        return str(self.config["model_type"])


def save_pretrained(
    model: Transformer,
    folder: str | Path,
    *,
    family: str | None = None,
    shard_bytes: int = _SHARD_BYTES,
) -> str:
    """Write `config.json` and safetensors (float32), so that all of it is there or nothing.

    Args:
        model: with what it was loaded from, its labels' names and its tokenizer's files go along;
            of a workdir the weights alone: `zoo.export` writes its tokenizer and a model card too.
        folder: is made; one that is there must hold a checkpoint or nothing, and is replaced. Not
            the working folder.
        family: `model_type` to write, or `postnorm_zoo` for our own format; default: the family
            that the model came from if that still expresses it, else the best known that does, else
            our own.
        shard_bytes: most bytes of one file, unless a single tensor has more.

    Returns:
        The `model_type` that was written.

    Raises:
        CheckpointError: when the family cannot express the model, naming the setting; or when the
            folder cannot be written.
    """
    translation = translate(model, family)
    write(translation, model, folder, shard_bytes=shard_bytes)
    return translation.name


def write(
    translation: Translation,
    model: Transformer,
    folder: str | Path,
    *,
    files: Mapping[str, bytes] | None = None,
    shard_bytes: int = _SHARD_BYTES,
) -> None:
    """Make a folder of a translated model, as `save_pretrained` says.

    Args:
        files: more of them by name, before what came along with the model.
    """
    # Whole and without links: `.` has no parent to write in beside it.
    target = Path(folder).expanduser().resolve()
    if target.exists() and not _replaceable(target):
        raise CheckpointError(
            f"{target} holds something else than a checkpoint; use a new or an empty folder"
        )
    if Path.cwd().is_relative_to(target):
        raise CheckpointError(
            f"{target} would be replaced while it is the working folder, or holds it; name "
            "another folder, or run this from elsewhere"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error
    config = translation.config
    try:
        _write_tensors(translation.tensors, beside, shard_bytes)
        (beside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if model.config.head == "sentence_embedding" and translation.name != own.MODEL_TYPE:
            sentence.write(model.config, beside)
        _carry(model, beside)
        for name, content in (files or {}).items():
            (beside / name).write_bytes(content)
        os.chmod(beside, 0o755)  # a temporary folder is for its owner alone
        _put_in_place(beside, target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put_in_place(fresh: Path, target: Path) -> None:
    """Rename `fresh` to `target`; what is there is deleted only once the new folder stands."""
    old = fresh.with_name(f"{fresh.name}-replaced")
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if replaced:
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    """Whether a folder is empty or a checkpoint; a workdir holds more than a checkpoint."""
    if not folder.is_dir():
        return False
    config = folder / "config.json"
    return not any(folder.iterdir()) or (config.is_file() and not is_workdir(read_json(config)))


def translate(model: Transformer, name: str | None = None) -> Translation:
    """A model in the words of a family, or in ours; `name` as `family` of `save_pretrained`.

    Raises:
        CheckpointError: when the family is not known or cannot express the model.
    """
    known = families()
    if name not in (None, own.MODEL_TYPE, *known):
        raise CheckpointError(
            f"family = {name!r} is not known; use {choices([*known, own.MODEL_TYPE])}"
        )
    if name is not None and name != own.MODEL_TYPE:
        try:
            return Translation(*_expressed(model, known[name]))
        except CannotExpress as reason:
            raise CheckpointError(f"{name} cannot express this model: {reason}") from reason
    declined: dict[str, str] = {}
    came_from = None if model.origin is None else model.origin.family
    first = [*([came_from] if came_from in known else []), *_USUAL]
    for each in dict.fromkeys([*first, *known]) if name is None else ():
        try:
            return Translation(*_expressed(model, known[each]))
        except CannotExpress as reason:
            declined[each] = str(reason)
    return Translation(own.describe(model), own.arrays(model), declined)


def nearest(model: Transformer, declined: Iterable[str]) -> str:
    """Of some families the one whose fixed settings differ least from a model's, first of those
    with its architecture and head."""
    config = model.config

    def apart(name: str) -> tuple[bool, bool, int]:
        family = families()[name]
        fixed = {
            field: value for field, value in family.fields.items() if field not in HOW_COMPUTED
        }
        return (
            config.architecture not in possible(family, "architecture"),
            class_head(config) not in family.classes.values(),
            sum(getattr(config, field) != value for field, value in fixed.items()),
        )

    return min(declined, key=apart)


def _expressed(
    model: Transformer, family: Family
) -> tuple[dict[str, Any], Iterator[tuple[str, np.ndarray[Any, Any]]]]:
    """(config.json, tensors) in the words of a family, checked by reading the result back.

    Raises:
        CannotExpress: naming what the family has no words for.
    """
    config = model.config
    head, of_class = config.head or "none", class_head(config)
    if of_class not in family.classes.values():
        raise CannotExpress(
            f"head = {head!r}: it has {choices(dict.fromkeys(family.classes.values()))}"
        )
    written = family.write(config)
    shapes, weights = weight.split(model)
    names = family.names(config)
    found = slots(shapes, weights, names)
    try:
        tensors = {slot.tensor.name for slot in found if slot.tensor is not None}
        again = _read_back(family, written, tensors, config)
    except ZooError as reason:
        raise CannotExpress(f"it would be read as what cannot be: {reason}") from reason
    for field in dataclasses.fields(ModelConfig):
        ours, theirs = getattr(config, field.name), getattr(again, field.name)
        if ours != theirs and field.name != "variant":
            raise CannotExpress(f"{field.name} = {ours!r}: it would be read as {theirs!r}")
    if _function(place(again)) != _function(model.placement):
        raise CannotExpress(f"variant = {config.variant!r}: it has {again.variant!r} at this depth")
    lost = [slot.place for slot in found if slot.tensor is None]
    if lost:
        raise CannotExpress(f"it has no tensor for {choices(lost[:5])}")
    if model.origin is not None and model.origin.family == family.name:
        written = _handed_on(model.origin.kept, config) | written
    if head.endswith("_classification"):
        written |= _labels(written, config.num_labels or 0)
    elif head == "span":
        # There names of other labels would make it more than a start and an end.
        written = {key: value for key, value in written.items() if key not in _LABELS}
    # Only the trunk stands behind the prefix.
    of_heads = {place for own in family.heads.values() for place in own}
    trunk = {each.name for place, each in names.items() if place not in of_heads}
    prefix = "" if of_class == "none" else family.prefix
    full = (
        (prefix + name if template in trunk else name, array)
        for template, name, array in save(found, shapes, config)
    )
    return written, full


def _read_back(
    family: Family, written: Settings, tensors: set[str], config: ModelConfig
) -> ModelConfig:
    """What a written config means, with what an export need not keep as it is in `config`."""
    head = config.head or "none"
    read = family.read(written, head=head)
    free = HOW_COMPUTED if config.architecture == "vision" else (*HOW_COMPUTED, *_OF_IMAGES)
    read |= {name: getattr(config, name) for name in (*free, "num_labels", "head")}
    if head == "sentence_embedding":
        read |= {"pooling": config.pooling, "unit_vectors": config.unit_vectors}
    if config.architecture == "encoder_decoder":
        # What counts there is the depth of each stack.
        read["num_layers"] = config.num_layers
    if config.positions != "learned":
        # Nothing has so many rows.
        read["max_length"] = config.max_length
    return resolve(ModelConfig(**read | family.told(head, tensors)))


def _function(placement: Placement) -> list[StackPlacement]:
    """What of a placement a trained model still computes with: not how it started or learned."""

    def started(slot: NormSlot | None) -> NormSlot | None:
        return None if slot is None else dataclasses.replace(slot, gain=1.0)

    def site(own: Site) -> Site:
        return dataclasses.replace(
            own,
            norm_in=started(own.norm_in),
            norm_branch=started(own.norm_branch),
            norm_out=started(own.norm_out),
            inner_norm=started(own.inner_norm),
            init_gains=(),
            lr_multipliers=(),
            decay_multipliers=(),
        )

    return [
        dataclasses.replace(
            stack,
            layers=tuple(tuple(map(site, layer)) for layer in stack.layers),
            init_gains=(),
            lr_multipliers=(),
            decay_multipliers=(),
        )
        for _, stack in placement.stacks
    ]


def _handed_on(kept: Iterable[tuple[str, str]], config: ModelConfig) -> Settings:
    """Keys that came along; without a padding token that a smaller vocabulary has no row for, as
    transformers marks that row of the embedding."""
    found = {key: json.loads(value) for key, value in kept}
    pad = found.get("pad_token_id")
    if isinstance(pad, int) and config.vocab_size is not None and pad >= config.vocab_size:
        found["pad_token_id"] = None
    return found


def _labels(written: dict[str, Any], count: int) -> dict[str, Any]:
    """Names of the labels: those that came along if they are as many."""
    if len(written.get("id2label") or {}) == count:
        return {}
    names = {str(index): f"LABEL_{index}" for index in range(count)}
    return {"id2label": names, "label2id": {name: int(index) for index, name in names.items()}}


def _write_tensors(
    tensors: Iterable[tuple[str, np.ndarray[Any, Any]]], folder: Path, shard_bytes: int
) -> None:
    """`model.safetensors`, or shards of at most `shard_bytes` with their index."""
    from safetensors.numpy import save_file

    shards: list[list[str]] = []
    room: dict[str, np.ndarray[Any, Any]] = {}
    size = total = 0

    def close() -> None:
        nonlocal room, size
        save_file(room, folder / f"{len(shards)}.safetensors", metadata={"format": "pt"})
        shards.append(list(room))
        room, size = {}, 0

    for name, array in tensors:
        if room and size + array.nbytes > shard_bytes:
            close()
        room[name] = array
        size, total = size + array.nbytes, total + array.nbytes
    close()
    if len(shards) == 1:
        (folder / "0.safetensors").rename(folder / "model.safetensors")
        return
    names: dict[str, str] = {}
    for number, own_names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"{number}.safetensors").rename(folder / file)
        names |= dict.fromkeys(own_names, file)
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _carry(model: Transformer, folder: Path) -> None:
    """Copy what lay beside the weights; labels only from our own format, and if they are as many.

    In a family's, `config.json` has their names.
    """
    if model.origin is None:
        return
    for name in CARRIED:
        source = Path(model.origin.folder) / name
        if not source.is_file() or (name == LABELS_FILE and not _has_labels(model, source)):
            continue
        shutil.copy(source, folder / name)


def _has_labels(model: Transformer, file: Path) -> bool:
    assert model.origin is not None
    ours = model.origin.family == own.MODEL_TYPE
    return ours and len(json.loads(file.read_bytes())) == model.config.num_labels
