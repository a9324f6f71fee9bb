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
    """Continue a prompt with a trained decoder, and print both; or print what a trained
    encoder-decoder answers to it, up to its end token."""

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """The workdir of a run; its newest checkpoint is used."""
    prompt: str
    """The text to go on from, or the source."""
    max_new_tokens: int = 256
    """Tokens to write, at most."""
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

    from zoo.checkpoints.pretrained import load_pretrained, read_config
    from zoo.data.tokenizers import load_tokenizer, vocabulary
    from zoo.decoding import generate
    from zoo.tasks import TASKS
    from zoo.training.config import from_dict

    model = load_pretrained(options.from_)
    tokenizer = load_tokenizer(options.from_)
    prompt = tokenizer.encode(options.prompt.encode("utf-8", "surrogateescape"))
    end = None
    if model.config.architecture == "encoder_decoder":
        # As in training: the source has an end token, and what answers it stops with one.
        task = TASKS[from_dict(read_config(options.from_)).task]
        end = vocabulary(tokenizer, task.needs).end
        prompt = np.append(prompt, end)
    (written,) = generate(
        model,
        jnp.asarray(prompt, jnp.int32)[None],
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        key=jax.random.key(options.seed),
        eos_id=end,
    )
    text = np.asarray(written)
    if end is not None:
        # Behind the start token, and before the end.
        text = text[1:]
        text = text[np.cumsum(text == end) == 0]
    print(tokenizer.decode(text))
    return 0
