"""`zoo surgery`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from zoo.cli.flags import parse
from zoo.errors import ConfigError
from zoo.files import dumps


@dataclasses.dataclass(frozen=True)
class SurgeryOptions:
    """Change a checkpoint: its norm placement, the rows of its vocabulary, or both; write it as a
    folder that can be trained on (`zoo train --init-from`), and say how far its function moved.

        zoo surgery --from google-bert/bert-base-uncased --variant deep_norm --out bert-deep
        zoo surgery --from openai-community/gpt2 --vocab-size 50304 --out gpt2-wider
    """

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """A folder or repo id of a checkpoint, or a workdir of ours."""
    out: str
    """Folder to write; a checkpoint that is there is replaced."""
    variant: str | None = None
    """The new placement: a name of `zoo list variants`, or name(option=value)."""
    fold_gains: bool = False
    """With --variant: put gain and shift of each norm before F into the matrices that read it."""
    vocab_size: int | None = None
    """Rows of the new vocabulary; new ones are drawn around the mean."""
    shrink: bool = False
    """Allow fewer rows than there are; the first stay."""
    seed: int = 0
    """Of what is drawn."""
    json: bool = False
    """Print JSON."""


def run(args: Sequence[str]) -> int:
    options = parse(SurgeryOptions, args, command="surgery")
    if options.variant is None and options.vocab_size is None:
        raise ConfigError("surgery: give --variant, --vocab-size, or both")
    from zoo.evaluation.surgery import change_variant
    from zoo.evaluation.verify import example_inputs
    from zoo.hf.export import translate, write
    from zoo.hf.files import locate
    from zoo.hf.pretrained import load_pretrained
    from zoo.models.vocabulary import resize_vocabulary
    from zoo.training.export import carried

    folder = locate(options.from_)
    model = load_pretrained(folder)
    batch, said = example_inputs(model.config, folder)
    if options.vocab_size is not None:
        model = resize_vocabulary(
            model, options.vocab_size, seed=options.seed, shrink=options.shrink
        )
    surgery = None
    if options.variant is not None:
        surgery = change_variant(
            model,
            options.variant,
            batch=batch,
            fold_gains=options.fold_gains,
            seed=options.seed,
        )
        model = surgery.model
    translation = translate(model, None)
    write(translation, model, Path(options.out), files=carried(folder))
    if options.json:
        found = {} if surgery is None else surgery.to_json() | {"inputs": said}
        rows = {"vocab_size": model.config.vocab_size, "family": translation.name}
        print(dumps(found | rows | {"out": options.out}, indent=2))
        return 0
    if surgery is not None:
        print(f"{surgery}\n\nmeasured on {said}")
    print(f"wrote {options.out}: {model.config.vocab_size} words, format {translation.name}")
    return 0
