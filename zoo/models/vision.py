"""Image classifiers: an encoder over patches (ViT, 2010.11929)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import ConfigError
from zoo.layers import weight
from zoo.layers.attention import Scope
from zoo.layers.linear import Linear
from zoo.layers.positions import sinusoidal
from zoo.models.config import ModelConfig
from zoo.models.heads import Classifier, Pooler
from zoo.models.stack import Measure, Taps, owned
from zoo.models.tower import Tower, Transformer, counted
from zoo.variants.placement import Placement


class PatchEmbedding(nnx.Module):
    """A linear layer on every patch, tokens before them as the config says, positions."""

    def __init__(self, config: ModelConfig, *, bias: bool = True) -> None:
        width, side = config.d_model, config.patch_size
        self.patch_size = side
        self.positions = config.positions
        self.patches = Linear(
            side * side * config.num_channels,
            width,
            role="patch",
            axes=("patch", "embed"),
            bias=bias,
        )
        if config.pooling != "mean":
            self.class_token = _token(width)
        if config.distillation_token:
            self.distillation_token = _token(width)
        if config.positions == "learned":
            length = config.sizes().max_length
            self.table = weight.matrix("pos", length, width, ("length", "embed"), kind="embedding")

    def __call__(self, pixel_values: jax.Array) -> jax.Array:
        """[batch, height, width, channels] to [batch, tokens + patches, d_model] float32.

        Patches run row by row, and the pixels of a patch likewise, channels last. Zeros fill those
        that stand out below and on the right.
        """
        side = self.patch_size
        below, right = (-length % side for length in pixel_values.shape[1:3])
        if below or right:
            pixel_values = jnp.pad(pixel_values, ((0, 0), (0, below), (0, right), (0, 0)))
        batch, height, width, channels = pixel_values.shape
        grid = pixel_values.reshape(batch, height // side, side, width // side, side, channels)
        flat = grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, side * side * channels)
        x = self.patches(flat.astype(jnp.float32))
        for name in ("distillation_token", "class_token"):
            if hasattr(self, name):
                first = jnp.broadcast_to(getattr(self, name)[...], (batch, 1, x.shape[-1]))
                x = jnp.concatenate([first, x], axis=1)
        if self.positions == "learned":
            x = x + self.table[...]
        elif self.positions.startswith("sinusoidal"):
            x = x + sinusoidal(counted(x.shape[1]), x.shape[-1], self.positions)
        return x


def _token(width: int) -> nnx.Param[jax.Array]:
    """A vector of its own that stands before the patches."""
    return weight.matrix("emb", 1, width, ("class_token", "embed"), kind="embedding")


class ImageModel(Transformer):
    """What is called on images: `measure` encodes them, `pooled` is what a classifier reads."""

    head: Classifier

    def __call__(
        self,
        pixel_values: jax.Array,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """[batch, height, width, channels] images to [batch, labels] float32 logits.

        Args:
            step: training step for scheduled multipliers; None: the end of the schedule.
            dropout_key: turns dropout on.

        Raises:
            ConfigError: on images of another shape than the model's.
        """
        return self.logits(self.hidden(pixel_values, step, dropout_key))

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[batch, tokens, width] to [batch, labels]; without a head, `hidden`."""
        if self.config.head != "image_classification":
            return hidden
        return self.head(self.pooled(hidden))

    def pooled(self, hidden: jax.Array) -> jax.Array:
        """One vector for each image, [batch, `head_width`]."""
        raise NotImplementedError

    def check_images(self, pixel_values: jax.Array) -> None:
        """Raise ConfigError on images of another shape than the model's."""
        config = self.config
        wanted = (config.image_size, config.image_size, config.num_channels)
        if pixel_values.shape[1:] != wanted:
            raise ConfigError(
                f"pixel_values are {pixel_values.shape}; this model takes [batch, "
                f"{', '.join(map(str, wanted))}], channels last"
            )


class VisionModel(ImageModel, Tower):
    """A vision encoder and its classifier."""

    def __init__(self, config: ModelConfig, placement: Placement) -> None:
        self.config, self.placement = config, placement
        ((name, stack),) = placement.stacks
        self.embedding = owned(PatchEmbedding(config), stack=name)
        Tower.__init__(self, config, stack, name=name)
        if config.pooler:
            self.pooler = owned(Pooler(config.d_model, config.pooler), stack=name)
        if config.head == "image_classification":
            self.head = owned(Classifier(config, config.sizes().num_labels), stack=name)

    def measure(
        self,
        pixel_values: jax.Array,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        *,
        taps: Measure | None = "figures",
    ) -> tuple[jax.Array, dict[str, Taps]]:
        """(hidden [batch, tokens + patches, d_model], taps by stack); arguments as for a call."""
        self.check_images(pixel_values)
        hidden, measured = self.run(
            self.embedding(pixel_values),
            Scope(causal=False),
            config=self.config,
            placement=self.placement.stack(self.stack.name),
            step=step,
            dropout_key=dropout_key,
            taps=taps,
        )
        return hidden, {self.stack.name: measured}

    def pooled(self, hidden: jax.Array) -> jax.Array:
        """One vector for each image, [batch, `head_width`], as `pooling` says."""
        if self.config.pooling == "mean":
            return jnp.mean(hidden, axis=1)
        if self.config.pooling == "first_and_mean":
            patches = hidden[:, self.config.leading_tokens() :]
            return jnp.concatenate([hidden[:, 0], jnp.mean(patches, axis=1)], axis=-1)
        return self.pooler(hidden[:, 0]) if self.config.pooler else hidden[:, 0]
