"""A hundred layers of DeepNorm on the standard library's source, in about two minutes on 2 cores.

    python train.py --config configs/deep.py --workdir runs/deep
    python train.py --config configs/deep.py --workdir runs/deep-post --model.variant post_norm

Post-norm stays at the frequencies of single bytes, about 4.7 bits a byte; see the table in README.
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/deep",
        steps=200,
        model=ModelConfig(variant="deep_norm", d_model=64, num_layers=100, num_heads=4),
        data=DataConfig(batch_size=4, length=128),
        optim=OptimConfig(lr=3e-3, schedule="cosine", weight_decay=0.01),
    )
