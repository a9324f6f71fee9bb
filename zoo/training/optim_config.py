"""The settings of the optimizer, its schedule, and what it may not touch."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal

from zoo.errors import ConfigError
from zoo.settings import check_types

OptimizerName = Literal["adamw", "adafactor", "lion", "muon", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine", "inverse_sqrt", "wsd"]


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """How weights move. A field left None comes from the variant's recipe or a default."""

    name: OptimizerName = "adamw"
    """The update rule. Adafactor, lion and muon treat each layer of a stack by itself."""
    lr: float | None = None
    """Peak learning rate; the schedule multiplies it."""
    weight_decay: float | None = None
    """Decoupled decay: each step takes lr * weight_decay of a decayed weight away.
    Gains, biases and learned residual multipliers are never decayed."""
    decay_embeddings: bool = False
    """Decay embeddings too."""
    beta1: float | None = None
    """Decay of the first moment (adamw, lion, muon's Adam part) or momentum (sgd)."""
    beta2: float | None = None
    """Decay of the second moment (adamw, muon's Adam part) or of lion's momentum."""
    eps: float = 1e-8
    """Added to the denominator (adamw, muon)."""
    muon_beta: float = 0.95
    """Momentum of the orthogonalised matrices (muon)."""
    schedule: ScheduleName | None = None
    """Shape of the learning rate after warm-up; wsd is warmup-stable-decay."""
    warmup: int | None = None
    """Steps of linear warm-up."""
    decay_fraction: float = 0.2
    """Part of the run over which wsd decays, at its end."""
    final_lr_fraction: float = 0.1
    """Learning rate of the last step relative to the peak (linear, cosine, wsd)."""
    clip_norm: float | None = None
    """Largest global norm of the gradient; 0 switches a recipe's clipping off."""
    accumulate: int = 1
    """Micro-batches a step; the batch is split, not multiplied."""
    z_loss: float = 0.0
    """Weight of the squared log-normaliser of the logits."""
    label_smoothing: float = 0.0
    """Part of the target's probability that is spread over all classes (1512.00567)."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights; None keeps none."""
    freeze: tuple[str, ...] = ()
    """Weights that stay as they are: a role (emb), layers (layers:0-5) or both (w1@0-5)."""
    layer_lr_decay: float = 1.0
    """Layer l of N learns at lr * decay^(N-1-l), embeddings at lr * decay^N, head at lr."""

    def validate(self, steps: int | None = None) -> None:
        """Refuse values that cannot work; None passes, it is filled in later.

        Args:
            steps: length of the run, against which warm-up and decay are checked.

        Raises:
            ConfigError: naming the field, its value and what is accepted.
        """
        check_types(self, "optim.")
        self._check_numbers()
        for pattern in self.freeze:
            parse_freeze(pattern)
        if steps is not None:
            self._check_lengths(steps)

    def _check_numbers(self) -> None:
        def check(field: str, holds: bool, accepted: str) -> None:
            if not holds:
                raise ConfigError(f"optim.{field} = {getattr(self, field)}; it must be {accepted}")

        for field in ("lr", "eps", "layer_lr_decay"):
            value = getattr(self, field)
            check(field, value is None or 0 < value < math.inf, "positive and finite")
        for field in ("weight_decay", "z_loss", "clip_norm"):
            value = getattr(self, field)
            check(field, value is None or 0 <= value < math.inf, "0 or more, and finite")
        for field in ("beta1", "beta2", "muon_beta"):
            value = getattr(self, field)
            check(field, value is None or 0 <= value < 1, "in [0, 1)")
        for field in ("decay_fraction", "final_lr_fraction"):
            check(field, 0 <= getattr(self, field) <= 1, "in [0, 1]")
        check("ema", self.ema is None or 0 < self.ema < 1, "in (0, 1), or None for no average")
        check("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        check("layer_lr_decay", self.layer_lr_decay <= 1, "in (0, 1]")
        check("warmup", self.warmup is None or self.warmup >= 0, "0 or more steps")
        check("accumulate", self.accumulate >= 1, "1 micro-batch or more")

    def _check_lengths(self, steps: int) -> None:
        if steps < 1:
            raise ConfigError(f"steps = {steps}; a run has 1 step or more")
        if self.warmup is not None and self.warmup > steps:
            raise ConfigError(
                f"optim.warmup = {self.warmup} is longer than the run of steps = {steps}; "
                f"use {steps} or fewer"
            )
        decay = wsd_decay_steps(self, steps)
        if self.schedule == "wsd" and (self.warmup or 0) + decay > steps:
            raise ConfigError(
                f"optim.warmup = {self.warmup} and optim.decay_fraction = {self.decay_fraction} "
                f"({decay} steps) overlap in a run of steps = {steps}; "
                f"use a warmup of {steps - decay} or fewer"
            )


def optimizer_defaults(name: OptimizerName) -> dict[str, float]:
    """`lr`, `weight_decay`, `beta1` and `beta2` where neither user nor recipe says any.

    A beta that the optimizer does not read is absent. Lion's rate is 10 times smaller and
    its decay 10 times larger than AdamW's (Chen et al. 2023, section 5); Adafactor's rate
    is relative to the size of each weight (Shazeer and Stern 2018, section 8).
    """
    if name == "adamw" or name == "muon":
        return {"lr": 1e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95}
    if name == "lion":
        return {"lr": 1e-4, "weight_decay": 1.0, "beta1": 0.9, "beta2": 0.99}
    if name == "adafactor":
        return {"lr": 1e-2, "weight_decay": 0.0}
    return {"lr": 0.1, "weight_decay": 0.0, "beta1": 0.9}


def wsd_decay_steps(config: OptimConfig, steps: int) -> int:
    """Steps at the end of a run of `steps` over which wsd decays."""
    return round(config.decay_fraction * steps)


def parse_freeze(pattern: str) -> tuple[str | None, range | None]:
    """The (role or None for all, layers or None for all) of one freeze pattern.

    `emb` is a role, `layers:0-5` the layers 0 to 5 (both included), `w1@0-5` that role in
    those layers; one layer is written `layers:3` or `w1@3`.

    Raises:
        ConfigError: when the pattern has none of these forms.
    """
    match = re.fullmatch(
        r"(?:(?P<role>\w+)(?:@(?P<at>[\d-]+))?)|layers:(?P<layers>[\d-]+)", pattern
    )
    span = match and (match["at"] or match["layers"])
    bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", span) if span else None
    layers = range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1) if bounds else None
    if match is None or (span and not layers):
        raise ConfigError(
            f"optim.freeze has {pattern!r}; "
            "write a role (emb), layers (layers:0-5) or both (w1@0-5), first layer first"
        )
    return match["role"], layers
