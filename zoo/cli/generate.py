"""`zoo generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from zoo.cli.flags import parse
from zoo.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class GenerateOptions:
    """Continue a prompt with a trained model; prints prompt and continuation."""

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """The workdir of a run; its newest checkpoint is used."""
    prompt: str
    """The text to go on from."""
    max_new_tokens: int = 256
    """Tokens to add."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; 1 draws as the model says."""
    seed: int = 0
    """Of the draw, with a temperature above 0."""


def run(args: Sequence[str]) -> int:
    options = parse(GenerateOptions, args, command="generate")
    if not options.prompt:
        raise ConfigError("prompt = '': give at least one character to go on from")
    if not 0 <= options.seed < 2**32:
        raise ConfigError(f"seed = {options.seed}: a seed lies in 0 to 2^32 - 1")
    import jax
    import jax.numpy as jnp
    import numpy as np

    from zoo.checkpoints.pretrained import load_pretrained
    from zoo.data.tokenizers import load_tokenizer
    from zoo.decoding import generate

    model = load_pretrained(options.from_)
    tokenizer = load_tokenizer(options.from_)
    prompt = jnp.asarray(tokenizer.encode(options.prompt.encode("utf-8", "surrogateescape")))[None]
    tokens = generate(
        model,
        prompt,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        key=jax.random.key(options.seed),
    )
    print(tokenizer.decode(np.asarray(tokens[0])))
    return 0
