"""How a checkpoint reads a text to go on from, and what ends what it writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from zoo.checkpoints.pretrained import read_config
from zoo.data.tokenizers import Tokenizer, vocabulary
from zoo.decoding import Sampling
from zoo.decoding.defaults import with_defaults
from zoo.hf import own
from zoo.hf.files import is_workdir, read_json
from zoo.models.tower import Transformer
from zoo.tasks import TASKS
from zoo.training.config import from_dict


@dataclasses.dataclass(frozen=True, eq=False)
class Prompts:
    """The special tokens around the prompts of a checkpoint.

    Attributes:
        tokenizer: of the checkpoint.
        before, after: that stand in front of a prompt, and behind it.
        ends: any of these ends what the model writes.
    """

    tokenizer: Tokenizer
    before: tuple[int, ...]
    after: tuple[int, ...]
    ends: tuple[int, ...]

    def encode(self, text: bytes) -> np.ndarray:
        """The tokens, int32 [tokens], of a prompt."""
        return np.asarray([*self.before, *self.tokenizer.encode(text), *self.after], np.int32)


def prompts_of(folder: Path, model: Transformer, tokenizer: Tokenizer) -> Prompts:
    """How the checkpoint in `folder` reads prompts.

    One of ours reads them as in training: a source has an end token, a text that goes on has
    nothing around it. Others have what their tokenizer puts around a text, but nothing behind one
    that goes on, which would end it.
    """
    pairs, config = (
        model.config.architecture == "encoder_decoder",
        read_json(folder / "config.json"),
    )
    before: tuple[int, ...]
    after: tuple[int, ...]
    _, ends = with_defaults(Sampling(), model, begin=1)
    if is_workdir(config):
        end = tokenizer.eos_id
        if pairs:
            end = vocabulary(tokenizer, TASKS[from_dict(read_config(folder)).task].needs).end
        ends = () if end is None else (end,)
    if is_workdir(config) or config.get("model_type") == own.MODEL_TYPE:
        before, after = (), ends[:1]
    else:
        before, after = tokenizer.frame
    return Prompts(tokenizer, before, after if pairs else (), ends)
