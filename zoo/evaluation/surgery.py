"""A model put under another placement, and how far its function moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.diagnosis.features import features
from zoo.errors import ConfigError
from zoo.evaluation.sides import Array
from zoo.evaluation.verify import DRAWN, divergence, seen_rows
from zoo.models.surgery import transplanted
from zoo.models.tower import Transformer
from zoo.tables import pairs, table
from zoo.variants.variant import Variant

# Changes of the output below this, against its largest value, are those of rounding.
_ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class Surgery:
    """What `change_variant` made; `print` it, or take `to_json()`.

    Attributes:
        model: under the new placement.
        before, after: the placements, as variants are written.
        folded: what was folded into which weights, with the layers.
        moved: norms that got another one's gain and shift.
        new: weights that the old model had not, as the variant starts them.
        dropped: weights that the new model has no place for.
        max_change, mean_change: of the output on the batch, absolute, at real tokens.
        largest: absolute value of the old output.
        kl: nats a token (or text, or image) from the old model's distribution to the new one's;
            None for outputs that are no logits.
        kl_per: what one distribution is for.
        layers: (layer, change of the stream behind it relative to its size, both as root mean
            squares). Where the new placement keeps another stream than the old one (one that is
            not normed, say) this is large whatever the output does.
    """

    model: Transformer
    before: str
    after: str
    folded: tuple[str, ...]
    moved: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    max_change: float
    mean_change: float
    largest: float
    kl: float | None
    kl_per: str | None
    layers: tuple[tuple[str, float], ...]

    @property
    def exact(self) -> bool:
        """Whether the output on the batch is the old one up to rounding."""
        return self.max_change <= _ROUNDING * max(1.0, self.largest)

    def to_json(self) -> dict[str, Any]:
        names = (field.name for field in dataclasses.fields(self) if field.name != "model")
        layers = [{"layer": name, "change": change} for name, change in self.layers]
        return {name: getattr(self, name) for name in names} | {
            "layers": layers,
            "exact": self.exact,
        }

    def __str__(self) -> str:
        shown: dict[str, Any] = {"surgery": f"{self.before} to {self.after}"}
        for name in ("folded", "moved", "new", "dropped"):
            shown[name] = "; ".join(getattr(self, name)) or "nothing"
        shown["max change"] = f"{self.max_change:.2e} (largest value {self.largest:.3g})"
        shown["mean change"] = f"{self.mean_change:.2e}"
        if self.kl is not None:
            shown["KL divergence"] = f"{self.kl:.2e} nats/{self.kl_per}"
        shown["verdict"] = (
            "the same function, up to rounding"
            if self.exact
            else "ANOTHER FUNCTION: train it before it is used"
        )
        rows = [(name, f"{change:.2e}") for name, change in self.layers]
        return f"{pairs(shown)}\n\n{table(rows, ('layer', 'change of the stream'))}"


def change_variant(
    model: Transformer,
    variant: str | Variant,
    *,
    batch: Any = None,
    fold_gains: bool = False,
    seed: int = 0,
) -> Surgery:
    """Put a model's weights under another placement, and measure how far its function moved.

    What can be made up for exactly is: multipliers are folded into the last matrix of F or set in
    learned ones, so that post-norm becomes `deep_norm` with the same outputs; norms go where what
    they feed has gone. The rest of a change is another function, whose distance is measured and
    which has to be trained.

    Args:
        batch: what the model is called with, by name, or the first of it alone, such as [batch,
            length] int32 tokens; default: drawn inputs.
        fold_gains: put the gain and shift of each norm before F into the matrices that read it.
        seed: of weights that are drawn, and of the default batch.

    Raises:
        VariantError: on another kind of stream than the model's: its weights mean nothing there.
        ConfigError: when the model's settings do not go with the variant.
    """
    after, ledger = transplanted(model, variant, fold_gains=fold_gains, seed=seed)
    given = batch if isinstance(batch, Mapping) else _inputs(model, batch, seed)
    inputs = {name: jnp.asarray(value) for name, value in given.items() if value is not None}
    old, was = _run(model, inputs)
    new, now = _run(after, inputs)
    mask = inputs.get("decoder_attention_mask", inputs.get("attention_mask"))
    first, second = (
        seen_rows(each, None if mask is None else np.asarray(mask)) for each in (old, new)
    )
    error = np.abs(second.astype(np.float64) - first)
    per = DRAWN.get(model.config.head or "none")
    return Surgery(
        model=after,
        before=model.placement.variant,
        after=after.placement.variant,
        **{name: ledger.lines(name) for name in ("folded", "moved", "new", "dropped")},
        max_change=float(error.max()),
        mean_change=float(error.mean()),
        largest=float(np.abs(first).max()),
        kl=None if per is None else divergence(first, second),
        kl_per=per,
        layers=_layers(was, now, inputs),
    )


def _inputs(model: Transformer, batch: Any, seed: int) -> dict[str, Any]:
    config, draw = model.config, np.random.default_rng(seed)
    if config.architecture == "vision":
        side = config.image_size
        images = draw.normal(size=(2, side, side, config.num_channels))
        return {"pixel_values": images if batch is None else batch}
    sizes = config.sizes()
    shape = (2, min(32, sizes.max_length))
    tokens = draw.integers(sizes.vocab_size, size=shape).astype(np.int32)
    given = {"input_ids": tokens if batch is None else batch}
    if config.architecture != "encoder_decoder":
        return given
    if batch is not None:
        raise ConfigError("batch: an encoder-decoder takes two texts; give them by name")
    return given | {"decoder_input_ids": tokens[::-1]}


def _run(model: Transformer, inputs: dict[str, jax.Array]) -> tuple[Array, dict[str, Array]]:
    """(the output, the stream behind each sublayer by stack)."""
    both = nnx.jit(lambda model, given: (model(**given), features(model, **given)))
    output, found = both(model, inputs)
    names = [name for name, _ in model.placement.stacks]
    stacks = (
        {name: found[name]["stream"] for name in names}
        if len(names) > 1
        else {names[0]: found["stream"]}
    )
    return np.asarray(output, np.float32), {
        name: np.asarray(stream, np.float64) for name, stream in stacks.items()
    }


def _layers(
    old: dict[str, Array], new: dict[str, Array], inputs: dict[str, jax.Array]
) -> tuple[tuple[str, float], ...]:
    found = []
    for name, before in old.items():
        prefix = "decoder_" if name == "decoder" and "decoder_input_ids" in inputs else ""
        mask = inputs.get(f"{prefix}attention_mask")
        seen = None if mask is None else np.asarray(mask)
        for layer, (was, now) in enumerate(zip(before[:, -1], new[name][:, -1], strict=True)):
            one, two = seen_rows(was, seen), seen_rows(now, seen)
            change = np.sqrt(np.mean((two - one) ** 2) / max(float(np.mean(one**2)), 1e-30))
            found.append((f"{layer + 1} of {len(before)} ({name})", float(change)))
    return tuple(found)
