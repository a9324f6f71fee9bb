"""`zoo generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from zoo.cli.flags import parse
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.data.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class GenerateOptions:
    """Continue a prompt with a decoder, and print both as the text goes on; or print what an
    encoder-decoder answers to it. Tokens that a Hugging Face checkpoint forbids, forces or ends
    with are kept to.

        zoo generate --from runs/a --prompt "Once upon" --temperature 0.8 --top-p 0.95
        zoo generate --from Helsinki-NLP/opus-mt-en-de --prompt "Good morning" --num-beams 4
    """

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """A workdir (its newest checkpoint), or a folder or repo id of a checkpoint."""
    prompt: str
    """The text to go on from, or the source."""
    max_new_tokens: int = 256
    """Tokens to write, at most."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; 1 draws as the model says."""
    top_k: int | None = None
    """Draw from the k likeliest tokens only."""
    top_p: float | None = None
    """Draw from the likeliest tokens that together have this probability."""
    min_p: float | None = None
    """Draw from tokens of at least this share of the likeliest one's probability."""
    repetition_penalty: float | None = None
    """Above 1, tokens that are in the text already become less likely."""
    num_beams: int = 1
    """Beams of a search for the likeliest text, printed when it has ended."""
    length_penalty: float | None = None
    """With --num-beams: power of the length that a beam's log-probability is divided by;
    default 1."""
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

    from zoo.data.tokenizers import load_tokenizer
    from zoo.decoding import Sampling, generate
    from zoo.hf.files import locate
    from zoo.hf.pretrained import load_pretrained
    from zoo.training.prompts import prompts_of

    folder = locate(options.from_)
    model, tokenizer = load_pretrained(folder), load_tokenizer(folder)
    prompts = prompts_of(folder, model, tokenizer)
    prompt = prompts.encode(options.prompt.encode("utf-8", "surrogateescape"))
    shared = {field.name for field in dataclasses.fields(Sampling)} & vars(options).keys()
    pairs = model.config.architecture == "encoder_decoder"
    printer = _Printer(tokenizer, prompts.ends, [] if pairs else prompt.tolist())
    streams = options.num_beams == 1
    written = generate(
        model,
        jnp.asarray(prompt, jnp.int32)[None],
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        key=jax.random.key(options.seed),
        eos_id=prompts.ends,
        sampling=Sampling(**{name: getattr(options, name) for name in shared}),
        on_tokens=(lambda new: printer.add(new.tolist())) if streams else None,
    )
    printer.finish(np.asarray(written)[0, 1 if pairs else len(prompt) :].tolist())
    return 0


class _Printer:
    """Prints a text as its tokens come, up to one that ends it and without special ones.

    The prompt comes with the first: nothing is printed of a call that is refused.
    """

    def __init__(self, tokenizer: Tokenizer, ends: tuple[int, ...], prompt: list[int]) -> None:
        self.tokenizer, self.ends = tokenizer, ends
        self.hidden = {*tokenizer.special_ids, *ends}
        self.prompt, self.new, self.shown = prompt, list[int](), ""

    def add(self, tokens: list[int]) -> None:
        self.new += tokens
        self._show()

    def finish(self, new: list[int]) -> None:
        """Print what is left of all new tokens, and end the line."""
        self.new = new
        self._show(whole=True)
        print(flush=True)

    def _show(self, *, whole: bool = False) -> None:
        stop = next((i for i, token in enumerate(self.new) if token in self.ends), len(self.new))
        kept = [token for token in self.prompt + self.new[:stop] if token not in self.hidden]
        text = self.tokenizer.decode(kept)
        # The last character may have only some of its bytes yet.
        text = text if whole else text.rstrip("\N{REPLACEMENT CHARACTER}")
        if text.startswith(self.shown):
            print(text[len(self.shown) :], end="", flush=True)
            self.shown = text
        elif whole:
            # A tokenizer that decodes earlier tokens otherwise once later ones are there.
            print(f"\n{text}", end="", flush=True)
