"""What a task is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from zoo.data.base import Data, RowSpec
from zoo.data.config import DataConfig, RowKind
from zoo.data.preview import Show
from zoo.models.tower import Transformer

Batch = dict[str, Any]


class Loss(NamedTuple):
    """Sums over the real tokens of a batch, float32 scalars, to be divided once, at the end.

    Attributes:
        objective: what is differentiated: nats plus any auxiliary loss.
        nats: negative log-likelihood.
        tokens: real tokens, or examples where an example has one answer.
        hits: further sums by name, those of `Task.hits`.
    """

    objective: jax.Array
    nats: jax.Array
    tokens: jax.Array
    hits: dict[str, jax.Array] = {}  # noqa: RUF012 (a NamedTuple's default; nobody writes to it)


class Judgement(NamedTuple):
    """What a model's own outputs are worth on held-out rows.

    Attributes:
        figures: by name, without `eval_`.
        protocol: how they were made: what is needed to make them again.
    """

    figures: dict[str, float]
    protocol: dict[str, Any]


class Judging(Protocol):
    """Figures that are no sums over tokens, of the rows that `data.eval_rows` names."""

    def __call__(
        self, model: Transformer, data: Data, *, max_batches: int | None, num_beams: int
    ) -> Judgement: ...


@dataclasses.dataclass(frozen=True)
class Judge:
    """A way to judge, and what comes of it.

    Attributes:
        judging: of a model on the rows of some data.
        names: of its figures, without `eval_`, on rows of such a spec.
    """

    judging: Judging
    names: Callable[[RowSpec], tuple[str, ...]]

    def __call__(
        self, model: Transformer, data: Data, *, max_batches: int | None, num_beams: int
    ) -> Judgement:
        return self.judging(model, data, max_batches=max_batches, num_beams=num_beams)


class Metric(NamedTuple):
    """The figure that runs of a task are compared by.

    Attributes:
        name: of the figure, without `eval_`.
        lower_is_better: which way is up.
        unit: for people; empty for a share of 1.
    """

    name: str
    lower_is_better: bool
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of training.

    Attributes:
        name: in `zoo list tasks`.
        summary: one line.
        batch: rows of the data room to the arrays of a step; the leading axis of each is
            the batch.
        inputs: the arguments that the model is called with, from such a batch.
        loss: `loss(model, batch, *, z_loss, dropout_key, step, label_smoothing) -> Loss`; a
            step of None is the end of any schedule.
        metrics: `metrics(nats a token, bytes a token or None, **hits a token) -> figures`.
        metric: the one of its figures that runs are compared by.
        show: a training row, as a batch of one, in lines of text; `zoo.data.preview.Show`.
        models: (architecture, head) of those that can learn it, the usual one first.
        rows: what the data room reads for it.
        needs: special tokens, of `zoo.data.tokenizers.SPECIAL`.
        framed: whether its texts may have a tokenizer's special tokens around them
            (`data.framing`).
        token_types: kinds of token that its batches tell apart.
        hits: sums that its loss gives beside nats, all of them at most one a token.
        continues_text: whether a finished run can go on from a prompt.
        judge: figures of the model's own outputs, for the end of a run and afterwards; None:
            `metrics` gives them all.
    """

    name: str
    summary: str
    batch: Callable[[Mapping[str, np.ndarray], RowSpec], Batch]
    inputs: Callable[[Batch], dict[str, Any]]
    loss: Callable[..., Loss]
    metrics: Callable[..., dict[str, float]]
    metric: Metric
    show: Show
    models: tuple[tuple[str, str], ...]
    rows: RowKind = "text"
    needs: tuple[str, ...] = ()
    framed: bool = False
    token_types: int = 1
    hits: tuple[str, ...] = ()
    continues_text: bool = False
    judge: Judge | None = None

    def special(self, data: DataConfig) -> tuple[str, ...]:
        """The special tokens that its rows of `data` need: two texts have one between them."""
        parted = data.text_pair_column is not None and data.framing == "own"
        return (*self.needs, "separator") if parted else self.needs

    @property
    def searches(self) -> bool:
        """Whether its judge writes texts, with a search of `num_beams`."""
        return self.judge is not None and self.rows == "pairs"
