"""A byte-level language model of the Python standard library's source, in minutes on a CPU.

    python train.py --config configs/default.py --workdir runs/default

Post-norm, 6 layers, d_model 128: 480 steps of 16 x 256 bytes, about four minutes on 2 cores.
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/default",
        steps=480,
        model=ModelConfig(
            variant="post_norm", d_model=128, num_layers=6, num_heads=4, positions="rotary"
        ),
        data=DataConfig(batch_size=16, length=256),
        optim=OptimConfig(lr=2e-3, schedule="cosine", weight_decay=0.01),
    )
