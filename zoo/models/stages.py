"""What each stack of a model is, and the stages of a vision model: several stacks in a chain."""

from __future__ import annotations

import dataclasses
from typing import Any

from zoo.layers.shifted_windows import Windows
from zoo.models.config import ModelConfig
from zoo.variants.variant import SUBLAYERS

# A stage's patches: tokens of the one below along one side (Swin, 2103.14030, section 3.1).
_MERGED = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(ModelConfig):
    """The config of one stage, whose image is the grid of the stage below.

    Attributes:
        below, of: layers of the stages below, and of all.
        grid: its tokens, and the windows of an even layer.
        shift: of the windows of an odd one.
    """

    below: int
    of: int
    grid: Windows
    shift: int

    def depth(self, stack: str) -> int:
        return 0 if stack == "decoder" else self.num_layers

    def layers_below(self) -> int:
        return self.below

    def drop_rates(self, num_layers: int) -> tuple[float, ...]:
        top = max(self.of - 1, 1)
        return tuple(
            self.stochastic_depth * layer / top
            for layer in range(self.below, self.below + num_layers)
        )

    def of_layer(self, layer: int) -> Stage:
        if layer % 2 == 0 or not self.shift:
            return self
        moved = dataclasses.replace(self.grid, shift=self.shift)
        return dataclasses.replace(self, grid=moved)


def parts(config: ModelConfig) -> dict[str, ModelConfig]:
    """Name of each stack -> the config that it is made and run with, from the lowest stage up."""
    if config.stage_layers is None:
        return dict.fromkeys(SUBLAYERS[config.architecture], config)
    return {f"stage{number + 1}": stage for number, stage in enumerate(stages(config))}


def stages(config: ModelConfig) -> tuple[Stage, ...]:
    """The stages of a model that has some, from the lowest up.

    Width, heads and hidden width double from stage to stage; the norm on the embedding stands
    behind every merging of patches too, the final norm only on top.
    """
    depths, heads = config.stage_layers or (), config.heads_of_stages()
    trained = config.trained_windows()
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    closed: dict[str, Any] = {"window": None, "stage_layers": None, "stage_heads": None}
    closed |= {"stage_trained_windows": None, "max_length": None}
    made: list[Stage] = []
    image, channels, resolution = config.image_size, config.num_channels, config.resolution()
    for number, depth in enumerate(depths):
        width, patch = config.d_model * 2**number, _MERGED if number else config.patch_size
        side = -(-image // patch)
        # Transformers counts whole patches here, also where the grid has a part of one more.
        window = min(config.window or 1, resolution)
        changes = {
            "image_size": image,
            "patch_size": patch,
            "num_channels": channels,
            "d_model": width,
            "d_ff": config.sizes().d_ff * 2**number,
            "num_layers": depth,
            "num_heads": heads[number],
            "num_kv_heads": heads[number],
            "head_dim": width // heads[number],
            "final_norm": config.final_norm if number == len(depths) - 1 else False,
            "embedding_dropout": 0.0 if number else config.embedding_dropout,
        }
        made.append(
            Stage(
                **shared | closed | changes,
                below=sum(depths[:number]),
                of=sum(depths),
                grid=Windows(side, window, trained=trained[number]),
                shift=window // 2 if resolution > window else 0,
            )
        )
        image, channels, resolution = side, width, resolution // 2
    return tuple(made)
