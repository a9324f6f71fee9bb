"""`zoo describe`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from zoo.cli.flags import parse
from zoo.files import dumps


@dataclasses.dataclass(frozen=True)
class DescribeOptions:
    """A norm placement in full: equation, constants and init gains at this depth, ends of the
    stack, recipe, known limits, paper with BibTeX."""

    name: Annotated[str, tyro.conf.Positional]
    """A name or alias of `zoo list variants`, or "name(option=value)"."""
    architecture: Literal["encoder", "decoder", "encoder_decoder", "vision"] = "decoder"
    """Which stacks there are."""
    num_layers: int = 12
    """Layers of the stack; with encoder_decoder of both."""
    num_encoder_layers: int | None = None
    """Layers of the encoder, where they differ from the decoder's."""
    d_model: int = 512
    """Width of the residual stream."""
    json: bool = False
    """Print JSON."""


def run(args: Sequence[str]) -> int:
    options = parse(DescribeOptions, args, command="describe")
    from zoo.variants.describe import describe

    description = describe(
        options.name,
        architecture=options.architecture,
        num_layers=options.num_layers,
        num_encoder_layers=options.num_encoder_layers,
        d_model=options.d_model,
    )
    print(dumps(description.to_json(), indent=2) if options.json else description)
    return 0
