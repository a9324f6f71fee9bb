"""Where a checkpoint lies, and what its folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.data.base import LABELS_FILE
from zoo.data.tokenizers import BYTES_FILE
from zoo.errors import CheckpointError, choices

# What is fetched from a hub or a bucket; everything else (pickles above all) is left there.
_WANTED = ("*.json", "*.safetensors", "*.msgpack", "*.txt", "*.model", "*.jinja")
# Files beside the weights that belong to the tokenizer.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "chat_template.jinja",
)
GENERATION_FILE = "generation_config.json"
# Files beside the weights that go along with a model.
CARRIED = (*TOKENIZER_FILES, BYTES_FILE, LABELS_FILE, GENERATION_FILE)


def locate(source: str | Path) -> Path:
    """A local folder of a checkpoint.

    Args:
        source: a folder, a `file://`, `gs://` or `s3://` URL (copied to a temporary folder unless
            it is local), or a repo id of the hub (`owner/name`, from its cache where that has it).

    Raises:
        CheckpointError: when there is no such folder or repo.
    """
    text = str(source)
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return folder
    if "://" in text:
        return _from_url(text)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _from_hub(text)
    raise CheckpointError(
        f"{text or repr(text)}: no such folder; use a folder, a file://, gs:// or s3:// URL, or a "
        "repo id such as 'owner/name'"
    )


def _from_url(url: str) -> Path:
    import tempfile

    from etils import epath

    try:
        remote = epath.Path(url.removeprefix("file://") if url.startswith("file://") else url)
        if not remote.is_dir():
            raise CheckpointError(f"{url}: no such folder")
        if url.startswith("file://"):
            return Path(remote)
        local = Path(tempfile.mkdtemp(prefix="zoo-"))
        for pattern in _WANTED:
            for file in remote.glob(pattern):
                file.copy(local / file.name)
        for file in remote.glob("*/config.json"):  # a sentence encoder's way to pool
            (local / file.parent.name).mkdir()
            file.copy(local / file.parent.name / file.name)
    except (OSError, ImportError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{url} cannot be read: {error}") from error
    return local


def _from_hub(repo: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{repo}: neither a folder here nor a repo that can be fetched ({first})"
        ) from error


def is_workdir(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a workdir of `zoo train`."""
    return "config" in config and "model_type" not in config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: when the file is missing or holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds {type(content).__name__}; use a JSON object")
    return dict(content)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: safetensors before Flax's msgpack.

    Raises:
        CheckpointError: when there are none, or none that is read here.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        return _shards(index)
    if (folder / "flax_model.msgpack").is_file():
        return [folder / "flax_model.msgpack"]
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt") for file in folder.glob(pattern))
    if pickled:
        raise CheckpointError(
            f"{folder} holds {choices(pickled)}: pickles can run code and are not read; convert "
            "them once, where you trust them, with transformers: "
            "AutoModel.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
        )
    raise CheckpointError(
        f"{folder} has no weights; use model.safetensors, model.safetensors.index.json with its "
        "shards, or flax_model.msgpack"
    )


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    known = isinstance(names, Mapping) and all(isinstance(name, str) for name in names.values())
    if not names or not known:
        raise CheckpointError(f"{index}: weight_map = {names!r}; use an object of file names")
    files = sorted(set(names.values()))
    for name in files:
        # A name with a folder in it could point anywhere.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{index} points to {name!r}; use names of .safetensors files in its own folder"
            )
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index} points to {name!r}, which is not there")
    return [index.parent / name for name in files]
