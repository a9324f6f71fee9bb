"""What a diagnosis found, as data, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.tables import table


@dataclasses.dataclass(frozen=True)
class SublayerFigures:
    """One sublayer.

    Attributes:
        stack, layer, sublayer: where; layers count from 0.
        stream_rms: root mean square of the stream after it.
        branch_rms: of the branch as it is added, its norm and multiplier applied.
        branch_skip_ratio: of that to the skip it is added to.
        finite: whether the stream after it is finite.
        grad_norm: Euclidean norm of the gradient of all its weights.
        update_ratio: |step| / |weights| of its matrices in one optimizer step.
        attention_entropy: mean entropy of the attention weights in nats; None for the MLP.
    """

    stack: str
    layer: int
    sublayer: str
    stream_rms: float
    branch_rms: float
    branch_skip_ratio: float
    finite: bool
    grad_norm: float
    update_ratio: float
    attention_entropy: float | None = None


@dataclasses.dataclass(frozen=True)
class WeightFigures:
    """The weights of one role at one place, as if they were one vector.

    Attributes:
        stack, layer, sublayer: where; None outside the stacks, or the layers.
        role, kind: as declared, see `zoo.layers.weight.Weight`.
        norm, grad_norm, update_norm: Euclidean norms of the weights, of their gradient before
            clipping, and of one optimizer step.
    """

    stack: str | None
    layer: int | None
    sublayer: str | None
    role: str
    kind: str
    norm: float
    grad_norm: float
    update_norm: float

    @property
    def update_ratio(self) -> float:
        """|step| / |weights|, the effective learning rate; infinite where all weights are 0."""
        return ratio(self.update_norm, self.norm)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Figures of one model on one batch, or on several taken together.

    Attributes:
        variant, task: by name.
        loss: nats a token, or an example where an example has one answer.
        tokens: how many of those.
        grad_norm: of the gradient of the mean objective, before clipping.
        learning_rate: of the step whose updates are shown.
        sublayers: in the order in which the stream meets them.
        weights: of every role at every place.
    """

    variant: str
    task: str
    loss: float
    tokens: int
    grad_norm: float
    learning_rate: float
    sublayers: tuple[SublayerFigures, ...]
    weights: tuple[WeightFigures, ...]

    def table(self) -> str:
        """One row a sublayer, then the weights outside the layers."""
        return "\n".join(self._lines())

    def __str__(self) -> str:
        return self.table()

    def to_json(self) -> dict[str, Any]:
        """Nested dicts and lists, `update_ratio` of the weights included."""
        weights = [
            dataclasses.asdict(each) | {"update_ratio": each.update_ratio} for each in self.weights
        ]
        return dataclasses.asdict(self) | {"weights": weights}

    def plot(self, path: Path | str) -> Path:
        """Draw the figures over the depth of each stack; the suffix gives the kind of file."""
        from zoo.diagnosis.plot import plot_diagnosis

        return plot_diagnosis(self, path)

    def of(
        self,
        *,
        role: str | None = None,
        kind: str | None = None,
        stack: str | None = None,
        layer: int | None = None,
        sublayer: str | None = None,
    ) -> list[WeightFigures]:
        """The weights that fit everything that is asked, in order."""
        asked = {"role": role, "kind": kind, "stack": stack, "layer": layer, "sublayer": sublayer}
        wanted = {name: value for name, value in asked.items() if value is not None}
        return [
            each
            for each in self.weights
            if all(getattr(each, name) == value for name, value in wanted.items())
        ]

    def _lines(self) -> Iterator[str]:
        yield (
            f"{self.variant}, {self.task}: loss {self.loss:.4g} over {self.tokens:,} targets, "
            f"gradient norm {self.grad_norm:.3g}, learning rate {self.learning_rate:.3g}"
        )
        yield ""
        names = ("stream_rms", "branch_rms", "branch_skip_ratio", "grad_norm", "update_ratio")
        header = ["stack", "layer", "sublayer", "stream", "branch", "branch/skip", "gradient"]
        header += ["update/weight", "entropy"]
        rows = [
            [
                *(each.stack, each.layer, each.sublayer),
                *(shown(getattr(each, name)) for name in names),
                shown(each.attention_entropy),
            ]
            for each in self.sublayers
        ]
        yield table(rows, header)
        outside = [each for each in self.weights if each.layer is None]
        if outside:
            yield ""
            yield table(
                [
                    [
                        *(each.stack or "-", each.role, each.kind),
                        *map(shown, (each.norm, each.grad_norm, each.update_ratio)),
                    ]
                    for each in outside
                ],
                ["stack", "weight", "kind", "norm", "gradient", "update/weight"],
            )
        yield ""
        yield "stream, branch: root mean square; gradient: norm over the weights;"
        yield "update/weight: norm of one step over that of the matrices"


def ratio(part: float, whole: float) -> float:
    """part / whole; infinite, or 0 where both are 0, instead of an error."""
    if whole == 0.0:
        return math.inf if part > 0.0 else 0.0
    return part / whole


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
