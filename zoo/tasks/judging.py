"""Judges: what a model writes or ranks first, scored by the libraries that papers name.

They are imported where they are used; their versions are part of the protocol.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.examples import ExampleData
from zoo.data.tokenizers import Frame
from zoo.decoding import Sampling, generate
from zoo.decoding.weights import Structure, split
from zoo.environment import library
from zoo.models.tower import Transformer
from zoo.tasks.base import Batch, Judge, Judgement

# Tokens that a text may be longer than its source (1706.03762, section 6.1).
LONGER = 50
# Texts are padded to a power of two from here on: a few lengths are a few compilations.
SHORTEST = 32


def judge_labels(
    batch: Callable[[Mapping[str, np.ndarray], RowSpec], Batch],
    inputs: Callable[[Batch], dict[str, Any]],
) -> Judge:
    """The `Task.judge` of a model whose highest logit [..., classes] is its label for `targets`.

    Figures: accuracy; F1, the unweighted mean over the labels that are there or were given, and
    where there are two labels that of the second; Matthews' correlation.

    Args:
        batch, inputs: as of the task.
    """

    def judging(
        model: Transformer, data: Data, *, max_batches: int | None, num_beams: int
    ) -> Judgement:
        measures = library("sklearn.metrics", "scikit-learn")
        structure, leaves = split(model)
        true, said = [], []
        for rows in data.eval_batches(max_batches=max_batches):
            made = batch(rows, data.spec)
            mask = made["mask"]
            true.append(made["targets"][mask])
            said.append(np.asarray(_ranked(leaves, inputs(made), structure=structure))[mask])
        pair = np.concatenate(true), np.concatenate(said)
        with warnings.catch_warnings():
            # Of a table of counts that nobody sees here, where only one label comes up.
            warnings.filterwarnings("ignore", "A single label was found", UserWarning)
            correlation = measures.matthews_corrcoef(*pair)
        figures = {
            "accuracy": measures.accuracy_score(*pair),
            "f1_macro": measures.f1_score(*pair, average="macro", zero_division=0.0),
            "matthews": correlation,
        }
        protocol: dict[str, Any] = {"scikit-learn": importlib.import_module("sklearn").__version__}
        if "f1" in names(data.spec):
            figures["f1"] = measures.f1_score(*pair, pos_label=1, zero_division=0.0)
            protocol["f1_label"] = data.spec.labels[1]
        return Judgement({name: float(value) for name, value in figures.items()}, protocol)

    def names(spec: RowSpec) -> tuple[str, ...]:
        always = ("accuracy", "f1_macro", "matthews")
        return (*always, "f1") if len(spec.labels) == 2 else always

    return Judge(judging, names)


@functools.partial(jax.jit, static_argnames="structure")
def _ranked(
    leaves: Sequence[jax.Array], given: dict[str, Any], *, structure: Structure
) -> jax.Array:
    """The classes with the highest logits; compiled once for all models of a structure."""
    return jnp.argmax(structure.with_arrays(leaves)(**given), axis=-1)


def judge_targets(
    batch: Callable[[Mapping[str, np.ndarray], RowSpec], Batch],
) -> Judge:
    """The `Task.judge` of a model that writes the target of a source: BLEU and chrF of sacrebleu.

    Texts are searched with `num_beams` (1: the likeliest token each time) and compared, as text,
    with targets as they were read, whatever the tokenizer. A text has at most 50 tokens more than
    the padded source, and fits in `target_length` and in the model.

    Args:
        batch: of the task, with `inputs` and `attention_mask`.
    """

    def judging(
        model: Transformer, data: Data, *, max_batches: int | None, num_beams: int
    ) -> Judgement:
        scores = library("sacrebleu", "sacrebleu")
        assert isinstance(data, ExampleData)
        rows = data.eval_rows(max_batches=max_batches)
        sampling = Sampling(num_beams=num_beams, length_penalty=1.0 if num_beams > 1 else None)
        written = _written(model, data, rows, batch, sampling)
        protocol: dict[str, Any] = {
            "sentences": len(rows),
            "num_beams": num_beams,
            "longest_text": f"source + {LONGER} tokens, {_most(model, data)} at most",
        }
        if num_beams > 1:
            protocol["length_penalty"] = sampling.length_penalty
        figures, references = {}, [data.texts("validation", rows, 1)]
        for name, score in (("bleu", scores.BLEU()), ("chrf", scores.CHRF())):
            figures[name] = float(score.corpus_score(written, references).score)
            protocol[f"{name}_signature"] = str(score.get_signature())
        return Judgement(figures, protocol)

    return Judge(judging, lambda _: ("bleu", "chrf"))


def _written(
    model: Transformer,
    data: ExampleData,
    rows: np.ndarray,
    batch: Callable[[Mapping[str, np.ndarray], RowSpec], Batch],
    sampling: Sampling,
) -> list[str]:
    """What the model writes for the validation rows `rows` [n], in their order."""
    texts = [""] * len(rows)
    size, frame = data.config.batch_size, data.spec.frame
    # Sources of a length stand together: they need the same room, and texts end at about once.
    order = np.argsort(-np.minimum(data.lengths("validation", 0)[rows], data.config.length))
    for start in range(0, len(rows), size):
        group = order[start : start + size]
        filled = np.pad(group, (0, size - len(group)), mode="edge")
        made = batch(data.read_rows("validation", rows[filled]), data.spec)
        width = room(int(made["attention_mask"].sum(axis=1).max()), data.config.length)
        tokens = generate(
            model,
            jnp.asarray(made["inputs"][:, :width]),
            jnp.asarray(made["attention_mask"][:, :width]),
            max_new_tokens=min(width + LONGER, _most(model, data)),
            eos_id=frame[1][:1],
            sampling=sampling,
        )
        for place, row in zip(group, np.asarray(tokens)[:, 1:], strict=False):
            texts[place] = _text(data, frame, row)
    return texts


def room(size: int, most: int) -> int:
    """Tokens that texts of `size` and less are padded to, `most` or less."""
    return min(max(SHORTEST, 1 << (size - 1).bit_length()), most)


def _most(model: Transformer, data: ExampleData) -> int:
    """Tokens of the longest text: what targets are cut to, and what the model has positions for
    behind its start token."""
    return min(data.spec.target_length, model.config.sizes().max_length - 1)


def _text(data: ExampleData, frame: Frame, tokens: np.ndarray) -> str:
    """The text of tokens [n] up to the one that ends it, without special ones."""
    ends = np.flatnonzero(np.isin(tokens, frame[1][:1]))
    kept = tokens[: ends[0]] if len(ends) else tokens
    return data.tokenizer.decode(kept[~np.isin(kept, data.spec.vocabulary.special)])
