"""Checksums of a checkpoint's files, since Orbax restores a flipped bit without a word.

`checksums.json` lies in the step's folder: size and BLAKE2b of every other file, the step, the
metric, and a digest of all that, so that damage to this file shows as well.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from zoo.files import dumps, replacing

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path, *, step: int, metric: float | None) -> None:
    """Hash every file under `folder` and write `checksums.json` there, beside first, then renamed.

    `metric` is the figure by which the best checkpoint is chosen (lower is better); one that is
    not finite counts as none.

    Raises:
        OSError: a file cannot be read or written.
    """
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    known = metric is not None and math.isfinite(metric)
    content: dict[str, Any] = {"step": step, "metric": metric if known else None, "files": files}
    content["digest"] = _content_digest(content)
    with replacing(folder / CHECKSUMS) as beside:
        # No newline behind it: each of its bytes counts.
        beside.write_text(dumps(content, indent=1), encoding="utf-8")


def find_problems(folder: Path, step: int) -> list[str]:
    """What is wrong with the checkpoint in `folder`, one line a file; empty when it is sound."""
    if not folder.is_dir():
        return [f"{folder.name}: no such checkpoint"]
    content = _read(folder)
    if isinstance(content, str):
        return [f"{folder.name}/{CHECKSUMS}: {content}"]
    if content["step"] != step:
        return [f"{folder.name}/{CHECKSUMS}: written for step {content['step']}, not {step}"]
    problems = []
    for name, (size, digest) in content["files"].items():
        problem = _file_problem(folder / name, size, digest)
        if problem:
            problems.append(f"{folder.name}/{name}: {problem}")
    return problems


def read_metric(folder: Path) -> float | None:
    """The metric saved with the checkpoint in `folder`; None without one or when it is damaged."""
    content = _read(folder)
    return None if isinstance(content, str) else content["metric"]


def _file_problem(path: Path, size: int, digest: str) -> str | None:
    try:
        found = path.stat().st_size
        if found != size:
            word = "truncated" if found < size else "too long"
            return f"{word}: {found} bytes instead of {size}"
        return None if _digest(path) == digest else "checksum differs"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _read(folder: Path) -> dict[str, Any] | str:
    """The content of `checksums.json`, or what is wrong with it."""
    try:
        content = json.loads((folder / CHECKSUMS).read_bytes())
    except FileNotFoundError:
        return "missing, so the checkpoint is incomplete"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "damaged (no JSON)"
    if not isinstance(content, dict):
        return "damaged (no JSON object)"
    digest = content.pop("digest", None)
    return content if digest == _content_digest(content) else "damaged (its own checksum differs)"


def _content_digest(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _digest(path: Path) -> str:
    # hashlib releases the interpreter's lock while it hashes: training goes on meanwhile.
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
