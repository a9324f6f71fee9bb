"""A workdir, or any checkpoint, as a folder to hand on: weights, tokenizer and model card."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from zoo.checkpoints.pretrained import read_config
from zoo.data.base import LABELS_FILE
from zoo.data.tokenizers import (
    BYTES_FILE,
    SPECIAL,
    TOKENIZER_FILE,
    Tokenizer,
    load_tokenizer,
    tokenizer_json,
    vocabulary,
)
from zoo.errors import DataError
from zoo.hf import own
from zoo.hf.export import Translation, nearest, translate, write
from zoo.hf.files import CARRIED, GENERATION_FILE, is_workdir, locate, read_json
from zoo.hf.pretrained import load_pretrained
from zoo.models.tower import Transformer
from zoo.tasks import TASKS
from zoo.training.card import card
from zoo.training.config import TrainConfig, from_dict
from zoo.training.summary import read_summary

# Our special tokens in the words of the library.
_ROLES = {"begin": "cls_token", "separator": "sep_token", "mask": "mask_token", "end": "eos_token"}


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where it lies.
        family: the `model_type` of its `config.json`.
        declined: why it is in no family of the Hugging Face library; None if it is in one.
        files: their names within the folder.
    """

    folder: Path
    family: str
    declined: str | None
    files: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"wrote {self.folder}: {', '.join(self.files)}"]
        if self.declined is None:
            return "\n".join([*lines, f"format: {self.family}, which transformers loads"])
        return "\n".join([*lines, f"format: {self.family}, our own: {self.declined}"])


def export(source: str | Path, folder: str | Path, *, family: str | None = None) -> Exported:
    """Write a model as a folder that can be loaded here, and by transformers if it can be said.

    All of it is there or nothing: `config.json` and safetensors as `zoo.save_pretrained` writes
    them, the tokenizer, `generation_config.json` where special tokens are known, labels, and
    `README.md`, a model card.

    Args:
        source: what `zoo.load_pretrained` takes.
        folder: is made; a checkpoint that is there is replaced.
        family: as of `zoo.save_pretrained`.

    Raises:
        CheckpointError: when there is nothing to load, the family cannot express the model, or the
            folder cannot be written.
    """
    local, target = locate(source), Path(folder).expanduser()
    model = load_pretrained(local)
    translation = translate(model, family)
    run = summary = None
    if is_workdir(read_json(local / "config.json")):
        run, summary = from_dict(read_config(local)), _summary(local)
        files = _of_run(local, run, model, translation)
    else:
        files = carried(local)
    declined = _declined(model, translation, asked=family)
    files["README.md"] = card(
        model,
        name=target.name,
        config=translation.config,
        declined=declined,
        run=run,
        summary=summary,
        tokenizer=bool({TOKENIZER_FILE, BYTES_FILE} & files.keys()),
    ).encode()
    write(translation, model, target, files=files)
    written = sorted(file for file in target.rglob("*") if file.is_file())
    names = tuple(str(file.relative_to(target)) for file in written)
    return Exported(target, translation.name, declined, names)


def _declined(model: Transformer, translation: Translation, *, asked: str | None) -> str | None:
    if translation.name != own.MODEL_TYPE:
        return None
    if asked is not None or not translation.declined:
        return "as asked for"
    family = nearest(model, translation.declined)
    return (
        f"no family of transformers has words for it; {family}, the nearest, has none for "
        + (translation.declined[family])
    )


def _summary(workdir: Path) -> dict[str, Any] | None:
    try:
        return read_summary(workdir)
    except DataError:
        return None  # a run that goes on has none


def carried(folder: Path) -> dict[str, bytes]:
    """What lies beside the weights of a checkpoint."""
    return {name: (folder / name).read_bytes() for name in CARRIED if (folder / name).is_file()}


def _of_run(
    workdir: Path, run: TrainConfig, model: Transformer, translation: Translation
) -> dict[str, bytes]:
    """Tokenizer, labels and special tokens of a workdir; the config is told of them too."""
    files: dict[str, bytes] = {}
    readable = translation.name != own.MODEL_TYPE
    labels = workdir / LABELS_FILE
    if labels.is_file():
        files[LABELS_FILE] = labels.read_bytes()
        names = [str(name) for name in json.loads(files[LABELS_FILE])]
        if readable and len(names) == model.config.num_labels:
            translation.config["id2label"] = {str(i): name for i, name in enumerate(names)}
            translation.config["label2id"] = {name: i for i, name in enumerate(names)}
    task = TASKS[run.task]
    if task.rows == "images":
        return files
    tokenizer = load_tokenizer(workdir)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save(scratch)
        files |= {file.name: file.read_bytes() for file in Path(scratch).iterdir()}
    # Framed by its file, a text begins as the file has it.
    whole = run.data.framing == "tokenizer"
    needs = tuple(name for name in task.special(run.data) if not (whole and name == "begin"))
    ids = _special(tokenizer, needs, model)
    if readable or TOKENIZER_FILE in files:
        files[TOKENIZER_FILE] = tokenizer_json(tokenizer, needs).encode()
    if readable:
        files["tokenizer_config.json"] = _dumped(_tokenizer_config(tokenizer, needs, model))
        # Keys that a family reads say what the model computes, and stay.
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            translation.config.setdefault(name, ids.get(name))
    if model.config.head == "language_model" and ids:
        files[GENERATION_FILE] = _dumped(ids)
    return files


def _special(tokenizer: Tokenizer, needs: tuple[str, ...], model: Transformer) -> dict[str, int]:
    """The special tokens that are known, by their keys in generation_config.json."""
    found = vocabulary(tokenizer, needs)
    ids = {"bos_token_id": found.begin, "pad_token_id": model.config.pad_id}
    ids["eos_token_id"] = found.end if found.end >= 0 else tokenizer.eos_id
    if model.config.architecture == "encoder_decoder":
        ids["decoder_start_token_id"] = model.config.decoder_start_id or 0
    return {name: value for name, value in ids.items() if value is not None and value >= 0}


def _tokenizer_config(
    tokenizer: Tokenizer, needs: tuple[str, ...], model: Transformer
) -> dict[str, Any]:
    """What the library's class for any tokenizer.json wants to know beside it."""
    found: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.sizes().max_length,
        "clean_up_tokenization_spaces": False,
    }
    for name, role in _ROLES.items():
        known = [each for each in SPECIAL[name] if tokenizer.token_id(each) is not None]
        if name in needs or (name == "end" and known):
            found[role] = known[0] if known else SPECIAL[name][0]
    return found


def _dumped(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
