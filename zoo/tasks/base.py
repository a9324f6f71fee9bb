"""What a task is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Batch = dict[str, Any]


class Loss(NamedTuple):
    """Sums over the real tokens of a batch, float32 scalars, to be divided once, at the end.

    Attributes:
        objective: what is differentiated: nats plus any auxiliary loss.
        nats: negative log-likelihood.
        tokens: real tokens.
    """

    objective: jax.Array
    nats: jax.Array
    tokens: jax.Array


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of training.

    Attributes:
        name: in `zoo list tasks`.
        summary: one line.
        batch: rows of the data room to the arrays of a step; the leading axis of each is
            the batch.
        loss: `loss(model, batch, z_loss=, dropout_key=) -> Loss`.
        metrics: `metrics(nats a token, bytes a token) -> figures`.
    """

    name: str
    summary: str
    batch: Callable[[Mapping[str, np.ndarray], bool], Batch]
    loss: Callable[..., Loss]
    metrics: Callable[[float, float], dict[str, float]]
