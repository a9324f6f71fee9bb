"""Perplexity of a text, with the protocol that it was measured by.

A window is what the model reads at once. It moves on by `stride` tokens, and of each window only
the tokens that no earlier one has scored count: every token once, each with at least
window - stride tokens before it. The larger the stride, the faster and the worse the figure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.data.tokenizers import NO_FRAME, SPECIAL, Tokenizer, load_tokenizer
from zoo.errors import ConfigError, DataError
from zoo.evaluation.masked import mask_token, masked_nats
from zoo.hf.files import is_workdir, locate, read_json
from zoo.hf.pretrained import load_pretrained
from zoo.models.config import ModelConfig
from zoo.models.tower import Transformer
from zoo.tasks.losses import cross_entropy, perplexity, total

# Logits that a batch of windows may hold at once, and windows in it at most.
_MOST_LOGITS, _MOST_ROWS = 1 << 26, 16
_LONGEST_WINDOW, _MASKED_WINDOW = 1024, 128


@dataclasses.dataclass(frozen=True)
class Window:
    """Tokens begin..end - 1 are read to score first..end."""

    begin: int
    first: int
    end: int


def windows(count: int, window: int, stride: int, *, begun: bool) -> Iterator[Window]:
    """The windows over `count` tokens.

    Args:
        window: tokens that the model reads at once.
        stride: tokens scored in each but the first, which scores all it can.
        begun: whether a begin token takes the first place of each; without one the first token
            of the text has nothing before it and is not scored.
    """
    room = window - begun
    first, end = (0 if begun else 1), min(count, room + 1)
    while first < end:
        yield Window(max(0, end - 1 - room), first, end)
        first, end = end, min(count, end + stride)


def evaluate_text(
    source: str | Path,
    file: str | Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    bos: bool | None = None,
) -> dict[str, Any]:
    """Figures of a checkpoint on a text file, with their protocol.

    Args:
        source: what `load_pretrained` takes, with a tokenizer in the folder.
        file: UTF-8 text; any bytes for a model of bytes.
        window: tokens that the model reads at once; default: as many as it can, at most 1024, of a
            masked language model 128.
        stride: tokens from one window to the next; default: half a window. Those of a masked
            language model, which sees both sides of a token, do not overlap.
        bos: whether each window opens with the begin token; default: where there is one. Of a
            masked language model whether it is framed by the tokenizer's special tokens.

    Returns:
        `eval_loss` in nats a token, `eval_perplexity`, `eval_bits_per_byte`, then the protocol; of
        a masked language model `eval_loss` and `eval_pseudo_perplexity`, with each token masked.

    Raises:
        ConfigError: on a model with another head, a window that it cannot read, or a begin token
            that it has not.
        DataError: when the text is missing, too short, or does not fit the model's vocabulary.
        CheckpointError: when there is nothing to load.
    """
    folder = locate(source)
    model, tokenizer = load_pretrained(folder), load_tokenizer(folder)
    text = _read(Path(file), tokenizer)
    if model.config.head == "masked_lm":
        own = is_workdir(read_json(folder / "config.json")) or tokenizer.fingerprint == "bytes"
        mask_id = mask_token(tokenizer, model.config.sizes().vocab_size, own=own)
        figures = _masked(model, tokenizer, text, window, stride, mask_id, framed=bos is not False)
        return figures | {"text": str(file)}
    _check_model(model.config)
    begin = begin_token(folder, tokenizer, bos)
    window = min(_LONGEST_WINDOW, model.config.sizes().max_length) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    ids = tokenizer.encode(text)
    _check(ids, model.config, window, stride, begin)
    nats = text_nats(model, ids, window=window, stride=stride, begin=begin)
    tokens = len(ids) - (begin is None)
    unscored = 0 if begin is not None else _first_end(text, tokenizer)
    scored = len(text) - unscored
    return {
        "eval_loss": nats / tokens,
        "eval_perplexity": perplexity(nats / tokens),
        "eval_bits_per_byte": nats / math.log(2) / scored,
        "text": str(file),
        "tokens": tokens,
        "bytes": scored,
        "unit": _unit(tokenizer),
        "window": window,
        "stride": stride,
        "bos": "none" if begin is None else begin,
    }


def _masked(
    model: Transformer,
    tokenizer: Tokenizer,
    text: bytes,
    window: int | None,
    stride: int | None,
    mask_id: int,
    *,
    framed: bool,
) -> dict[str, Any]:
    if stride is not None:
        raise ConfigError(
            f"stride = {stride}: windows of a masked language model do not overlap; leave it out"
        )
    frame = tokenizer.frame if framed else NO_FRAME
    sizes = model.config.sizes()
    window = min(_MASKED_WINDOW, sizes.max_length) if window is None else window
    special = len(frame[0]) + len(frame[1])
    if not special < window <= sizes.max_length:
        raise ConfigError(
            f"window = {window}; this model reads {special + 1} to {sizes.max_length} tokens"
        )
    ids = tokenizer.encode(text)
    if not len(ids):
        raise DataError("text has 0 tokens; nothing can be scored")
    _check_ids(ids, sizes.vocab_size)
    loss = masked_nats(model, ids, window=window, mask_id=mask_id, frame=frame) / len(ids)
    return {
        "eval_loss": loss,
        "eval_pseudo_perplexity": perplexity(loss),
        "tokens": len(ids),
        "unit": _unit(tokenizer),
        "window": window,
        "stride": window - special,
        "framed": "by special tokens" if special else "no",
        "masked": "each token in turn",
    }


def text_nats(
    model: Transformer,
    ids: np.ndarray[Any, Any],
    *,
    window: int,
    stride: int,
    begin: int | None = None,
) -> float:
    """The negative log-likelihood of a text in nats, each token's in its own window.

    Args:
        ids: int32 [tokens].
        window, stride: in tokens.
        begin: token at the front of each window; None: none, and the first token of the text is
            not scored.
    """
    rows = max(1, min(_MOST_ROWS, _MOST_LOGITS // (window * model.config.sizes().vocab_size)))
    planned = list(windows(len(ids), window, stride, begun=begin is not None))
    nats = 0.0
    for start in range(0, len(planned), rows):
        batch = [_row(ids, each, window, begin) for each in planned[start : start + rows]]
        # One shape, one compilation: what is missing counts nothing.
        batch += [(np.zeros(window, np.int32),) * 2 + (np.zeros(window, bool),)] * (
            rows - len(batch)
        )
        inputs, targets, mask = (jnp.asarray(np.stack(part)) for part in zip(*batch, strict=True))
        nats += float(np.sum(np.asarray(_nats(model, inputs, targets, mask), np.float64)))
    return nats


@nnx.jit
def _nats(model: Transformer, inputs: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Of each window, float32 [windows]."""
    entropy = cross_entropy(model(inputs), targets)
    return jax.vmap(total)(entropy.nats, mask)


def _row(
    ids: np.ndarray[Any, Any], own: Window, window: int, begin: int | None
) -> tuple[np.ndarray[Any, Any], ...]:
    """(inputs, targets, which targets count), each [window]."""
    read = ids[own.begin : own.end - 1]
    inputs, targets = np.zeros((2, window), np.int32)
    mask = np.zeros(window, bool)
    front = [] if begin is None else [begin]
    length = len(read) + len(front)
    inputs[:length] = np.concatenate([front, read])
    targets[:length] = ids[own.end - length : own.end]
    mask[length - (own.end - own.first) : length] = True
    return inputs, targets, mask


def _read(file: Path, tokenizer: Tokenizer) -> bytes:
    try:
        text = file.expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"text = {str(file)!r} cannot be read: {error}") from error
    if tokenizer.fingerprint != "bytes":
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8: {error}") from error
    return text


def begin_token(folder: Path, tokenizer: Tokenizer, wanted: bool | None = None) -> int | None:
    """The begin token of a checkpoint, unless it is not wanted or there is none."""
    if wanted is False:
        return None
    named = read_json(folder / "config.json").get("bos_token_id")
    own = named if isinstance(named, int) else tokenizer.token_id(*SPECIAL["begin"])
    if own is None and wanted:
        raise ConfigError(
            f"bos: {folder} names no begin token (bos_token_id in config.json, or "
            f"{', '.join(SPECIAL['begin'])} in its tokenizer); use --no-bos"
        )
    return own


def _first_end(text: bytes, tokenizer: Tokenizer) -> int:
    """Bytes of the first token."""
    # A token is shorter than that, and what comes after changes no first token but at its end.
    front = text[:4096].decode("utf-8", "ignore").encode() or text[:1]
    return int(tokenizer.encode_with_ends(front)[1][0])


def _check_model(config: ModelConfig) -> None:
    if config.architecture != "decoder" or config.head != "language_model":
        raise ConfigError(
            f"text: head = {config.head!r} on architecture = {config.architecture!r} gives no "
            "probabilities of tokens; use a decoder with head = 'language_model', or head = "
            "'masked_lm'"
        )


def _check(
    ids: np.ndarray[Any, Any], config: ModelConfig, window: int, stride: int, begin: int | None
) -> None:
    sizes = config.sizes()
    least = 1 if begin is None else 2
    if not least <= window <= sizes.max_length:
        raise ConfigError(
            f"window = {window}; this model reads {least} to {sizes.max_length} tokens"
        )
    if not 1 <= stride <= window:
        raise ConfigError(f"stride = {stride}; use 1 to window = {window}")
    if len(ids) < (2 if begin is None else 1):
        raise DataError(f"text has {len(ids)} tokens; nothing can be scored")
    _check_ids(ids if begin is None else [*ids, begin], sizes.vocab_size)


def _check_ids(ids: Sequence[int] | np.ndarray[Any, Any], rows: int) -> None:
    last = int(np.max(ids))
    if last >= rows:
        raise DataError(f"text has token {last}, the model knows {rows}; is this its tokenizer?")


def _unit(tokenizer: Tokenizer) -> str:
    return "byte" if tokenizer.fingerprint == "bytes" else "token of tokenizer.json"
