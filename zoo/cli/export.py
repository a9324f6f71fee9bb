"""`zoo export`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from zoo.cli.flags import parse


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write a trained run, or any checkpoint, as a folder to hand on: weights, tokenizer, and a
    model card with the placement, its constants, data, recipe and figures. In the format of a
    Hugging Face family when one has words for the model, so that transformers loads it; else in
    our own, which zoo reads back bit for bit.

        zoo export --from runs/a --out exported
        zoo export --from runs/a --out exported --push me/my-model
    """

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """The workdir of a run (its newest checkpoint), a folder or repo id of a checkpoint."""
    out: str
    """Folder to write; a checkpoint that is there is replaced."""
    family: str | None = None
    """A name of `zoo list families`, or postnorm_zoo for our own; default: the first that fits."""
    push: str | None = None
    """Repo of the hub (owner/name) to upload the folder to; it is made when it is missing."""


def run(args: Sequence[str]) -> int:
    options = parse(ExportOptions, args, command="export")
    from zoo.hf.push import check_repo_id, push
    from zoo.training.export import export

    if options.push is not None:
        check_repo_id(options.push)
    written = export(options.from_, options.out, family=options.family)
    print(written)
    if options.push is not None:
        size = sum((written.folder / name).stat().st_size for name in written.files)
        print(
            f"uploading {len(written.files)} files ({size / 1e6:.1f} MB) to the repo "
            f"{options.push}, which is made when it is missing",
            flush=True,
        )
        print(f"uploaded: {push(written.folder, options.push)}")
    return 0
