"""Folders of sentence-transformers: a trunk, and how its tokens become one vector.

`modules.json` lists what the trunk's output goes through, each with a folder for its settings:
Pooling, then perhaps Normalize. Anything beyond (a Dense layer) is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.errors import CheckpointError, choices
from zoo.hf.files import read_json
from zoo.models.config import ModelConfig

_LIST, _POOLING = "modules.json", "1_Pooling"
_MODE = "pooling_mode_"
# Its name of a way to pool -> ours.
_MODES = {"cls_token": "first", "mean_tokens": "mean"}
_OTHERS = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def is_sentence_encoder(folder: Path) -> bool:
    return (folder / _LIST).is_file()


def read(folder: Path) -> dict[str, Any]:
    """Fields of `ModelConfig`; those of plain mean pooling where the folder says nothing.

    Raises:
        CheckpointError: on a module, or a way to pool, that is not supported.
    """
    if not is_sentence_encoder(folder):
        return {"pooling": "mean", "unit_vectors": False, "pooler": None}
    listed = _modules(folder / _LIST)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in listed]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(
            f"{folder / _LIST} lists {choices(kinds)}; supported: Transformer, Pooling and, "
            "after them, Normalize"
        )
    pooling = _pooling(folder, str(listed[1].get("path", "")))
    return {"pooling": pooling, "unit_vectors": len(kinds) == 3, "pooler": None}


def _modules(path: Path) -> list[dict[str, Any]]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise CheckpointError(f"{path}: use a list of objects")
    return listed


def _pooling(folder: Path, path: str) -> str:
    # A path with a folder in it could point anywhere.
    if Path(path).name != path:
        raise CheckpointError(f"{folder / _LIST}: path = {path!r}; use a folder beside it")
    file = folder / path / "config.json"
    config = read_json(file)
    modes = [mode for mode in (*_MODES, *_OTHERS) if config.get(_MODE + mode)]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise CheckpointError(
            f"{file} pools by {choices(modes)}; use just one of {choices(_MODES)}"
        )
    return _MODES[modes[0]]


def write(config: ModelConfig, folder: Path) -> None:
    """What `read` reads, beside a trunk."""
    path = "sentence_transformers.models.{}"
    modules = [("", "Transformer"), (_POOLING, "Pooling")]
    modules += [("2_Normalize", "Normalize")] if config.unit_vectors else []
    listed = [
        {"idx": index, "name": str(index), "path": place, "type": path.format(kind)}
        for index, (place, kind) in enumerate(modules)
    ]
    modes = {_MODE + mode: own == config.pooling for mode, own in _MODES.items()}
    modes |= {_MODE + mode: False for mode in _OTHERS}
    (folder / _LIST).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    (folder / _POOLING).mkdir()
    (folder / _POOLING / "config.json").write_text(
        json.dumps({"word_embedding_dimension": config.d_model} | modes, indent=2) + "\n",
        encoding="utf-8",
    )
