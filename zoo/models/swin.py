"""Image classifiers in stages, each a stack on patches of the one below (Swin Transformer V2,
2111.09883)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.layers.attention import Scope
from zoo.layers.linear import fold
from zoo.models.config import ModelConfig
from zoo.models.heads import Classifier
from zoo.models.stack import Measure, Taps, owned
from zoo.models.stages import Stage, parts
from zoo.models.tower import Tower
from zoo.models.vision import ImageModel, PatchEmbedding
from zoo.variants.placement import Placement, StackPlacement


class StageTower(Tower):
    """One stage: patches of the image or of the grid below, and a stack on them."""

    def __init__(self, stage: Stage, placement: StackPlacement, *, name: str) -> None:
        # The matrix that merges patches has no bias: a norm follows it (2103.14030, section 3.1).
        embedding = PatchEmbedding(stage, bias=stage.below == 0)
        self.embedding = owned(embedding, stack=name, below=stage.below)
        super().__init__(stage, placement, name=name)

    def __call__(
        self,
        image: jax.Array,
        *,
        config: Stage,
        placement: StackPlacement,
        step: jax.Array | None,
        dropout_key: jax.Array | None,
        taps: Measure | None,
    ) -> tuple[jax.Array, Taps]:
        """[batch, side, side, channels] to ([batch, tokens, d_model], taps)."""
        return self.run(
            self.embedding(image),
            Scope(causal=False),
            config=config,
            placement=placement,
            step=step,
            dropout_key=dropout_key,
            taps=taps,
        )


class StagedVisionModel(ImageModel):
    """A chain of stages and a classifier on the mean of the last one's tokens.

    To a placement every stage is a stack of its own: a stream begins where patches are merged, and
    a law that counts layers counts those of the stage.
    """

    def __init__(self, config: ModelConfig, placement: Placement) -> None:
        self.config, self.placement = config, placement
        towers = []
        for name, stage in parts(config).items():
            assert isinstance(stage, Stage)
            towers.append(StageTower(stage, placement.stack(name), name=name))
        self.stages = nnx.List(towers)
        if config.head == "image_classification":
            head = Classifier(config, config.sizes().num_labels)
            self.head = owned(head, stack=placement.stacks[-1][0])

    def measure(
        self,
        pixel_values: jax.Array,
        step: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
        *,
        taps: Measure | None = "figures",
    ) -> tuple[jax.Array, dict[str, Taps]]:
        """(hidden [batch, tokens, width] of the last stage, taps by stage).

        Arguments are those of a call; taps of attention are by window, [layers, batch x windows,
        heads, tokens, tokens].
        """
        self.check_images(pixel_values)
        image, measured = pixel_values, {}
        for number, (name, stage) in enumerate(parts(self.config).items()):
            assert isinstance(stage, Stage)
            hidden, measured[name] = self.stages[number](
                image,
                config=stage,
                placement=self.placement.stack(name),
                step=step,
                dropout_key=fold(dropout_key, number),
                taps=taps,
            )
            side = stage.grid.side
            image = hidden.reshape(len(hidden), side, side, -1)
        return hidden, measured

    def pooled(self, hidden: jax.Array) -> jax.Array:
        """[batch, tokens, width] to [batch, width], the mean."""
        return jnp.mean(hidden, axis=1)
