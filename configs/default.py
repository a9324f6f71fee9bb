"""A byte-level language model of the Python standard library's source, in a few minutes on a CPU.

    python train.py --config configs/default.py --workdir runs/default

DeepNorm, 6 layers, d_model 128: about 2 bits a byte on held-out files.
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/default",
        steps=600,
        model=ModelConfig(variant="deep_norm", d_model=128, num_layers=6, num_heads=4),
        data=DataConfig(batch_size=16, length=256),
        optim=OptimConfig(lr=2e-3, schedule="cosine", weight_decay=0.01),
    )
