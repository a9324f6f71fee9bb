"""`zoo verify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from zoo.cli.flags import parse
from zoo.files import dumps


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """Compare what a checkpoint computes here with what it computes in the installed transformers,
    or with another checkpoint: outputs, the stream behind every layer, and greedy tokens. Exit code
    0 when they agree, 1 when they do not.

        zoo verify --from google-bert/bert-base-uncased
        zoo verify --from runs/a --against exported
    """

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """A folder or repo id of a Hugging Face checkpoint; with --against also a workdir of ours."""
    against: str | None = None
    """A checkpoint to compare with; default: transformers (the extra `parity`)."""
    tolerance: float = 2e-4
    """Largest absolute difference of the outputs that counts as agreement."""
    new_tokens: int = 24
    """Tokens that are written greedily where the model writes text."""
    json: bool = False
    """Print JSON, which has the error of every layer."""


def run(args: Sequence[str]) -> int:
    options = parse(VerifyOptions, args, command="verify")
    from zoo.evaluation.verify import verify

    found = verify(
        options.from_,
        options.against,
        tolerance=options.tolerance,
        new_tokens=options.new_tokens,
    )
    print(dumps(found.to_json(), indent=2) if options.json else found)
    return 0 if found.passed else 1
