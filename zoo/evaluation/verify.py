"""Whether a checkpoint computes here what it computes elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.tokenizers import load_tokenizer
from zoo.errors import CheckpointError, ConfigError, DataError
from zoo.evaluation.sides import (
    Array,
    Inputs,
    Outputs,
    Side,
    ZooSide,
    named_family,
    of_transformers,
)
from zoo.hf.files import locate, read_json
from zoo.hf.pretrained import load_pretrained
from zoo.models.config import ModelConfig
from zoo.tables import pairs, table

# Texts of three lengths, so that two of them are padded.
TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then it sleeps in the sun until evening.",
    "Where a norm stands decides how deep a network can be.",
    "def double(x): return 2 * x",
)
_LONGEST = 48
# Heads whose last axis is a distribution, and what one of them is drawn for.
DRAWN = {
    "language_model": "token",
    "masked_lm": "token",
    "token_classification": "token",
    "sequence_classification": "text",
    "image_classification": "image",
}


@dataclasses.dataclass(frozen=True)
class Verification:
    """How far two models are apart on one batch; `print` it, or take `to_json()`.

    Attributes:
        ours, theirs: what was compared; `theirs` is the reference.
        inputs: what both were given.
        compared: the kind of output, and its shape.
        max_abs_error, mean_abs_error: of the output, where there is no padding.
        largest: absolute value in the reference's output.
        kl: nats a token (or text, or image) from the reference's distribution to the other; None
            for outputs that are no logits.
        kl_per: what one distribution is for.
        layers: (stack's name and number, error relative to the largest value in that layer of the
            reference, at least 1), in order.
        first_difference: the first layer whose error exceeds the tolerance; or why that cannot be
            said.
        greedy: of as many tokens for each prompt, how many agree before the first that differs;
            None for models that write no text.
        new_tokens: tokens written for each prompt.
        tolerance: of `max_abs_error`.
    """

    ours: str
    theirs: str
    inputs: str
    compared: str
    max_abs_error: float
    mean_abs_error: float
    largest: float
    kl: float | None
    kl_per: str | None
    layers: tuple[tuple[str, float], ...]
    first_difference: str
    greedy: tuple[int, ...] | None
    new_tokens: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the outputs agree within the tolerance, and all greedy tokens do."""
        same = self.greedy is None or min(self.greedy) == self.new_tokens
        return self.max_abs_error <= self.tolerance and same

    def to_json(self) -> dict[str, Any]:
        own = dataclasses.asdict(self)
        layers = [{"layer": name, "error": error} for name, error in self.layers]
        return own | {"layers": layers, "passed": self.passed}

    def __str__(self) -> str:
        shown: dict[str, Any] = {
            "compared": f"{self.ours} with {self.theirs}",
            "inputs": self.inputs,
            "output": self.compared,
            "max abs error": f"{self.max_abs_error:.2e} (largest value {self.largest:.3g})",
            "mean abs error": f"{self.mean_abs_error:.2e}",
        }
        if self.kl is not None:
            shown["KL divergence"] = f"{self.kl:.2e} nats/{self.kl_per}"
        shown["first differing layer"] = self.first_difference
        if self.greedy is not None:
            equal = ", ".join(f"{count}" for count in self.greedy)
            shown["equal greedy tokens"] = f"{equal} of {self.new_tokens}"
        verdict = "agree" if self.passed else "DIFFER"
        shown["verdict"] = f"they {verdict} (tolerance {self.tolerance:g})"
        if self.passed or not self.layers:
            return pairs(shown)
        rows = [(name, f"{error:.2e}") for name, error in self.layers]
        return f"{pairs(shown)}\n\n{table(rows, ('layer', 'relative error'))}"


def verify(
    source: str | Path,
    against: str | Path | None = None,
    *,
    tolerance: float = 2e-4,
    new_tokens: int = 24,
) -> Verification:
    """Compare a checkpoint's model with the installed transformers, or with another of ours.

    Both get the same small batch: three texts, by the tokenizer of the folder, or drawn tokens
    where it has none, padded on the right; of a vision model two drawn images. Prompts of decoders
    are padded on the left. All of it in float32.

    Args:
        source: what `load_pretrained` takes.
        against: likewise; None: the class of transformers that the folder names.
        tolerance: largest absolute difference of the outputs.
        new_tokens: to write greedily where the model writes text; fewer if it has no room.

    Raises:
        CheckpointError: when one of them cannot be loaded, or they do not take the same inputs or
            do not give the same output.
        ConfigError: when transformers is needed and not installed; a setting out of range.
    """
    if not tolerance >= 0.0:
        raise ConfigError(f"tolerance = {tolerance}; use 0 or more")
    if new_tokens < 1:
        raise ConfigError(f"new_tokens = {new_tokens}; use 1 or more")
    folder = locate(source)
    theirs: Side
    if against is None:
        # A sentence encoder is a bare trunk there.
        config = read_json(folder / "config.json")
        head = named_family(folder, config).head(config)
        theirs = of_transformers(folder)
        ours = ZooSide(load_pretrained(folder, head=head), str(source))
    else:
        ours = ZooSide(load_pretrained(folder), str(source))
        other = load_pretrained(against)
        _check_alike(ours.model.config, other.config)
        theirs = ZooSide(other, str(against))
    return compare(ours, theirs, folder, tolerance=tolerance, new_tokens=new_tokens)


def compare(
    ours: ZooSide, theirs: Side, folder: Path, *, tolerance: float, new_tokens: int
) -> Verification:
    """As `verify`, of two models that are loaded; `folder` is where the tokenizer lies."""
    config = ours.model.config
    inputs, said = example_inputs(config, folder)
    mine, other = ours.run(inputs), theirs.run(inputs)
    if mine.output.shape != other.output.shape:
        raise CheckpointError(
            f"{ours.name} gives {list(mine.output.shape)}, {theirs.name} "
            f"{list(other.output.shape)}: there is nothing to compare"
        )
    seen = inputs.get("decoder_attention_mask", inputs.get("attention_mask"))
    first, second = seen_rows(mine.output, seen), seen_rows(other.output, seen)
    error = np.abs(first.astype(np.float64) - second)
    per = DRAWN.get(config.head or "none")
    layers, where = _layers(mine, other, inputs, tolerance, bool(error.max() <= tolerance))
    greedy, new = None, 0
    if config.head == "language_model":
        room = config.sizes().max_length
        new = min(new_tokens, room - 1)
        prompts = _prompts(config, inputs, room - new)
        written = ours.continued(prompts, new), theirs.continued(prompts, new)
        greedy = tuple(_equal(*rows) for rows in zip(*written, strict=True))
    return Verification(
        ours=ours.name,
        theirs=theirs.name,
        inputs=said,
        compared=f"{_kind(config.head)} {list(mine.output.shape)}",
        max_abs_error=float(error.max()),
        mean_abs_error=float(error.mean()),
        largest=float(np.abs(second).max()),
        kl=None if per is None else divergence(second, first),
        kl_per=per,
        layers=layers,
        first_difference=where,
        greedy=greedy,
        new_tokens=new,
        tolerance=tolerance,
    )


def _kind(head: str | None) -> str:
    if head in DRAWN:
        return "logits"
    return "hidden states" if head in (None, "none") else str(head)


def _check_alike(ours: ModelConfig, theirs: ModelConfig) -> None:
    for name in ("architecture", "head"):
        if getattr(ours, name) != getattr(theirs, name):
            raise CheckpointError(
                f"{name} is {getattr(ours, name)!r} and {getattr(theirs, name)!r}: there is "
                "nothing to compare"
            )
    for name in ("vocab_size", "num_labels"):
        mine, other = getattr(ours.sizes(), name), getattr(theirs.sizes(), name)
        if mine != other:
            raise CheckpointError(f"{name} is {mine} and {other}: there is nothing to compare")


def example_inputs(config: ModelConfig, folder: Path) -> tuple[Inputs, str]:
    """A batch for a model, and what it is in words."""
    draw = np.random.default_rng(0)
    if config.architecture == "vision":
        side = config.image_size
        shape = (2, side, side, config.num_channels)
        return {"pixel_values": draw.normal(size=shape).astype(np.float32)}, (
            f"2 drawn images of {side} x {side}"
        )
    rows, said = _rows(config, folder, draw)
    pad = _pad_id(config, folder)
    inputs = _padded(rows, pad)
    if config.architecture == "encoder_decoder":
        # Another text answers each.
        target = _padded([*rows[1:], rows[0]], pad)
        inputs |= {f"decoder_{name}": array for name, array in target.items()}
    elif (config.type_vocab_size or 1) > 1:
        second = np.arange(inputs["input_ids"].shape[1]) >= 4
        inputs["token_type_ids"] = (second * inputs["attention_mask"]).astype(np.int32)
    return inputs, f"{len(rows)} texts of {', '.join(str(len(row)) for row in rows)} {said}"


def _rows(config: ModelConfig, folder: Path, draw: np.random.Generator) -> tuple[list[Array], str]:
    sizes = config.sizes()
    longest = min(_LONGEST, sizes.max_length)
    try:
        tokenizer = load_tokenizer(folder)
        rows = [tokenizer.encode(text.encode())[:longest] for text in TEXTS]
        if min(map(len, rows)) > 0 and max(int(row.max()) for row in rows) < sizes.vocab_size:
            return rows, "tokens"
    except DataError:
        pass  # a folder without a tokenizer is no worse a checkpoint
    pad = _pad_id(config, folder)
    text = np.setdiff1d(np.arange(sizes.vocab_size), [pad])
    lengths = [max(1, longest * part // 8) for part in (8, 5, 2)]
    return [draw.choice(text, length).astype(np.int32) for length in lengths], "drawn tokens"


def _pad_id(config: ModelConfig, folder: Path) -> int:
    if config.pad_id is not None:
        return config.pad_id
    stored = read_json(folder / "config.json").get("pad_token_id")
    return stored if isinstance(stored, int) and 0 <= stored < config.sizes().vocab_size else 0


def _padded(rows: list[Array], pad: int, *, left: bool = False) -> dict[str, Array]:
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, np.int32)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[index, place], mask[index, place] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def _prompts(config: ModelConfig, inputs: Inputs, room: int) -> Inputs:
    """The texts to go on from, short enough, on the left of what will follow."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if config.architecture == "encoder_decoder":
        return {"input_ids": ids, "attention_mask": mask}
    rows = [row[seen == 1][:room] for row, seen in zip(ids, mask, strict=True)]
    return _padded(rows, int(ids[mask == 0][0]) if (mask == 0).any() else 0, left=True)


def seen_rows(output: Array, mask: Array | None) -> Array:
    """What stands at real tokens, [tokens, ...]; of one vector a text, all."""
    if mask is None or output.shape[:2] != mask.shape:
        return output
    return output[mask == 1]


def divergence(reference: Array, other: Array) -> float:
    """Mean of KL(reference || other) over rows of logits, in nats."""
    p, q = (_log_softmax(each.astype(np.float64)) for each in (reference, other))
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1)))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _layers(
    ours: Outputs, theirs: Outputs, inputs: Inputs, tolerance: float, agree: bool
) -> tuple[tuple[tuple[str, float], ...], str]:
    """(the error of each layer, the first that differs in words)."""
    found: list[tuple[str, float]] = []
    # A model of one stack calls it what it likes.
    one_stack = len(ours.layers) == len(theirs.layers) == 1
    for name, mine in ours.layers.items():
        other = next(iter(theirs.layers.values())) if one_stack else theirs.layers.get(name, [])
        if len(mine) != len(other):
            return (), f"n/a: the {name} has {len(mine)} layers here and {len(other)} there"
        prefix = "decoder_" if name == "decoder" and "decoder_input_ids" in inputs else ""
        mask = inputs.get(f"{prefix}attention_mask")
        for number, (one, two) in enumerate(zip(mine, other, strict=True), start=1):
            own = [one]
            if number == len(mine) and name in ours.ends:
                # Some classes give the last layer as it is, some behind the final norm.
                own.append(ours.ends[name])
            same = [each for each in own if each.shape == two.shape]
            if not same and number == len(mine):
                continue  # it is given behind a projection there; the output is compared anyway
            if not same:
                return (), f"n/a: the {name} is {one.shape[-1]} wide here and {two.shape[-1]} there"
            error = min(_relative(seen_rows(each, mask), seen_rows(two, mask)) for each in same)
            found.append((f"{number} of {len(mine)} ({name})", error))
    if not found:
        return (), "n/a: there are no hidden states"
    apart = [name for name, error in found if not error <= tolerance]
    if not apart:
        return tuple(found), "none"
    if agree:
        return (), "n/a: the outputs agree, so the streams are cut at other places"
    return tuple(found), apart[0]


def _relative(ours: Array, theirs: Array) -> float:
    scale = max(1.0, float(np.abs(theirs).max()))
    return float(np.abs(ours.astype(np.float64) - theirs).max()) / scale


def _equal(ours: Array, theirs: Array) -> int:
    """How many tokens agree before the first that differs."""
    differ = np.flatnonzero(ours != theirs)
    return int(differ[0]) if len(differ) else len(ours)
